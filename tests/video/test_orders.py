"""Frame orders: exact, drawn from the sample alone, and the same for test clips and training views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, cast

import numpy as np
import pytest

from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.decode import Video
from bench.video.info import VideoInfo
from bench.video.orders import in_order
from bench.video.train_views import TrainViews

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
