"""What a report is made of: the board that the leaderboard shows, every run behind it in full, and tables of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.analysis.leaderboard import Column, Leaderboard
from bench.analysis.runs import Evidence
from bench.analysis.select import Choice, load_board
from bench.core.errors import BenchError
from bench.records.runs import in_full


class Spot(NamedTuple):
    """One place of a table."""

    text: str
    number: float | None = None
    """To sort by; text is sorted as text where it is None."""
    small: str = ""
    """Printed behind, smaller."""


MISSING = Spot("—")


@dataclass(frozen=True)
class Grid:
    """A table with a caption; the first place of each row names it."""

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[Spot, ...], ...]
    remark: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(row[index].number is not None for row in self.rows) for index in range(len(self.heading)))


def percent(value: float, low: float | None = None, high: float | None = None) -> Spot:
    """A score of 0 to 100, with its interval."""
    interval = "" if low is None or high is None else f"{low:.1f}–{high:.1f}"
    return Spot(f"{value:.1f}", value, interval)


def column_names(columns: Iterable[Column]) -> Mapping[Column, str]:
    """Task and probe; where several columns share these, the protocol instead, then the metric, the size, the lists."""
    columns = list(columns)
    steps: tuple[Callable[[Column], str], ...] = (
        lambda column: f"{column.task}, {column.probe}",
        lambda column: f"{column.task}, {column.protocol}",
        lambda column: f"{column.task}, {column.protocol}, {column.metric}",
        lambda column: f"{column.task}, {column.protocol}, {column.metric}, n = {column.num_test:,}",
        lambda column: (
            f"{column.task}, {column.protocol}, {column.metric}, lists "
            + "/".join(digest[:7] for digest in column.lists.split())
        ),
    )
    names: dict[Column, str] = {}
    for step in steps:
        made = {column: step(column) for column in columns}
        often = Counter(made.values())
        last = step is steps[-1]
        names.update({c: name for c, name in made.items() if c not in names and (often[name] == 1 or last)})
    return names


@dataclass(frozen=True)
class Material:
    """A board and its runs."""

    board: Leaderboard
    evidence: Mapping[str, Evidence]
    """Every run of the board by its run id, in order of the rows, then of columns and seeds."""
    problems: tuple[BenchError, ...]
    """Records and predictions that could not be read."""


def gather(folders: Iterable[Path], choice: Choice) -> Material:
    """Read the results folders. Raises BenchError as the leaderboard does, and where no record could be read."""
    folders = list(folders)
    board, problems = load_board(folders, choice=choice)
    if not board.rows:
        raise problems[0] if problems else BenchError("no scores", where=", ".join(map(str, folders)))
    runs = (
        run.record
        for row in board.rows
        for column in board.columns
        if column in row.cells
        for run in row.cells[column].runs
    )
    summaries = {summary.run_id: summary for summary in runs if summary.path}
    evidence = {run.record.run_id: run for run in in_full(summaries.values(), problems)}
    return Material(board, evidence, tuple(problems))
