"""The facts of all paths of a task: from the memory of earlier checks where nothing has changed, else looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.checks import Check, Checked, Facts, check
from bench.data.guarded import Lost, guarded_map
from bench.data.memory import Memory
from bench.data.sources import Stamp, stamp_of

_MEMORY = "checks-2.sqlite"  # the number rises when a check finds more than it did
_ROW = np.dtype(
    [("bytes", "i8"), ("fingerprint", "u8"), ("frames", "i8"), ("fps", "f8"), ("height", "i4"), ("width", "i4")]
)
_AHEAD = 16
"""A header is read in the time that a message takes."""


@dataclass(frozen=True)
class Findings:
    """What is known of `paths`, row by row. An array, as a million objects would not be small."""

    paths: list[str]
    rows: NDArray[np.void]
    """Fields bytes, fingerprint, frames, fps, height, width: those of `Facts`."""
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
    with Memory(cache / _MEMORY) as memory:
        todo: list[int] = []
        for place, path in enumerate(paths):
            known = _remembered(memory, path, full)
            if known:
                _enter(found, place, known)
                progress(place + 1 - len(todo), len(paths))
            else:
                todo.append(place)
        done = len(paths) - len(todo)
        tasks = (Check(place, paths[place], full) for place in todo)
        looked = guarded_map(check, tasks, workers=min(workers, len(todo)), timeout_s=timeout_s, ahead=_AHEAD)
        for task, outcome in looked:
            if isinstance(outcome, Lost):
                outcome = Checked(Facts(fault="unreadable", reason=outcome.reason), None)
            elif outcome.stamp:
                memory.keep(task.path, _text(outcome.stamp), [full, *astuple(outcome.facts)])
            _enter(found, task.place, outcome)
            done += 1
            progress(done, len(paths))
    return found


def _remembered(memory: Memory, path: str, full: bool) -> Checked | None:
    known = memory.get(path)
    if known is None:
        return None
    text, (was_full, *facts) = known
    try:
        stamp = stamp_of(path)
    except OSError:
        return None
    return Checked(Facts(*facts), stamp) if text == _text(stamp) and (was_full or not full) else None


def _enter(found: Findings, place: int, checked: Checked) -> None:
    facts = checked.facts
    size = checked.stamp[0] if checked.stamp else 0
    found.rows[place] = (size, facts.fingerprint, facts.frames, facts.fps, facts.height, facts.width)
    if facts.fault:
        found.faults[place] = facts


def _text(stamp: Stamp) -> str:
    return f"{stamp[0]}/{stamp[1]}"
