"""The runs that plots and reports show, in full: what the leaderboard would show of the same folders.

The leaderboard itself needs only summaries; sweeps, controls and per-sample answers need the records and their folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.analysis.leaderboard import newest
from bench.analysis.select import Choice, choose
from bench.core.errors import BenchError
from bench.records.curve import CSV_NAME, CurvePoint, read_curve
from bench.records.runs import StoredRun, in_full

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
