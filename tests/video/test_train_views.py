"""Training views: one draw for a clip, from streams of its own; within half of 255 of the official chain; erasing."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from numpy.typing import NDArray
from PIL import Image
from support import write_video
from timm.data import create_transform
from torch import Tensor
from video.timm_chain import blurred_noise, official_clip

from bench.core.errors import BenchError
from bench.video.augment import draw_erasing
from bench.video.clip_views import VideoItem, random_state
from bench.video.decode import open_video, read_frames
from bench.video.loader import load_clips
from bench.video.train_views import ImageView, TrainViews, VideoView
from bench.video.views import IMAGENET_MEAN, IMAGENET_STD, normalise

PLAN = TrainViews(4, frame_step=2, num_segments=3, size=24, policy="official-video", seed=0)
IMAGES = replace(PLAN, frames_per_clip=2, num_segments=1, policy="official-image")
ITEM = VideoItem("a", "")
OTHERS = [
    (PLAN, replace(ITEM, id="b")),
    (PLAN, replace(ITEM, draw=1)),
    (replace(PLAN, seed=1), ITEM),
]


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> VideoItem:
    return VideoItem("a", str(write_video(tmp_path_factory.mktemp("videos") / "a.mp4", blurred_noise(60, 48, 64))))


def views(plan: TrainViews, item: VideoItem) -> tuple[NDArray[np.uint8], list[list[int]]]:
    out = np.empty(plan.shape, np.uint8)
    with open_video(item.path) as video:
        indices = plan.fill(item, video, out)
    return out, indices


def finished(pixels: Tensor, items: list[VideoItem], plan: TrainViews) -> Tensor:
    """Items' pixels as one batch; in smaller ones they are the same."""
    clips = pixels.flatten(0, 2)
    parts = [
        torch.cat(list(plan.finish(clips, items, IMAGENET_MEAN, IMAGENET_STD, size, torch.device("cpu"))))
        for size in (len(clips), 2)
    ]
    assert torch.equal(*parts)
    return parts[0]


def erased_items(plan: TrainViews, count: int) -> list[VideoItem]:
    """Items of which the first segment is erased."""
    items = (VideoItem(str(number), "") for number in itertools.count())
    return list(itertools.islice((item for item in items if plan.draw_erasing(item, 0)), count))


def some_pixels(plan: TrainViews, count: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(0).randint(0, 256, (count, *plan.shape)).astype(np.uint8))


def test_pixels_are_what_was_drawn_for_each_segment_applied_to_its_frames(item: VideoItem) -> None:
    out, indices = views(PLAN, item)
    assert out.shape == (1, 3, 4, 24, 24, 3)
    for segment in range(3):
        view = PLAN.draw_view(item, segment, 48, 64)
        frames = read_frames(item.path, indices[segment])
        assert np.array_equal(out[0, segment], view.apply(frames, 24))


def test_every_segment_has_a_random_window_of_its_own(item: VideoItem) -> None:
    starts = []
    for draw in range(25):
        _, indices = views(PLAN, replace(item, draw=draw))
        for segment, clip in enumerate(indices):
            assert segment * 20 <= clip[0] and clip[-1] < (segment + 1) * 20  # 60 frames, 3 segments
            assert clip[-1] - clip[0] == 7
        starts.append([clip[0] - 20 * segment for segment, clip in enumerate(indices)])
    assert len({start for start, _, _ in starts}) > 5
    assert any(len(set(segments)) == 3 for segments in starts)


def test_a_short_video_repeats_its_frames_in_every_segment(tmp_path: Path) -> None:
    item = VideoItem("short", str(write_video(tmp_path / "short.mp4", blurred_noise(3, 48, 64))))
    out, indices = views(PLAN, item)
    assert indices == [[0, 1, 1, 1]] * 3
    assert np.array_equal(out[0, 0, 1], out[0, 0, 3]) and not np.array_equal(out[0, 0], out[0, 1])


def test_the_part_between_two_times_is_what_windows_are_drawn_from(item: VideoItem) -> None:
    plan = replace(PLAN, num_segments=1)
    for draw in range(10):
        _, ((*frames,),) = views(plan, replace(item, draw=draw, start_s=2.0, end_s=5.0))  # 8 frames a second
        assert frames[0] >= 16 and frames[-1] < 40


def test_equal_draws_give_equal_views_and_others_do_not(item: VideoItem) -> None:
    out, indices = views(PLAN, item)
    again, same_indices = views(replace(PLAN), replace(item, path=item.path))
    assert np.array_equal(out, again) and indices == same_indices
    for plan, other in OTHERS:
        different, _ = views(plan, replace(other, path=item.path))
        assert all(not np.array_equal(out[0, segment], different[0, segment]) for segment in range(3))


def test_what_is_drawn_depends_on_seed_id_draw_and_segment() -> None:
    def drawn(plan: TrainViews, item: VideoItem, segment: int) -> list[Any]:
        return [plan.draw_view(item, segment, 200, 300), *plan.stream(item, segment, "window").randint(1 << 30, size=4)]

    first = drawn(PLAN, ITEM, 0)
    assert first == drawn(replace(PLAN, num_segments=8), replace(ITEM, path="elsewhere", attempt=2), 0)
    assert all(first != drawn(plan, item, 0) for plan, item in OTHERS)
    assert first != drawn(PLAN, ITEM, 1)


def test_no_two_kinds_of_draw_share_a_stream() -> None:
    purposes = ("window", "crop", "augmentation", "erasing")
    streams = [PLAN.stream(ITEM, segment, purpose) for segment in range(3) for purpose in purposes]
    streams.append(random_state(PLAN.seed, ITEM.id, ITEM.draw))  # of the test views
    assert len({stream.randint(1 << 30) for stream in streams}) == len(streams)


def test_pixels_do_not_depend_on_the_number_of_workers(item: VideoItem) -> None:
    items = [replace(item, draw=draw) for draw in range(4)]
    here, there = (list(load_clips(items, PLAN, num_workers=number)) for number in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert one.pixels is not None and other.pixels is not None
        assert torch.equal(one.pixels, other.pixels) and one.indices == other.indices


@pytest.mark.parametrize("plan", [PLAN, IMAGES], ids=["video", "image"])
def test_the_callers_random_state_is_left_alone(item: VideoItem, plan: TrainViews) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    for draw in range(4):
        pixels, _ = views(plan, replace(item, draw=draw))
        finished(torch.from_numpy(pixels[None]), [replace(item, draw=draw)], plan)
    finished(some_pixels(plan, 2), erased_items(plan, 2), plan)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_clip_is_within_half_of_255_of_the_official_one() -> None:
    frames = blurred_noise(3, 60, 80)
    std = torch.tensor(IMAGENET_STD).reshape(3, 1, 1, 1)
    for number in range(40):
        view = PLAN.draw_view(VideoItem(str(number), ""), 0, 60, 80)
        assert isinstance(view, VideoView)
        ours = normalise(torch.from_numpy(view.apply(frames, 24)))
        error = ((ours - official_clip(frames, view, 24)) * std * 255).abs().max()
        assert error <= 0.5 + 1e-3  # float32 of both sides


@pytest.mark.parametrize("policy", ["official-video", "official-image"])
def test_a_still_clip_stays_still(policy: Any) -> None:
    plan = replace(PLAN, policy=policy)
    frames = blurred_noise(1, 40, 50).repeat(3, axis=0)
    for number in range(20):
        clip = plan.draw_view(VideoItem(str(number), ""), 0, 40, 50).apply(frames, 24)
        assert clip.shape == (3, 24, 24, 3) and (clip == clip[:1]).all()


def test_crops_are_the_papers_and_only_images_are_flipped() -> None:
    crops = {
        plan.policy: [plan.draw_view(VideoItem(str(number), ""), 0, 240, 320).crop for number in range(800)]
        for plan in (PLAN, IMAGES)
    }
    for drawn in crops.values():
        areas = np.array([crop.height * crop.width for crop in drawn]) / (240 * 320)
        aspects = np.array([crop.width / crop.height for crop in drawn])
        assert 0.078 < areas.min() < 0.1 and 0.88 < areas.max() <= 1
        assert 0.74 < aspects.min() < 0.77 and 1.3 < aspects.max() < 1.35
    assert not any(crop.flipped for crop in crops["official-video"])
    assert abs(np.mean([crop.flipped for crop in crops["official-image"]]) - 0.5) < 5 * 0.5 / np.sqrt(800)


def test_images_are_cropped_flipped_and_changed_in_timms_order() -> None:
    image = blurred_noise(1, 70, 90)
    names = set()
    for number in range(60):
        view = IMAGES.draw_view(VideoItem(str(number), ""), 0, 70, 90)
        assert isinstance(view, ImageView)
        crop = view.crop
        expected = TF.resized_crop(
            Image.fromarray(image[0]),
            crop.top,
            crop.left,
            crop.height,
            crop.width,
            [32, 32],
            TF.InterpolationMode.BICUBIC,
        )
        expected = TF.hflip(expected) if crop.flipped else expected
        for op in view.ops:
            expected = op.function(expected, *op.arguments, **op.options)
            names.add(op.name)
        assert np.array_equal(view.apply(image, 32)[0], np.asarray(expected))
    assert len(names) > 7


def test_timms_transform_for_images_has_our_numbers() -> None:
    crop, flip, _, *_, erasing = create_transform(
        64, is_training=True, auto_augment="original", interpolation="bicubic", re_prob=0.25, re_mode="pixel"
    ).transforms
    assert (crop.scale, crop.ratio, crop.interpolation) == ((0.08, 1.0), (3 / 4, 4 / 3), TF.InterpolationMode.BICUBIC)
    assert flip.p == 0.5
    assert (erasing.probability, erasing.min_area, erasing.max_area) == (0.25, 0.02, 1 / 3)
    assert erasing.log_aspect_ratio == (np.log(0.3), np.log(1 / 0.3))
    assert (erasing.min_count, erasing.max_count, erasing.per_pixel) == (1, 1, True)


def test_a_quarter_of_the_clips_is_erased_in_boxes_of_the_papers_sizes() -> None:
    rng = np.random.RandomState(0)
    drawn = [draw_erasing(224, rng, attempts=100, still=False) for _ in range(8000)]
    boxes = [erasing.box for erasing in drawn if erasing]
    assert abs(len(boxes) / 8000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 8000)
    areas = np.array([box.height * box.width for box in boxes]) / 224**2
    aspects = np.log([box.height / box.width for box in boxes])
    assert 0.0195 < areas.min() < 0.022 and 0.32 < areas.max() < 0.335
    assert abs(areas.mean() - (0.02 + 1 / 3) / 2) < 0.01
    assert np.abs(aspects).max() < np.log(1 / 0.3) + 0.03 and abs(aspects.mean()) < 0.1
    assert min(box.top for box in boxes) == min(box.left for box in boxes) == 0
    assert max(box.bottom for box in boxes) == max(box.right for box in boxes) == 224


def test_finished_clips_are_normalised_and_noise_inside_the_box() -> None:
    plan = replace(PLAN, num_segments=1)
    items = erased_items(plan, 6)
    pixels = some_pixels(plan, 6)
    clips = finished(pixels, items, plan)
    assert clips.shape == (6, 3, 4, 24, 24) and clips.dtype == torch.float32
    expected = normalise(pixels).flatten(0, 2)
    values = []
    for clip, plain, item in zip(clips, expected, items, strict=True):
        erasing = plan.draw_erasing(item, 0)
        assert erasing is not None
        inside = torch.zeros(24, 24, dtype=torch.bool)
        inside[erasing.box.top : erasing.box.bottom, erasing.box.left : erasing.box.right] = True
        assert torch.equal(clip[:, :, ~inside], plain[:, :, ~inside])
        noise = clip[:, :, inside]  # [3, T, pixels]
        assert len(noise.unique()) > 0.99 * noise.numel()  # fresh in every frame, pixel and channel
        values.append(noise.flatten())
    noise = torch.cat(values)
    assert abs(noise.mean()) < 5 / len(noise) ** 0.5 and abs(noise.std() - 1) < 5 / len(noise) ** 0.5


def test_the_frames_of_an_image_get_the_same_noise() -> None:
    (item,) = erased_items(IMAGES, 1)
    still = some_pixels(IMAGES, 1)
    still[:, :, :, 1:] = still[:, :, :, :1]
    (clip,) = finished(still, [item], IMAGES)
    assert torch.equal(clip[:, 0], clip[:, 1])
    assert not torch.equal(clip, normalise(still).flatten(0, 2)[0])


def test_clips_do_not_depend_on_their_batch_and_come_segment_by_segment() -> None:
    items = [VideoItem(str(number), "", draw=number % 2) for number in range(8)]
    pixels = some_pixels(PLAN, 8)
    together = finished(pixels, items, PLAN)
    assert torch.equal(together, finished(pixels, items, PLAN))
    for number, item in enumerate(items):
        assert torch.equal(together[3 * number : 3 * number + 3], finished(pixels[number : number + 1], [item], PLAN))
    for plan, other in OTHERS:
        assert plan.draw_erasing(other, 0) != PLAN.draw_erasing(ITEM, 0) or plan.draw_erasing(other, 0) is None


def test_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="are not 2 times"):
        finished(some_pixels(PLAN, 1), [ITEM, ITEM], PLAN)


@pytest.mark.parametrize("name", ["frames_per_clip", "frame_step", "num_segments", "size"])
def test_a_plan_without_pixels_is_refused(name: str) -> None:
    with pytest.raises(BenchError, match=f"{name} is 0"):
        replace(PLAN, **{name: 0})


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(BenchError, match=r"unknown augmentation policy 'mixup'.*official-video"):
        replace(PLAN, policy="mixup")  # type: ignore[arg-type]


def test_a_pace_by_time_sets_the_step_of_every_video(item: VideoItem) -> None:
    timed, plain = replace(PLAN, fps=2.0), replace(PLAN, frame_step=4)  # of 8 frames a second
    assert [clips.indices for clips in load_clips([item], timed, num_workers=0)] == [
        clips.indices for clips in load_clips([item], plain, num_workers=0)
    ]
