"""The segment sampler equals the official one and never leaves the video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.video.clips import segment_indices, timed_step, whole_video

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "clip_indices.json").read_text())
CENTRE_16X4 = [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]

counts = st.integers(1, 8)
plans = st.tuples(st.integers(1, 700), st.integers(1, 32), counts, counts)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: "-".join(str(c[key]) for key in list(c)[:5]))
def test_equals_the_official_sampler(case: dict[str, Any]) -> None:
    answer = segment_indices(
        case["num_frames"],
        case["frames_per_clip"],
        case["frame_step"],
        case["num_segments"],
        window_ends=case["window_ends"],
    )
    assert answer == case["indices"]


def test_all_golden_cases_are_read() -> None:
    assert len(GOLDEN) == 154


def test_without_a_generator_the_window_is_in_the_middle() -> None:
    # 264 frames, 2 segments of 132, a window of 64: it starts at 34 of each.
    first, second = segment_indices(264, 16, 4, 2)
    assert first == [34 + index for index in CENTRE_16X4]
    assert second == [132 + index for index in first]


def test_a_generator_draws_the_official_windows_and_nothing_else() -> None:
    drawn = segment_indices(400, 16, 4, 2, rng=np.random.RandomState(7))
    replay = np.random.RandomState(7)
    ends = [int(replay.randint(64, 200)) for _ in range(2)]
    assert drawn == segment_indices(400, 16, 4, 2, window_ends=ends)


def test_a_short_video_draws_nothing() -> None:
    rng = np.random.RandomState(3)
    segment_indices(40, 16, 4, 2, rng=rng)
    assert rng.randint(1 << 30) == np.random.RandomState(3).randint(1 << 30)


@pytest.mark.parametrize(
    ("video_fps", "fps", "step"), [(30, 4, 7), (29.97, 4, 7), (29.97, 30, 1), (25, 10, 2), (12, 30, 1), (60, 7.5, 8)]
)
def test_a_rate_gives_the_step_of_vjepa2(video_fps: float, fps: float, step: int) -> None:
    """protocol.md 3.2: ceil(rate of the video) // fps; here at least 1, where the official code stops."""
    assert timed_step(video_fps, 16, fps=fps) == step


@pytest.mark.parametrize(
    ("video_fps", "duration_s", "step"), [(30, 2.2, 4), (29.97, 3.2, 6), (25, 1.0, 1), (10, 0.5, 1)]
)
def test_a_duration_gives_the_step_of_vjepa2(video_fps: float, duration_s: float, step: int) -> None:
    """protocol.md 3.2: int(duration * ceil(rate of the video) / frames of a clip)."""
    assert timed_step(video_fps, 16, duration_s=duration_s) == step


@pytest.mark.parametrize("given", [{}, {"fps": 4.0, "duration_s": 2.0}])
def test_a_step_by_time_is_by_one_of_the_two(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not both"):
        timed_step(30, 16, **given)


def test_one_frame_is_repeated() -> None:
    assert segment_indices(1, 4, 2, 2) == [[0, 0, 0, 0], [0, 0, 0, 0]]


@given(plans, st.integers(0, 2**32 - 1) | st.none())
def test_indices_are_a_full_ordered_clip_inside_the_video(plan: tuple[int, int, int, int], seed: int | None) -> None:
    num_frames, frames_per_clip, frame_step, num_segments = plan
    rng = None if seed is None else np.random.RandomState(seed)
    clips = segment_indices(num_frames, frames_per_clip, frame_step, num_segments, rng=rng)
    assert len(clips) == num_segments
    for clip in clips:
        assert len(clip) == frames_per_clip
        assert clip == sorted(clip)
        assert clip[0] >= 0 and clip[-1] < num_frames
        assert all(type(index) is int for index in clip)


@given(plans, st.integers(0, 2**32 - 1))
def test_windows_stay_inside_their_segment(plan: tuple[int, int, int, int], seed: int) -> None:
    num_frames, frames_per_clip, frame_step, num_segments = plan
    segment = num_frames // num_segments
    if segment <= frames_per_clip * frame_step:
        return
    clips = segment_indices(*plan, rng=np.random.RandomState(seed))
    for number, clip in enumerate(clips):
        assert number * segment <= clip[0] and clip[-1] < (number + 1) * segment


@pytest.mark.parametrize("plan", [(0, 16, 4, 1), (10, 0, 4, 1), (10, 16, 0, 1), (10, 16, 4, 0), (-1, 16, 4, 1)])
def test_counts_below_one_are_refused(plan: tuple[int, int, int, int]) -> None:
    with pytest.raises(BenchError):
        segment_indices(*plan)


@pytest.mark.parametrize("ends", [[63, 70], [64, 100], [64], [64, 70, 80]])
def test_impossible_window_ends_are_refused(ends: list[int]) -> None:
    with pytest.raises(ValueError, match="window_ends"):
        segment_indices(200, 16, 4, 2, window_ends=ends)


def test_window_ends_for_a_short_video_are_refused() -> None:
    with pytest.raises(ValueError, match="no window"):
        segment_indices(40, 16, 4, 2, window_ends=[64, 64])


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (45, [0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 44, 44, 44, 44, 44, 44]),
        (64, [0, 4, 8, 12, 17, 21, 25, 29, 34, 38, 42, 46, 51, 55, 59, 63]),
        (4, [0] + [3] * 15),
        (3, [2] * 16),
        (1, [0] * 16),
    ],
)
def test_a_video_no_longer_than_a_clip_is_padded_as_in_the_official_pretraining(
    num_frames: int, expected: list[int]
) -> None:
    """protocol.md 3.2 item 4, by hand: linspace(0, P, P // s), then P, clipped to P - 1."""
    assert whole_video(num_frames, 16, 4) == expected
