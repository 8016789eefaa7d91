"""Which frames of a video are looked at, and in which order: segments, the controls' orders, windows before an action.

Segments are those of the official sampler (protocol.md 3.2, overlap allowed). A clip before an action ends some time
before it (protocol.md 3.6); its frame numbers are those of the official code, which takes the file's own rate:
anchor = int(start * p + stop * (1 - p) - int(seconds * rate)), step = int(rate / fps),
frames = anchor - T * step, ..., anchor - step; those before the video are its first frame.

That rule takes frames for evenly spaced. Where they are not, it holds for annotations in frame numbers alone, as they
are official; timestamps are presentation times, and the clip holds the frames on screen at its moments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.core.errors import BenchError
from bench.core.types import FrameOrder
from bench.video.info import VideoInfo


def segment_indices(
    num_frames: int,
    frames_per_clip: int,
    frame_step: int,
    num_segments: int,
    window_ends: Sequence[int] | None = None,
    rng: np.random.RandomState | None = None,
) -> list[list[int]]:
    """`num_segments` clips of `frames_per_clip` frame indices, each in [0, num_frames) and never decreasing.

    The video is cut into `num_segments` equal segments of P = num_frames // num_segments frames. Where a
    segment is longer than a clip's span L = frames_per_clip * frame_step, a window of L frames is taken:

    - `rng` given: its end is drawn as `rng.randint(L, P)`, once per segment in order, as the papers do;
    - `window_ends` given: these ends (exclusive, counted from the segment's start, in [L, P)) are replayed;
    - neither: the window lies in the middle of its segment. Deterministic, and not what the papers do.

    Elsewhere the clips overlap or repeat the last but one frame; nothing is drawn, so `window_ends` is empty.
    A video of one frame, where the official sampler answers -1 (Python's last frame), gives 0.

    Raises BenchError for a count below 1, ValueError for `window_ends` that this video cannot have.
    Source: protocol.md 3.2 (jepa src/datasets/video_dataset.py:207-269).
    """
    _check_counts(num_frames, frames_per_clip, frame_step, num_segments)
    if window_ends is not None and rng is not None:
        raise ValueError("window_ends and rng exclude each other")
    span = frames_per_clip * frame_step
    segment = num_frames // num_segments
    if segment <= span:
        if window_ends:
            raise ValueError(f"no window is drawn from {num_frames} frames, got window_ends {list(window_ends)}")
        return _overlapping_clips(num_frames, frames_per_clip, frame_step, num_segments)

    if rng is not None:
        ends = [int(rng.randint(span, segment)) for _ in range(num_segments)]
    elif window_ends:
        ends = list(window_ends)
        if len(ends) != num_segments or not all(span <= end < segment for end in ends):
            raise ValueError(f"window_ends {ends} are not {num_segments} ends in [{span}, {segment})")
    else:
        ends = [(segment - span) // 2 + span] * num_segments

    clips = []
    for number, end in enumerate(ends):
        start = end - span
        within = np.clip(np.linspace(start, end, num=frames_per_clip), start, end - 1).astype(np.int64)
        clips.append((within + number * segment).tolist())
    return clips


def timed_step(
    video_fps: float, frames_per_clip: int, *, fps: float | None = None, duration_s: float | None = None
) -> int:
    """The frame step that gives a clip of a video with `video_fps` frames a second either `fps` frames a second or a
    span of `duration_s` seconds; at least 1.

    V-JEPA 2's rule: the video's rate is rounded up to a whole number, the step down. V-JEPA 1 knows durations alone and
    does not round the rate, which matters for rates such as 29.97. The published classification settings are all in
    frames, so that no score depends on the choice.

    Raises ValueError unless one of the two is given.
    Source: protocol.md 3.2 (vjepa2 src/datasets/video_dataset.py:291-370).
    """
    if (fps is None) == (duration_s is None):
        raise ValueError("give fps or duration_s, not both")
    whole_fps = math.ceil(video_fps)
    step = whole_fps // fps if fps is not None else int((duration_s or 0.0) * whole_fps / frames_per_clip)
    return max(1, int(step))


def whole_video(num_frames: int, frames_per_clip: int, frame_step: int) -> list[int]:
    """The clip of a video that is no longer than one: frames at the step, then the last frame again and again.

    Source: protocol.md 3.2 item 4, what the official pretraining does. Raises BenchError for a count below 1.
    """
    _check_counts(num_frames, frames_per_clip, frame_step, 1)
    distinct = min(frames_per_clip, num_frames // frame_step)
    spread = np.linspace(0, num_frames, num=distinct)
    padded = np.concatenate((spread, np.full(frames_per_clip - distinct, num_frames, dtype=np.float64)))
    indices: list[int] = np.clip(padded, 0, num_frames - 1).astype(np.int64).tolist()
    return indices


def _overlapping_clips(num_frames: int, frames_per_clip: int, frame_step: int, num_segments: int) -> list[list[int]]:
    """Videos too short for disjoint windows: evenly shifted clips, padded with their last frame but one."""
    span = frames_per_clip * frame_step
    last = min(span, num_frames) - 1
    distinct = last // frame_step
    spread = np.concatenate(
        (np.linspace(0, last, num=distinct), np.full(frames_per_clip - distinct, last, dtype=np.float64))
    )
    # The upper bound comes first so that one frame gives 0; the official order of the two bounds gives -1.
    within = np.maximum(np.minimum(spread, last - 1), 0).astype(np.int64)
    shift = (num_frames - span) // (num_segments - 1) if num_frames > span else 0
    return [(within + number * shift).tolist() for number in range(num_segments)]


def _check_counts(num_frames: int, frames_per_clip: int, frame_step: int, num_segments: int) -> None:
    if num_frames < 1:
        raise BenchError("the video has no frames", fix="remove it from the list")
    settings = {"frames_per_clip": frames_per_clip, "frame_step": frame_step, "num_segments": num_segments}
    for name, value in settings.items():
        if value < 1:
            raise BenchError(f"{name} is {value}", fix="it must be at least 1")


def in_order(frames: Sequence[int], order: FrameOrder, rng: np.random.RandomState) -> list[int]:
    """The frame numbers of a clip [T] as `order` shows them [T].

    static: frame T // 2 at every place. shuffled: a permutation drawn from `rng` that shows another sequence than
    `frames`, so never the identity; only a clip whose frames are all the same stays as it is.
    """
    given = list(frames)
    if order == "reversed":
        return given[::-1]
    if order == "static":
        return [given[len(given) // 2]] * len(given)
    if order == "ordered" or len(set(given)) < 2:
        return given
    while True:
        shuffled = [given[place] for place in rng.permutation(len(given))]
        if shuffled != given:
            return shuffled


Anchor = Literal["before-start", "before-end"]
"""Which end of the action a clip ends before: its start, as the challenge asks, or its end, as the official code does
unless it is told otherwise."""

_POINTS: dict[Anchor, float] = {"before-start": 1.0, "before-end": 0.0}
_DRAWN_POINTS: dict[Anchor, tuple[float, float]] = {"before-start": (0.75, 1.0), "before-end": (0.0, 0.25)}
"""Ranges that training clips draw their point from. Those of `before-end` are official; the others mirror them."""
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
