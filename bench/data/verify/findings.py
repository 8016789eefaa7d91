"""The facts of all paths of a task: from the memory of earlier checks where nothing has changed, else looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.memo import Memo
from bench.core.workers import Lost, guarded_map
from bench.data.verify.checks import Check, Checked, Facts, check
from bench.video.states import remember, remembered

_MEMORY = "checks-2.sqlite"  # the number rises when a check finds more than it did
_ROW = np.dtype([("bytes", "i8"), ("sample", "u8"), ("frames", "i8"), ("fps", "f8"), ("height", "i4"), ("width", "i4")])
_AHEAD = 16
"""A header is read in the time that a message takes."""


@dataclass(frozen=True)
class Findings:
    """What is known of `paths`, row by row. An array, as a million objects would not be small."""

    paths: list[str]
    rows: NDArray[np.void]
    """Fields bytes, sample (64 bits, equal for equal contents), frames, fps, height, width."""
    faults: dict[int, Facts]
    """Place -> why a path cannot be used."""


def examine(
    paths: list[str],
    cache: Path,
    *,
    full: bool,
    workers: int,
    timeout_s: float,
    progress: Callable[[int, int], None],
) -> Findings:
    """Check every path. What is found is remembered in `cache`, so that an interrupted check goes on.

    A path whose reader hangs or dies is unreadable, and is tried again next time.
    """
    found = Findings(paths, np.zeros(len(paths), _ROW), {})
    with Memo(cache / _MEMORY) as memo:
        todo = {path: place for place, path in enumerate(paths)}
        for path, state, (was_full, *facts) in remembered(memo, paths):
            if was_full or not full:
                _enter(found, todo.pop(path), Checked(Facts(*facts), state))
                progress(len(paths) - len(todo), len(paths))
        done = len(paths) - len(todo)
        tasks = (Check(place, path, full) for path, place in todo.items())
        looked = guarded_map(check, tasks, workers=min(workers, len(todo)), timeout_s=timeout_s, ahead=_AHEAD)
        for task, outcome in looked:
            if isinstance(outcome, Lost):
                outcome = Checked(Facts(fault="unreadable", reason=f"its reader {outcome.reason}"), None)
            elif outcome.state:
                remember(memo, task.path, outcome.state, [full, *astuple(outcome.facts)])
            _enter(found, task.place, outcome)
            done += 1
            progress(done, len(paths))
    return found


def _enter(found: Findings, place: int, checked: Checked) -> None:
    facts, state = checked.facts, checked.state
    size, sample = (state.size, int(state.sample or "0", 16)) if state else (0, 0)
    found.rows[place] = (size, sample, facts.frames, facts.fps, facts.height, facts.width)
    if facts.fault:
        found.faults[place] = facts
