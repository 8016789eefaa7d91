"""What a report is made of: the board that the leaderboard shows, and every run behind it in full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.analysis.leaderboard import Leaderboard
from bench.analysis.runs import Evidence
from bench.analysis.select import Choice, load_board
from bench.core.errors import BenchError
from bench.records.runs import in_full


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
