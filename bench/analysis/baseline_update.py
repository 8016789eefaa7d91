"""A baseline written anew from the newest runs, and what that changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BenchError
from bench.records.baseline import BaselineRow, left_out, make_row, read_baseline, why_not_held, write_baseline
from bench.records.conditions import shared_note, shared_videos
from bench.records.recomputed import read_sorted
from bench.records.runs import StoredRun, place_names

Key = tuple[str, str, str, str, int]
"""Task, model, protocol, metric and seed of a row."""


@dataclass(frozen=True)
class Change:
    """What became of one row; scores are 0 to 100, None where there is none."""

    task: str
    model: str
    protocol: str
    metric: str
    seed: int
    then: float | None
    now: float | None

    @property
    def what(self) -> str:
        """added, removed or renewed."""
        return "added" if self.then is None else "removed" if self.now is None else "renewed"


def renew(path: Path, runs: Sequence[StoredRun]) -> list[Change]:
    """Write the baseline at `path`: a row for each score of the newest run of each task, model, protocol and seed, and
    no others; none for runs that no baseline can hold (`why_not_held`).

    Returns the changes against the baseline that was there. Raises BenchError where there is no run, predictions are
    missing, or another kind of file is at `path`.
    """
    old = {_key(row): row for row in read_baseline(path).rows} if path.exists() else {}
    newest = {key: of_key[-1] for key, of_key in _by_key(runs).items()}
    answers = {run.record.run_id: read_sorted(run.folder, run.record) for run in newest.values()}
    if not newest:
        what = "; ".join(["no readable record to make a baseline of", *left_out(runs)])
        raise BenchError(what, where=str(path), fix="`bench run` writes one")
    num_seeds = Counter(key[:-1] for key in newest)
    rows = {
        key: make_row(run.record, answers[run.record.run_id], num_seeds[key[:-1]], score).model_copy(
            update={"model": key[1]}
        )
        for key, run in newest.items()
        for score in run.record.scores
        if score.metric == key[3]
    }
    write_baseline(path, list(rows.values()))
    return [_change(old.get(key), rows.get(key)) for key in sorted(rows.keys() | old.keys())]


def other_encoders(runs: Sequence[StoredRun]) -> list[str]:
    """A line for each row of `renew` that took the newest of several encoders which nothing but weights or input tells
    apart."""
    lines = []
    for (task, model, protocol, _, seed), of_key in _by_key(runs).items():
        kept = of_key[-1].encoder
        others = list({run.encoder: None for run in of_key if run.encoder != kept})
        if others:
            digests = ", ".join(f"weights {digest[:7]} ({shape})" for _, digest, shape in others)
            kind = f"weights {kept[1][:7]} ({kept[2]})"
            lines.append(f"{model} on {task} ({protocol}), seed {seed}: kept {kind}, left out older runs of {digests}")
    return list(dict.fromkeys(lines))


def leaks(runs: Sequence[StoredRun]) -> list[str]:
    """A line for each row of `renew` whose probe was trained on some of the test videos."""
    lines = []
    for (task, model, protocol, _, seed), of_key in _by_key(runs).items():
        shared = shared_videos(of_key[-1].record.notes)
        if shared:
            lines.append(f"{model} on {task} ({protocol}), seed {seed}: {shared_note(shared)}")
    return list(dict.fromkeys(lines))


def _by_key(runs: Sequence[StoredRun]) -> dict[Key, list[StoredRun]]:
    """The runs of each row, oldest first; weights of one file name are different rows where their folders differ."""
    called = place_names(runs)
    found: dict[Key, list[StoredRun]] = defaultdict(list)
    for run in runs:
        record = run.record
        for score in () if why_not_held(run) else record.scores:
            found[record.task, called[record.run_id], record.protocol, score.metric, record.seed].append(run)
    return found


def _key(row: BaselineRow) -> Key:
    return row.task, row.model, row.protocol, row.metric, row.seed


def _change(then: BaselineRow | None, now: BaselineRow | None) -> Change:
    row = now or then
    if row is None:
        raise ValueError("a change needs a row")
    before, after = (None if one is None else one.value for one in (then, now))
    return Change(row.task, row.model, row.protocol, row.metric, row.seed, before, after)
