"""Whoever asks for seconds gets the frames that are shown then: spans, key frames, clips before actions, cuts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from containers import NUM_FRAMES, decode_in_order, write

from bench.core.errors import BenchError
from bench.data.verify.reencode import reencode
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import ending_indices
from bench.video.decode import probe_video
from bench.video.frame_views import KeyFramePlan
from bench.video.info import Frames, VideoInfo
from bench.video.loader import load_clips
from bench.video.train_views import TrainViews

EVEN = [number / 25 for number in range(NUM_FRAMES)]
SLOWER = [time if time < 0.64 else 0.64 + 4 * (time - 0.64) for time in EVEN]
LATE = [time + 2 for time in EVEN]
TIMES = {"slower": (SLOWER, 1.0, 2.2), "late": (LATE, 2.2, 2.8)}
"""Times of frames, and a span."""
PLAN = ClipPlan(
    frames_per_clip=3, frame_step=1, num_segments=2, views=1, size=16, sampling="random", seed=0, short_side=None,
    decoder="auto",
)  # fmt: skip
TRAINING = TrainViews(frames_per_clip=3, frame_step=1, num_segments=2, size=16, policy="official-video", seed=0)
KEY_FRAMES = KeyFramePlan(
    frames_per_clip=4, frame_step=2, fps=None, duration_s=None, short_side=16, patch_size=16, square=True,
    decoder="auto", interpolation="opencv-bilinear",
)  # fmt: skip


def info(times_s: list[float]) -> VideoInfo:
    return VideoInfo(len(times_s), 25.0, 48, 64, np.array(times_s))


def inside(times_s: list[float], start_s: float, end_s: float) -> set[int]:
    return {frame for frame, time in enumerate(times_s) if start_s <= time < end_s}


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("plan", [PLAN, TRAINING], ids=["test", "training"])
def test_clips_of_a_span_show_what_is_shown_in_it(
    plan: ClipPlan | TrainViews, name: str, container: str, tmp_path: Path
) -> None:
    times_s, start_s, end_s = TIMES[name]
    path = write(tmp_path, container, "h264-b", times_s=times_s)
    (clips,) = load_clips([VideoItem("a", str(path), start_s=start_s, end_s=end_s)], plan, num_workers=0)
    assert clips.indices is not None, clips.error
    assert {frame for clip in clips.indices for frame in clip} <= inside(times_s, start_s, end_s)


@pytest.mark.parametrize("name", TIMES)
def test_a_cut_holds_the_frames_of_its_span(name: str, tmp_path: Path) -> None:
    times_s, start_s, end_s = TIMES[name]
    path = write(tmp_path, "mkv", "h264-b", times_s=times_s)
    target = tmp_path / "cut.mp4"
    reencode(str(path), target, fps=None, segment=(start_s, end_s), short_side=None, gop=8, alive=lambda: None)
    wanted = sorted(inside(times_s, start_s, end_s))
    cut, whole = decode_in_order(target), decode_in_order(path)
    assert len(cut) == len(wanted)
    assert [nearest_picture(frame, whole) for frame in cut] == wanted


def nearest_picture(frame: Frames, whole: Frames) -> int:
    return int(np.abs(whole.astype(int) - frame.astype(int)).mean(axis=(1, 2, 3)).argmin())


@pytest.mark.parametrize(
    ("times_s", "second", "key"), [(SLOWER, 0.4, 10), (SLOWER, 1.6, 22), (SLOWER, 1.51, 21), (LATE, 2.4, 10)]
)
def test_a_key_frame_is_the_one_nearest_to_its_second(times_s: list[float], second: float, key: int) -> None:
    item = VideoItem("a", "a.mp4", start_s=second)
    assert KEY_FRAMES.indices(item, info(times_s)) == [key - 4, key - 2, key, key + 2]
    by_time = replace(KEY_FRAMES, frame_step=1, fps=6.25).indices(item, info(times_s))
    wanted = [second + step / 6.25 for step in (-2, -1, 0, 1)]
    assert np.abs(np.array(times_s)[by_time] - wanted).max() <= 0.08 and by_time[2] == key


@pytest.mark.parametrize("second", [1.0, 4.0])
def test_a_key_frame_outside_of_the_video_is_an_error(second: float) -> None:
    with pytest.raises(BenchError, match=f"no frame at second {second:g}"):
        KEY_FRAMES.indices(VideoItem("a", "a.mp4", start_s=second), info(LATE))


def test_a_clip_before_an_action_shows_nothing_later_than_its_end() -> None:
    clip = ending_indices(info(SLOWER), 2.5, 3.0, (1.0, 1.0), 8, 12.5, where="a.mp4")
    ends = [1.5 - step / 12.5 for step in range(8, 0, -1)]
    assert clip == [max(frame for frame, time in enumerate(SLOWER) if time <= end + 1e-9) for end in ends]
    assert ending_indices(info(LATE), 2.5, 3.0, (1.0, 1.0), 4, 12.5, where="a.mp4") == [0] * 4
    with pytest.raises(BenchError, match="the video has 32"):
        ending_indices(info(SLOWER), 9.0, 9.5, (1.0, 1.0), 4, 12.5, where="a.mp4")


def test_frame_numbers_of_annotations_stay_frame_numbers() -> None:
    even = VideoInfo(NUM_FRAMES, 25.0, 48, 64)
    asked = (20 / 25, 28 / 25, (0.2, 0.0), 4, 8)
    clip = ending_indices(info(SLOWER), *asked, by_number=True, where="a.mp4")
    assert clip == ending_indices(even, *asked, where="a.mp4") == [11, 14, 17, 20]


def test_rates_that_a_header_guesses_are_measured(tmp_path: Path) -> None:
    found = probe_video(write(tmp_path, "mkv", "h264-b", times_s=SLOWER))
    assert found.fps == pytest.approx((NUM_FRAMES - 1) / SLOWER[-1], abs=1e-3)
