"""From results folders to the board a user asks for: which records, in which order, beside which reference;
and the runs behind it in full, for plots and reports, which need sweeps, controls and the answers to each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bench.analysis.board import Column, Leaderboard, Row, best_first
from bench.analysis.leaderboard import assemble, compared, newest, reordered
from bench.core.errors import BenchError, nearest
from bench.core.types import AXES
from bench.records.curve import CSV_NAME, CurvePoint, read_curve
from bench.records.index import read_run
from bench.records.runs import StoredRun, in_full, load_summaries
from bench.records.schema import Record
from bench.records.summary import Summary, is_called, natural, summarise

ORDERS = (*AXES, "model", "cost")
"""What rows can be sorted by besides a column."""


@dataclass(frozen=True)
class Choice:
    """What of the records to show, and how."""

    tasks: Sequence[str] = ()
    models: Sequence[str] = ()
    """Wildcards on model names, and on the ends of the paths of their weights."""
    probes: Sequence[str] = ()
    """Wildcards on probe names."""
    sort: str | None = None
    """One of ORDERS, a task, or TASK/PROBE; the scores that models share where empty."""
    reference: str | None = None
    """The model that others are compared with."""


def load_board(
    folders: Iterable[Path], tasks: Sequence[str] = (), choice: Choice | None = None
) -> tuple[Leaderboard, list[BenchError]]:
    """The board of every record under the results folders, and what could not be read.

    `tasks` keeps only these tasks; `choice` says more. Where different records have one run id, the first is kept.
    Raises BenchError where a folder does not exist, nothing was found in any of them, or what was asked for is not
    there.
    """
    choice = choice or Choice(tasks=tasks)
    records, problems = choose(folders, choice)
    return arranged(assemble(records), choice), problems


def choose(folders: Iterable[Path], choice: Choice) -> tuple[list[Summary], list[BenchError]]:
    """The records under the results folders that `choice` keeps, and what could not be read; raises as `load_board`."""
    records, problems = load_summaries(folders)
    return _chosen(records, choice), problems


def board_of_runs(records: Sequence[Record], results: Path) -> Leaderboard:
    """The board of runs that were just made, with the predictions that they left in `results`."""
    found = {}
    for record in records:
        path = results.expanduser() / record.run_id / "record.json"
        read = read_run(path)
        found[record.run_id] = read if isinstance(read, Summary) else summarise(record)
    return assemble(list(found.values()))


def arranged(board: Leaderboard, choice: Choice) -> Leaderboard:
    """The board in the order and beside the reference that were asked for."""
    if choice.reference is not None:
        board = compared(board, _row(board, choice.reference))
    if choice.sort is None:
        return board
    if choice.sort == "model":
        return reordered(board, sorted(board.rows, key=lambda row: natural(row.label)), "by name")
    if choice.sort == "cost":
        return reordered(board, sorted(board.rows, key=lambda row: row.seconds), "least time first")
    rows, order = best_first(board.rows, _sorting_columns(board, choice.sort))
    return reordered(board, rows, order)


def _chosen(records: Sequence[Summary], choice: Choice) -> list[Summary]:
    """The records of the tasks, models and probes that were asked for."""
    kept = list(records)
    for task in choice.tasks:
        if all(record.task != task for record in records):
            raise _unknown("task", task, {record.task for record in records})
    if choice.tasks:
        kept = [record for record in kept if record.task in choice.tasks]
    kept = _matching(kept, "model", choice.models, lambda record: (record.model, record.place))
    return _matching(kept, "probe", choice.probes, lambda record: (record.probe, ""))


def _matching(
    records: list[Summary], word: str, patterns: Sequence[str], name: Callable[[Summary], tuple[str, str]]
) -> list[Summary]:
    """The records that a pattern fits, by their name and the place of their weights."""
    for pattern in patterns:
        if not any(_fits(*name(record), pattern) for record in records):
            raise _unknown(word, pattern, {name(record)[0] for record in records})
    return [r for r in records if not patterns or any(_fits(*name(r), pattern) for pattern in patterns)]


def _fits(name: str, place: str, pattern: str) -> bool:
    return is_called(name, place, pattern) or fnmatchcase(name, pattern) or fnmatchcase(f"/{place}", f"*/{pattern}")


def _unknown(word: str, name: str, known: Iterable[str]) -> BenchError:
    names = list(known)
    return BenchError(f"no record of {word} '{name}'", fix=nearest(name, names) if names else None)


def _row(board: Leaderboard, name: str) -> Row:
    """The row that `name` means: its label, or the model where it has one row only."""
    rows = [row for row in board.rows if row.label == name] or [
        row for row in board.rows if row.records[0].model == name
    ]
    if not rows:
        labels = [row.label for row in board.rows]
        raise BenchError(f"no row '{name}'", where="--reference", fix=nearest(name, labels) if labels else None)
    if len(rows) > 1:
        several = " or ".join(f"'{row.label}'" for row in rows)
        raise BenchError(f"'{name}' has several rows", where="--reference", fix=f"say {several}")
    return rows[0]


def _sorting_columns(board: Leaderboard, by: str) -> list[Column]:
    """The columns that `--sort` means: one, or those of an axis."""
    if by in AXES:
        own = [column for column in board.columns if column.axis == by and not column.selected_on_test]
        if not own:
            raise BenchError(f"no column is about {by}", where="--sort", fix=nearest(by, _sortable(board)))
        return own
    own = [column for column in board.columns if by in (column.task, f"{column.task}/{column.probe}")]
    own = own or [column for column in board.columns if by == f"{column.task}/{column.protocol}"]
    own = [column for column in own if not column.selected_on_test] or own
    if own and own[0].selected_on_test:
        what = f"'{by}' was selected on test: such scores put no model before another"
        raise BenchError(what, where="--sort", fix=nearest(by, _sortable(board)))
    if not own:
        raise BenchError(f"no column '{by}'", where="--sort", fix=nearest(by, _sortable(board)))
    if len(own) > 1:
        probes = {column.probe for column in own}
        names = [f"{c.task}/{c.probe if len(probes) == len(own) else c.protocol}" for c in own]
        # Columns of one protocol differ in their lists; the first has the largest.
        if len(set(names)) > 1:
            known = " or ".join(f"'{name}'" for name in dict.fromkeys(names))
            raise BenchError(f"'{by}' has several columns", where="--sort", fix=f"say {known}")
    return own[:1]


def _sortable(board: Leaderboard) -> list[str]:
    return [*ORDERS, *dict.fromkeys(column.task for column in board.columns if not column.selected_on_test)]


Evidence = StoredRun
"""One run in full."""


def read_evidence(
    folders: Iterable[Path], tasks: Sequence[str] = (), models: Sequence[str] = (), probes: Sequence[str] = ()
) -> tuple[list[Evidence], list[BenchError]]:
    """The newest run of every encoder, task, protocol and seed under the results folders, and what could not be read.

    `tasks` keeps only these tasks; `models` and `probes` are wildcards. Raises BenchError where a folder does not
    exist, nothing was found in any of them, or what was asked for is not there.
    """
    folders = list(folders)
    summaries, problems = choose(folders, Choice(tasks=tasks, models=models, probes=probes))
    evidence = in_full(newest(summaries)[0], problems)
    return evidence, problems + read_curves(folders)[1]


def read_curves(folders: Iterable[Path]) -> tuple[list[tuple[str, list[CurvePoint]]], list[BenchError]]:
    """(name, points) of every score curve under the results folders, in order of the names, and what is unreadable."""
    curves, problems = [], []
    for path in sorted(path for folder in folders for path in folder.glob(f"curves/*/{CSV_NAME}")):
        try:
            curves.append((path.parent.name, read_curve(path)))
        except BenchError as error:
            problems.append(error)
    return curves, problems
