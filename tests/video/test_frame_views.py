"""The clip of a key frame: which frames, at which size, whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import write_video

from bench.core.errors import BenchError
from bench.video import decode
from bench.video.clip_views import VideoItem
from bench.video.frame_views import KeyFramePlan
from bench.video.info import VideoInfo
from bench.video.loader import load_clips

PLAN = KeyFramePlan(
    frames_per_clip=8,
    frame_step=4,
    fps=7.5,
    duration_s=None,
    short_side=16,
    patch_size=4,
    square=False,
    decoder="auto",
    interpolation="opencv-bilinear",
)


def at(second: float, fps: float, num_frames: int = 1000, plan: KeyFramePlan = PLAN) -> list[int]:
    return plan.indices(VideoItem("a", "a.mp4", start_s=second), VideoInfo(num_frames, fps, 16, 16))


@pytest.mark.parametrize(
    ("fps", "indices"),
    [
        (30.0, [284, 288, 292, 296, 300, 304, 308, 312]),
        (15.0, [142, 144, 146, 148, 150, 152, 154, 156]),
        (24.0, [227, 230, 234, 237, 240, 243, 246, 250]),
        (29.97, [284, 288, 292, 296, 300, 304, 308, 312]),
    ],
)
def test_clips_of_other_frame_rates_span_the_same_time_around_the_key_frame(fps: float, indices: list[int]) -> None:
    assert at(10, fps) == indices


def test_a_step_counts_frames_of_the_video_where_no_rate_is_given() -> None:
    step = KeyFramePlan(**{**vars(PLAN), "fps": None})
    assert at(10, 24.0, plan=step) == [224, 228, 232, 236, 240, 244, 248, 252]


def test_at_the_start_and_the_end_the_first_and_the_last_frame_are_repeated() -> None:
    assert at(0, 30.0) == [0, 0, 0, 0, 0, 4, 8, 12]
    assert at(999 / 30, 30.0) == [983, 987, 991, 995, 999, 999, 999, 999]


@pytest.mark.parametrize("second", [-1.0, 34.0, 902.0])
def test_a_key_frame_outside_its_video_is_no_key_frame(second: float) -> None:
    with pytest.raises(BenchError, match="no frame at second") as caught:
        at(second, 30.0)
    assert "clip.starts_s=900" in str(caught.value)


def test_without_a_rate_there_are_no_times() -> None:
    with pytest.raises(BenchError, match="rate is unknown"):
        at(1, 0.0)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (100, 100, (16, 16)),
        (360, 640, (16, 28)),
        (640, 360, (28, 16)),
        (100, 240, (16, 40)),
        (100, 101, (16, 16)),
        (100, 1000, (16, 48)),
    ],
)
def test_frames_keep_their_shape_in_whole_patches(height: int, width: int, size: tuple[int, int]) -> None:
    assert PLAN.size(height, width) == size


def test_encoders_that_take_squares_see_the_whole_frame_squeezed() -> None:
    assert KeyFramePlan(**{**vars(PLAN), "square": True}).size(360, 640) == (16, 16)


def test_whole_frames_of_different_shapes_come_through_the_loader(tmp_path: Path) -> None:
    wide, high = np.zeros((30, 32, 64, 3), np.uint8), np.zeros((30, 64, 32, 3), np.uint8)
    wide[:, :, 32:], high[:, 32:] = 255, 255
    items = [
        VideoItem(name, str(write_video(tmp_path / f"{name}.mp4", frames, fps=15)), start_s=1.0)
        for name, frames in (("wide", wide), ("high", high))
    ]
    first, second = (PLAN.unpack(c.pixels)[0] for c in load_clips(items, PLAN, num_workers=1) if c.pixels is not None)
    assert first.shape == (8, 16, 32, 3) and second.shape == (8, 32, 16, 3)
    for clip in (first, second.transpose(1, 2)):
        assert clip[:, :, :14].max() < 40 and clip[:, :, 18:].min() > 215
    assert first.dtype == torch.uint8


def test_the_packets_of_a_film_are_read_once_for_all_its_key_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = decode.read_packets
    monkeypatch.setattr(decode, "read_packets", lambda *args: read.append(args[2]) or real(*args))
    frames = np.repeat(np.arange(60, dtype=np.uint8) * 4, 16 * 16 * 3).reshape(60, 16, 16, 3)
    film = write_video(tmp_path / "film.mp4", frames)
    first = decode.read_frames(film, [7, 30])
    assert (decode.read_frames(film, [30, 7]) == first[::-1]).all()
    assert read == [str(film)]
    write_video(film, np.zeros((20, 16, 16, 3), np.uint8))
    assert decode.probe_video(film).num_frames == 20
