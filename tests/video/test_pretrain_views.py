"""One crop and one flip for a clip, the rectangle of the papers' sampler, the pixels of a bilinear resize."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from support import write_video

from bench.core.errors import BenchError
from bench.video.clip_views import VideoItem
from bench.video.decode import open_video, read_frames
from bench.video.loader import load_clips
from bench.video.pretrain_views import Augmentation, Crop, TrainingPlan, draw_crop

DEFAULT = Augmentation()
PLAN = TrainingPlan(num_clips=1, num_frames=4, frame_step=2, size=16, augmentation=DEFAULT, seed=0, decoder="auto")


def noise(frames: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.RandomState(0).randint(0, 256, (frames, height, width, 3)).astype(np.uint8)


def slow_resize(picture: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Bilinear, pixel centres at halves, pixel by pixel: [H, W, 3] -> [S, S, 3]."""

    def neighbours(place: int, length: int) -> tuple[int, int, float]:
        position = max(0.0, (place + 0.5) * length / size - 0.5)
        first = min(math.floor(position), length - 1)
        return first, min(first + 1, length - 1), position - first

    height, width = picture.shape[:2]
    out = np.empty((size, size, 3))
    for i in range(size):
        top, bottom, down = neighbours(i, height)
        for j in range(size):
            left, right, across = neighbours(j, width)
            upper = (1 - across) * picture[top, left] + across * picture[top, right]
            lower = (1 - across) * picture[bottom, left] + across * picture[bottom, right]
            out[i, j] = (1 - down) * upper + down * lower
    return out


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(("height", "width"), [(20, 31), (7, 5), (16, 16), (1, 1)])
def test_a_crop_is_cut_resized_and_flipped(height: int, width: int, flipped: bool) -> None:
    frames = noise(2, 40, 50)
    ours = Crop(top=3, left=6, height=height, width=width, flipped=flipped).apply(frames, 16)
    for frame, picture in zip(frames, ours, strict=True):
        expected = slow_resize(frame[3 : 3 + height, 6 : 6 + width], 16)
        expected = expected[:, ::-1] if flipped else expected
        assert np.abs(picture - expected).max() <= 1.0
    assert ours.dtype == np.uint8 and ours.flags.c_contiguous


def test_a_clip_has_one_crop_and_one_flip() -> None:
    still = noise(1, 40, 50).repeat(3, axis=0)
    for seed in range(8):
        clip = draw_crop(40, 50, DEFAULT, np.random.RandomState(seed)).apply(still, 16)
        assert clip.shape == (3, 16, 16, 3)
        assert np.array_equal(clip[0], clip[1]) and np.array_equal(clip[0], clip[2])


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1000))
@settings(deadline=None, max_examples=200)
def test_crops_lie_in_the_frame(height: int, width: int, seed: int) -> None:
    crop = draw_crop(height, width, DEFAULT, np.random.RandomState(seed))
    assert crop.height >= 1 and 0 <= crop.top <= height - crop.height
    assert crop.width >= 1 and 0 <= crop.left <= width - crop.width


def test_areas_and_aspects_fill_their_ranges() -> None:
    # Frames of 240 x 320 hold nearly all first draws, so that hardly any is rejected up to 0.6 of the area.
    augmentation = Augmentation(scale=(0.3, 0.6))
    rng = np.random.RandomState(0)
    crops = [draw_crop(240, 320, augmentation, rng) for _ in range(2000)]
    areas = np.array([crop.height * crop.width for crop in crops]) / (240 * 320)
    aspects = np.log([crop.width / crop.height for crop in crops])
    assert areas.min() > 0.295 and areas.max() < 0.605 and abs(areas.mean() - 0.45) < 0.01
    low, high = math.log(0.75), math.log(1.35)
    assert aspects.min() > low - 0.02 and aspects.max() < high + 0.02
    assert abs(aspects.mean() - (low + high) / 2) < 0.02
    tops = np.array([crop.top / (240 - crop.height) for crop in crops if crop.height < 240])
    assert abs(tops.mean() - 0.5) < 0.03


def test_half_of_the_crops_are_flipped() -> None:
    rng = np.random.RandomState(0)
    count = sum(draw_crop(48, 64, DEFAULT, rng).flipped for _ in range(1000))
    assert 420 < count < 580  # five standard deviations
    assert not any(draw_crop(48, 64, Augmentation(flip=0), rng).flipped for _ in range(50))
    assert all(draw_crop(48, 64, Augmentation(flip=1), rng).flipped for _ in range(50))


@pytest.mark.parametrize(
    ("frame", "rectangle"),
    [((10, 400), (0, 193, 10, 14)), ((400, 10), (193, 0, 13, 10))],
    ids=["wide", "tall"],
)
def test_a_frame_that_no_rectangle_fits_gives_its_centre(
    frame: tuple[int, int], rectangle: tuple[int, int, int, int]
) -> None:
    crop = draw_crop(*frame, Augmentation(scale=(0.9, 1.0)), np.random.RandomState(0))
    assert (crop.top, crop.left, crop.height, crop.width) == rectangle


@pytest.mark.parametrize(
    "changes",
    [{"scale": (0.0, 1.0)}, {"scale": (0.5, 1.1)}, {"aspect": (1.3, 0.7)}, {"flip": 1.5}, {"zoom": 2}],
)
def test_an_augmentation_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        Augmentation.model_validate(changes)


@pytest.mark.parametrize("name", ["num_clips", "num_frames", "frame_step", "size"])
def test_a_plan_without_pixels_is_refused(name: str) -> None:
    with pytest.raises(BenchError, match=name):
        TrainingPlan(**{**vars(PLAN), name: 0})


def test_pixels_are_the_crops_of_the_sampled_frames(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4", noise(30, 24, 32)))
    whole = Augmentation(scale=(1, 1), aspect=(4 / 3, 4 / 3), flip=0)
    plan = TrainingPlan(**{**vars(PLAN), "num_clips": 2, "augmentation": whole})
    (clips,) = load_clips([VideoItem("a", path)], plan, num_workers=0)
    assert clips.pixels is not None and clips.indices is not None and clips.pixels.shape == (2, 4, 16, 16, 3)
    assert clips.indices[0] != clips.indices[1]
    for pixels, indices in zip(clips.pixels.numpy(), clips.indices, strict=True):
        assert np.array_equal(pixels, Crop(0, 0, 24, 32, flipped=False).apply(read_frames(path, indices), 16))


def test_a_video_of_one_window_gives_all_of_it_and_a_shorter_one_fails(tmp_path: Path) -> None:
    for length in (7, 8):
        write_video(tmp_path / f"{length}.mp4", noise(length, 16, 16))
    with open_video(tmp_path / "8.mp4") as video:
        out = np.empty(PLAN.shape, np.uint8)
        assert PLAN.fill(VideoItem("v", "8.mp4"), video, out) == [[0, 2, 5, 7]]
    (clips,) = load_clips([VideoItem("v", str(tmp_path / "7.mp4"))], PLAN, num_workers=0)
    assert clips.error == f"{tmp_path}/7.mp4: has 7 frames, a clip spans 8 (4 frames, step 2)"
