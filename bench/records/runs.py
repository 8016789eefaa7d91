"""Reads runs from disk: all of some results folders whose records are sound, and those that a user names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError, nearest
from bench.records.index import RECORD_NAME, read_run, read_runs
from bench.records.schema import Record, read_record
from bench.records.summary import (
    Summary,
    is_called,
    labels,
    names,
    of_other_seeds,
    probe_seeds,
    summarise,
    weights_place,
)


@dataclass(frozen=True)
class StoredRun:
    """A record and the folder it lies in."""

    record: Record
    folder: Path
    """Where the record lies, and its predictions; they are read when they are needed."""
    doubts: tuple[str, ...] = ()
    """What is said of the record, beside its scores, and does not fit; or why its scores could not be made anew."""

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


def load_summaries(folders: Iterable[Path]) -> tuple[list[Summary], list[BenchError]]:
    """Every record under the results folders that is believed, shortened, and why the others are left out.

    Copies of one record count once; where different records have one run id, the first is kept. Raises BenchError
    where a folder is missing or there is no record at all.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    for folder in unique:
        if not folder.is_dir():
            raise BenchError("no such folder", where=str(folder), fix="`bench run` writes records to its --results")
    found = read_runs(unique)
    if not found:
        raise BenchError("no records yet", where=", ".join(map(str, unique)), fix="`bench run` writes one")
    summaries, clashes = one_of_each_id([entry for entry in found if isinstance(entry, Summary)])
    return summaries, [entry for entry in found if isinstance(entry, BenchError)] + clashes


def load_runs(folders: Iterable[Path]) -> tuple[list[StoredRun], list[BenchError]]:
    """The runs of `load_summaries` in full, oldest first. Raises what that raises."""
    summaries, problems = load_summaries(folders)
    return in_full(sorted(summaries, key=lambda one: (one.moment, one.run_id)), problems), problems


def in_full(summaries: Iterable[Summary], problems: list[BenchError]) -> list[StoredRun]:
    """The runs of these summaries; why one cannot be read any more is added to `problems`."""
    runs = []
    for summary in summaries:
        try:
            runs.append(_in_full(summary))
        except BenchError as error:
            problems.append(error)
    return runs


def open_run(name: str) -> StoredRun | None:
    """The run in the folder, or of the record file, `name`; None where it is neither.

    Raises BenchError where the record is not believed.
    """
    path = Path(name).expanduser()
    path = path / RECORD_NAME if path.is_dir() else path
    if path.name != RECORD_NAME or not path.is_file():
        return None
    found = read_run(path)
    if isinstance(found, BenchError):
        raise found
    return _in_full(found)


def called(name: str, runs: Sequence[StoredRun], problems: Sequence[BenchError] = ()) -> list[StoredRun]:
    """The runs that `name` stands for: a run id, a model, or the name of its row on the leaderboard; also with @task.

    Raises BenchError where there is none, with the first of `problems`, why other records were left out, and where they
    are of several weights whose files have folders of their own.
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
        what += f" ({len(problems)} left out, the first: {problems[0]})" if problems else ""
        raise BenchError(what, fix=f"a run id, its folder, a model or model@task; {nearest(name, known)}")
    return found


def row_labels(runs: Iterable[StoredRun]) -> dict[str, str]:
    """Map each run's id to the name of its row on a leaderboard of these runs."""
    summaries = [summarise(run.record) for run in runs]
    called = labels(summaries)
    return {one.run_id: called[one.model, one.digests.get("encoder", ""), one.input] for one in summaries}


def place_names(runs: Iterable[StoredRun]) -> dict[str, str]:
    """Map each run's id to its model, with folders of the weights where others of these runs have the same model."""
    runs = list(runs)
    found = names((run.record.model, run.record.digests.get("encoder", ""), run.place) for run in runs)
    return {run.record.run_id: found[run.record.model, run.record.digests.get("encoder", "")] for run in runs}


def pooled(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs whose probe seeds together are the seeds of one model, in order of the seeds.

    They are of the newest run's encoder (other weights or inputs under its name stay out), the newest of each `--seed`.
    """
    ordered = sorted(runs, key=lambda run: (run.record.moment, run.record.run_id))
    newest = {run.record.seed: run for run in ordered if run.encoder == ordered[-1].encoder}
    return of_other_seeds(list(newest.values()), lambda run: probe_seeds(run.record))


def _in_full(summary: Summary) -> StoredRun:
    if summary.path is None:
        raise ValueError(f"{summary.run_id} is on no disk")
    record = read_record(summary.path)
    if summarise(record) != summary.content:
        raise BenchError("it has just been changed", where=summary.where, fix="give the same command again")
    return StoredRun(record, summary.path.parent, summary.doubts)


def one_of_each_id(records: Sequence[Summary]) -> tuple[list[Summary], list[BenchError]]:
    """The records, copies of one counted once; and an error for each that has the run id of another record."""
    first: dict[str, Summary] = {}
    clashes = []
    for record in records:
        kept = first.setdefault(record.run_id, record)
        if not kept.same_record(record):
            clashes.append(
                BenchError(
                    f"another record than {kept.where}, but both have the run id {record.run_id}",
                    where=record.where,
                    fix="move one of them away",
                )
            )
    return list(first.values()), clashes
