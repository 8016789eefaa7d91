"""Runs on disk: all of some results folders, and those that a user means by a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, nearest
from bench.scores.naming import is_called, labels, names, weights_place
from bench.scores.records import Record, read_record
from bench.scores.summary import summarise

RECORD_NAME = "record.json"


@dataclass(frozen=True)
class StoredRun:
    """A record and the folder it lies in."""

    record: Record
    folder: Path

    @property
    def measurement(self) -> dict[str, Any]:
        """What must be equal for two runs to be compared, by the names that a user knows."""
        record = self.record
        return {
            "task": record.task,
            "metric": record.scores[0].metric,
            "protocol": record.protocol,
            "class names": tuple(record.class_names),
            "test samples (ids, labels or contents; test_list)": record.digests.get("test_list", ""),
            "training samples (ids, labels or contents; train_list)": record.digests.get("train_list", ""),
        }

    @property
    def place(self) -> str:
        """Path of the weights as it was given, without its suffix; empty for weights that are no file."""
        return weights_place(self.record)

    def is_called(self, name: str) -> bool:
        """Whether a name means this run's model, alone or with folders of its weights: `e100`, `runA/e100`."""
        return is_called(self.record.model, self.place, name)

    @property
    def encoder(self) -> tuple[str, str, str]:
        """Name, weights and input: what the row of a leaderboard is."""
        return self.record.model, self.record.digests.get("encoder", ""), self.record.input


def load_runs(folders: Iterable[Path]) -> tuple[list[StoredRun], list[BenchError]]:
    """Every run under the results folders, oldest first, and the errors of those that could not be read.

    Raises BenchError where a folder is missing, there is no record at all, or two different runs have one id.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    runs: dict[str, StoredRun] = {}
    problems: list[BenchError] = []
    for folder in unique:
        if not folder.is_dir():
            raise BenchError("no such folder", where=str(folder), fix="`bench run` writes records to its --results")
        for path in sorted(folder.glob(f"[!.]*/{RECORD_NAME}")):
            try:
                run = _open(path)
            except BenchError as error:
                problems.append(error)
                continue
            known = runs.setdefault(run.record.run_id, run)
            if known.record != run.record:
                raise BenchError(
                    f"two runs are called {run.record.run_id}", where=f"{known.folder} and {run.folder}", fix="move one"
                )
    if not runs and not problems:
        raise BenchError("no records yet", where=", ".join(map(str, unique)), fix="`bench run` writes one")
    return sorted(runs.values(), key=lambda run: (run.record.moment, run.record.run_id)), problems


def open_run(name: str) -> StoredRun | None:
    """The run in the folder, or of the record file, `name`; None where it is neither."""
    path = Path(name).expanduser()
    path = path / RECORD_NAME if path.is_dir() else path
    return _open(path) if path.name == RECORD_NAME and path.is_file() else None


def called(name: str, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs that `name` stands for: a run id, a model, or the name of its row on the leaderboard; also with @task.

    Raises BenchError where there is none, and where they are of several weights whose files have folders of their own.
    """
    model, _, task = name.rpartition("@")
    shown = row_labels(runs)
    of_task = [run for run in runs if run.record.task == task]
    found = (
        [run for run in runs if run.record.run_id == name]
        or [run for run in runs if shown[run.record.run_id] == name]
        or [run for run in of_task if shown[run.record.run_id] == model]
        or [run for run in runs if run.is_called(name)]
        or [run for run in of_task if run.is_called(model)]
    )
    told_apart = sorted(set(place_names(found).values()))
    if len(told_apart) > 1:
        what = f"'{name}' has {len(told_apart)} weights of one name"
        raise BenchError(what, fix=f"say {' or '.join(told_apart[:6])}, alone or with @task")
    if not found:
        tasks = {run.record.task for run in runs if run.is_called(model)}
        known = {f"{model}@{task}" for task in tasks} or set(shown.values())
        what = f"no run is called '{name}', and no folder with a {RECORD_NAME} is there"
        raise BenchError(what, fix=f"a run id, its folder, a model or model@task; {nearest(name, known)}")
    return found


def row_labels(runs: Iterable[StoredRun]) -> dict[str, str]:
    """Of each run, by its id: the name of its row on a leaderboard of these runs."""
    summaries = [summarise(run.record) for run in runs]
    called = labels(summaries)
    return {one.run_id: called[one.model, one.digests.get("encoder", ""), one.input] for one in summaries}


def place_names(runs: Iterable[StoredRun]) -> dict[str, str]:
    """Of each run, by its id: its model, with folders of the weights where others of these runs have the same model."""
    runs = list(runs)
    found = names((run.record.model, run.record.digests.get("encoder", ""), run.place) for run in runs)
    return {run.record.run_id: found[run.record.model, run.record.digests.get("encoder", "")] for run in runs}


def newest_by_seed(runs: Sequence[StoredRun]) -> dict[int, StoredRun]:
    """The newest run of each seed, of the newest run's encoder: other weights or inputs under its name stay out."""
    ordered = sorted(runs, key=lambda run: (run.record.moment, run.record.run_id))
    encoder = ordered[-1].encoder
    return {run.record.seed: run for run in ordered if run.encoder == encoder}


def _open(path: Path) -> StoredRun:
    record = read_record(path)
    if not record.scores:
        raise BenchError("the record holds no score", where=str(path), fix="run again")
    return StoredRun(record, path.parent)
