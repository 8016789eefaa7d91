"""Which frames a clip shows: official segments, orders of controls, the window before an action; all in the video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import write_video

from bench import BenchError
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import Anchor, Ending, ending_indices, in_order, segment_indices, timed_step, whole_video
from bench.video.decode import Video
from bench.video.info import VideoInfo
from bench.video.loader import load_clips
from bench.video.train_views import TrainViews

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


CLIPS = ClipPlan(
    frames_per_clip=6, frame_step=2, num_segments=2, views=1, size=16, sampling="random", seed=0,
    short_side=16, decoder="auto",
)  # fmt: skip
VIEWS = TrainViews(6, frame_step=2, num_segments=2, size=16, policy="official-video", seed=0)
ITEM = VideoItem("a", "")


class Numbered:
    """A video of which every pixel of a frame is the frame's number."""

    def __init__(self, num_frames: int = 40) -> None:
        self.info = VideoInfo(num_frames, 25.0, 16, 16)

    def read(self, indices: Sequence[int]) -> np.ndarray:
        frames = np.empty((len(indices), 16, 16, 3), np.uint8)
        frames[:] = np.array(indices, np.uint8)[:, None, None, None]
        return frames


def shown(plan: ClipPlan | TrainViews, item: VideoItem = ITEM, num_frames: int = 40) -> np.ndarray:
    """Frame numbers [segments, T] as the plan names them."""
    out = np.empty(plan.shape, np.uint8)
    return np.array(plan.fill(item, cast(Video, Numbered(num_frames)), out))


def stream() -> np.random.RandomState:
    return np.random.RandomState(0)


def test_orders_of_a_numbered_clip() -> None:
    frames = [3, 5, 7, 9, 11, 13]
    assert in_order(frames, "ordered", stream()) == frames
    assert in_order(frames, "reversed", stream()) == [13, 11, 9, 7, 5, 3]
    assert in_order(frames, "static", stream()) == [9] * 6
    shuffled = in_order(frames, "shuffled", stream())
    assert sorted(shuffled) == frames and shuffled != frames


@pytest.mark.parametrize("frames", [[0, 1], [4, 4, 5], [0, 1, 2]])
def test_a_shuffle_always_shows_another_sequence(frames: list[int]) -> None:
    rng = stream()
    drawn = {tuple(in_order(frames, "shuffled", rng)) for _ in range(200)}
    assert (
        tuple(frames) not in drawn
        and len(drawn) == {2: 1, 3: len({*frames}) * 2 - 2 + (len({*frames}) == 3)}[len(frames)]
    )


def test_frames_that_are_all_the_same_have_no_order() -> None:
    assert in_order([2, 2, 2], "shuffled", stream()) == [2, 2, 2]


@pytest.mark.parametrize("plan", [CLIPS, VIEWS], ids=["test clips", "training views"])
def test_plans_show_the_frames_that_they_chose_in_their_order(plan: Any) -> None:
    usual = shown(plan)
    assert (shown(replace(plan, frame_order="reversed")) == usual[:, ::-1]).all()
    assert (shown(replace(plan, frame_order="static")) == usual[:, 3:4]).all()
    shuffled = shown(replace(plan, frame_order="shuffled"))
    assert (np.sort(shuffled) == usual).all() and (shuffled != usual).any(axis=1).all()


def test_pixels_follow_the_order() -> None:
    for order in ("shuffled", "reversed", "static"):
        plan = replace(CLIPS, frame_order=order)
        out = np.empty(plan.shape, np.uint8)
        indices = plan.fill(ITEM, cast(Video, Numbered()), out)
        assert (out[0, :, :, 0, 0, 0] == indices).all()


def test_training_views_treat_a_frame_alike_in_every_order() -> None:
    usual, backwards = np.empty(VIEWS.shape, np.uint8), np.empty(VIEWS.shape, np.uint8)
    VIEWS.fill(ITEM, cast(Video, Numbered()), usual)
    replace(VIEWS, frame_order="reversed").fill(ITEM, cast(Video, Numbered()), backwards)
    assert (backwards == usual[:, :, ::-1]).all()


def test_a_shuffle_depends_on_sample_draw_and_segment_and_not_on_the_seed() -> None:
    plan = replace(CLIPS, sampling="center", frame_order="shuffled")

    def places(plan: ClipPlan, item: VideoItem) -> list[tuple[int, ...]]:
        usual = shown(replace(plan, frame_order="ordered"), item).tolist()
        return [
            tuple(map(clip.index, shuffled)) for clip, shuffled in zip(usual, shown(plan, item).tolist(), strict=True)
        ]

    assert places(plan, ITEM) == places(replace(plan, seed=1), ITEM)
    items = [replace(ITEM, id=name, draw=draw) for name, draw in product("ab", (0, 1))]
    assert len({order for item in items for order in places(plan, item)}) == 8


LONG = VideoInfo(num_frames=100_000, width=456, height=256, fps=60000 / 1001)
PLAN = ClipPlan(
    frames_per_clip=4,
    frame_step=4,
    num_segments=1,
    views=1,
    size=16,
    sampling="center",
    seed=0,
    short_side=None,
    decoder="pyav",
    fps=4,
    ending=Ending(1.0, "before-start"),
)


def official(sf: int, ef: int, vfps: float, at: float, ap: float, frames: int = 32, fps: int = 8) -> list[int]:
    """protocol.md 3.6, line by line."""
    af = int(sf * ap + ef * (1 - ap) - int(at * vfps))
    step = int(vfps / fps)
    numbers = np.arange(af - frames * step, af, step)
    numbers[numbers < 0] = 0
    return [int(number) for number in numbers]


@pytest.mark.parametrize(("anchor", "point"), [("before-start", 1.0), ("before-end", 0.0)])
@pytest.mark.parametrize("vfps", [60000 / 1001, 50.0, 30000 / 1001, 48000 / 1001])
def test_frames_are_the_official_ones(anchor: Anchor, point: float, vfps: float) -> None:
    info = VideoInfo(num_frames=100_000, width=456, height=256, fps=vfps)
    for sf, ef in ((1, 113), (93, 147), (2000, 2001), (20920, 21366), (99_000, 99_900)):
        moment = Ending(1.0, anchor).moment(None)
        clip = ending_indices(info, sf / vfps, ef / vfps, moment, 32, 8, where="a.mp4")
        assert clip == official(sf, ef, vfps, 1.0, point)


def test_the_anchors_are_one_second_before_start_and_before_end() -> None:
    info = VideoInfo(num_frames=1000, width=16, height=16, fps=8.0)
    last = {
        anchor: ending_indices(info, 50.0, 60.0, Ending(1.0, anchor).moment(None), 4, 8, where="a.mp4")[-1]
        for anchor in ("before-start", "before-end")
    }
    assert last == {"before-start": 49 * 8 - 1, "before-end": 59 * 8 - 1}


def test_what_lies_before_the_video_is_its_first_frame() -> None:
    clip = ending_indices(LONG, 1.5, 3.0, (1.0, 1.0), 32, 8, where="a.mp4")
    assert clip[:26] == [0] * 26 and clip[-1] == 24
    assert ending_indices(LONG, 0.2, 3.0, (1.0, 1.0), 4, 8, where="a.mp4") == [0, 0, 0, 0]


def test_an_action_behind_the_end_of_the_video_is_an_error() -> None:
    short = replace(LONG, num_frames=600)
    with pytest.raises(BenchError, match="frame 647, and the video has 600"):
        ending_indices(short, 11.9, 14.0, (1.0, 1.0), 32, 8, where="P09_07.MP4")


@pytest.mark.parametrize(("anchor", "low", "high"), [("before-start", 0.75, 1.0), ("before-end", 0.0, 0.25)])
def test_training_draws_cover_the_official_ranges(anchor: Anchor, low: float, high: float) -> None:
    rng = np.random.RandomState(0)
    seconds, points = np.array([Ending(1.0, anchor, drawn=True).moment(rng) for _ in range(500)]).T
    assert 0.25 <= seconds.min() < 0.27 and 1.73 < seconds.max() <= 1.75
    assert low <= points.min() < low + 0.02 and high - 0.02 < points.max() <= high


def test_draws_depend_on_sample_and_draw_alone(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", np.zeros((120, 16, 16, 3), np.uint8))
    plan = replace(PLAN, ending=Ending(1.0, "before-start", drawn=True))

    def clip(draw: int, name: str = "a", plan: ClipPlan = plan) -> list[list[int]] | None:
        item = VideoItem(id=name, path=str(path), draw=draw, start_s=10.0, end_s=14.0)
        return next(iter(load_clips([item], plan, num_workers=0))).indices

    assert clip(0) == clip(0)
    several = [clip(draw) for draw in range(8)] + [clip(0, "b"), clip(0, plan=replace(plan, seed=1))]
    assert len({str(indices) for indices in several}) > 4
    assert clip(3, plan=PLAN) == [[64, 66, 68, 70]]


def test_pixels_are_those_of_the_named_frames(tmp_path: Path) -> None:
    levels = np.linspace(20, 230, 120).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (120, 16, 16, 3)).copy()
    path = write_video(tmp_path / "a.mp4", frames)
    item = VideoItem(id="a", path=str(path), start_s=10.0, end_s=14.0)
    loaded = next(iter(load_clips([item], PLAN, num_workers=0)))
    assert loaded.indices is not None and loaded.pixels is not None
    shown = loaded.pixels[0, 0].float().mean(dim=(1, 2, 3)).numpy()
    assert np.allclose(shown, levels[loaded.indices[0]], atol=4)
