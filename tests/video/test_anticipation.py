"""Clips that end before an action: the official frame numbers, and draws that depend on sample and draw alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import write_video

from bench import BenchError
from bench.video.anticipation import Anchor, Ending, ending_indices
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.info import VideoInfo
from bench.video.loader import load_clips

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
