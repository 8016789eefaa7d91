"""A baseline written anew from the newest runs, and what that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.scores.answers import read_answers
from bench.scores.baseline import BaselineRow, make_row, read_baseline, write_baseline
from bench.scores.stored import StoredRun


@dataclass(frozen=True)
class Change:
    """What became of one row; scores are 0 to 100, None where there is none."""

    task: str
    model: str
    protocol: str
    seed: int
    then: float | None
    now: float | None

    @property
    def what(self) -> str:
        """added, removed or renewed."""
        return "added" if self.then is None else "removed" if self.now is None else "renewed"


def renew(path: Path, runs: Sequence[StoredRun]) -> list[Change]:
    """Write the baseline at `path`: one row for the newest run of each task, model, protocol and seed, and no others;
    none for scores that were selected on test.

    Returns the changes against the baseline that was there. Raises BenchError where there is no run, predictions are
    missing, or another kind of file is at `path`.
    """
    old = {_key(row): row for row in read_baseline(path).rows} if path.exists() else {}
    newest: dict[tuple[str, str, str, str, int], StoredRun] = {}
    for run in runs:
        record = run.record
        if record.selected_on_test:
            continue
        newest[record.task, record.model, record.protocol, record.scores[0].metric, record.seed] = run
    if not newest:
        raise BenchError("no readable record to make a baseline of", where=str(path), fix="`bench run` writes one")
    rows = {key: make_row(run.record, read_answers(run.folder, run.record)) for key, run in newest.items()}
    write_baseline(path, list(rows.values()))
    return [_change(old.get(key), rows.get(key)) for key in sorted(rows.keys() | old.keys())]


def _key(row: BaselineRow) -> tuple[str, str, str, str, int]:
    return row.task, row.model, row.protocol, row.metric, row.seed


def _change(then: BaselineRow | None, now: BaselineRow | None) -> Change:
    row = now or then
    if row is None:
        raise ValueError("a change needs a row")
    before, after = (None if one is None else one.value for one in (then, now))
    return Change(row.task, row.model, row.protocol, row.seed, before, after)
