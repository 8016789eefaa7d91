"""Clips that end some time before an action: which frames they hold (protocol.md 3.6).

Frame numbers are those of the official code, which takes the file's own rate:
anchor = int(start * p + stop * (1 - p) - int(seconds * rate)), step = int(rate / fps),
frames = anchor - T * step, ..., anchor - step; those before the video are its first frame.

That rule takes frames for evenly spaced. Where they are not, it holds for annotations in frame numbers alone, as they
are official; timestamps are presentation times, and the clip holds the frames on screen at its moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.core.errors import BenchError
from bench.video.info import VideoInfo

Anchor = Literal["before-start", "before-end"]
"""Which end of the action a clip ends before: its start, as the challenge asks, or its end, as the official code does
unless it is told otherwise."""

_POINTS: dict[Anchor, float] = {"before-start": 1.0, "before-end": 0.0}
_DRAWN_POINTS: dict[Anchor, tuple[float, float]] = {"before-start": (0.75, 1.0), "before-end": (0.0, 0.25)}
"""Of training clips. Those of `before-end` are the official ones; the others are their mirror image."""
_DRAWN_SECONDS = 0.75
"""Training clips end at most so much earlier or later: 0.25 to 1.75 s for one second, as in the official code."""


@dataclass(frozen=True)
class Ending:
    """Where clips end."""

    seconds: float
    """Before the anchor."""
    anchor: Anchor
    drawn: bool = False
    """Whether time and anchor are drawn around these, for training."""
    by_number: bool = False
    """Whether the times of actions stand for frame numbers at the file's rate, as in the official code."""

    def moment(self, rng: np.random.RandomState | None) -> tuple[float, float]:
        """(seconds before the anchor, p): the anchor is p parts start and 1 - p parts end of the action."""
        if not self.drawn or rng is None:
            return self.seconds, _POINTS[self.anchor]
        seconds = rng.uniform(max(0.0, self.seconds - _DRAWN_SECONDS), self.seconds + _DRAWN_SECONDS)
        return seconds, rng.uniform(*_DRAWN_POINTS[self.anchor])


def ending_indices(
    info: VideoInfo,
    start_s: float,
    stop_s: float,
    moment: tuple[float, float],
    frames_per_clip: int,
    fps: float,
    *,
    by_number: bool = False,
    where: str,
) -> list[int]:
    """The frames of a clip of `frames_per_clip` frames, `fps` of them a second, before an action.

    `start_s`, `stop_s`: times of the action in the file. `moment`: see `Ending.moment`; `by_number`: see `Ending`.
    Raises BenchError naming the file `where` its rate is not known, or it ends before the clip does.
    """
    info.check_times(where)
    seconds, point = moment
    if info.shown_s is None or by_number:
        start, stop = round(start_s * info.fps), round(stop_s * info.fps)
        end = int(start * point + stop * (1 - point) - int(seconds * info.fps))
        step = max(1, int(info.fps / fps))
        frames = np.arange(end - frames_per_clip * step, end, step)
    else:
        end_s = start_s * point + stop_s * (1 - point) - seconds
        frames = info.on_screen(end_s - np.arange(frames_per_clip, 0, -1) / fps)
    indices: list[int] = np.maximum(frames, 0).tolist()
    if indices[-1] >= info.num_frames:
        raise BenchError(
            f"the clip ends at frame {indices[-1]}, and the video has {info.num_frames}",
            where=where,
            fix="check that it is whole; a few annotations lie behind the end of their video",
        )
    return indices
