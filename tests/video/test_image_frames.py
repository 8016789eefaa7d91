"""Folders of frames and still images are opened as videos are, and hold the pixels that Pillow gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import segment_indices
from bench.video.decode import DecodeError, open_video, probe_video, read_frames
from bench.video.image_frames import frame_files, holds_frames, is_image
from bench.video.loader import LoadedClips, load_clips
from bench.video.views import crop_views

PLAN = ClipPlan(
    frames_per_clip=4, frame_step=2, num_segments=2, views=3, size=24, sampling="center", seed=0, short_side=None,
    decoder="auto",
)  # fmt: skip


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)


def write_folder(folder: Path, frames: int, height: int = 40, width: int = 56, suffix: str = ".png") -> np.ndarray:
    """Frames `1.png`, `2.png` and on, without leading zeros; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    video = np.stack([noise(height, width, number) for number in range(frames)])
    for number, frame in enumerate(video, start=1):
        Image.fromarray(frame).save(folder / f"{number}{suffix}")
    return video


def load(item: VideoItem, plan: ClipPlan = PLAN) -> LoadedClips:
    (clips,) = load_clips([item], plan, num_workers=0)
    return clips


def test_frames_are_in_natural_order_whatever_else_lies_there(tmp_path: Path) -> None:
    video = write_folder(tmp_path / "clip", 12)
    (tmp_path / "clip" / ".3.png").write_bytes(b"left by a copy")
    (tmp_path / "clip" / "Thumbs.db").write_bytes(b"left by a viewer")
    (tmp_path / "clip" / "5.png").rename(tmp_path / "clip" / "5.PNG")
    assert [entry.name for entry in frame_files(tmp_path / "clip")][8:11] == ["9.png", "10.png", "11.png"]
    with open_video(tmp_path / "clip") as opened:
        info = opened.info
        assert (info.num_frames, info.fps, info.height, info.width) == (12, 0.0, 40, 56)
        assert np.array_equal(opened.read([0, 11, 4, 4]), video[[0, 11, 4, 4]])


@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord"])
def test_the_rate_is_the_one_that_is_given(tmp_path: Path, decoder: str) -> None:
    write_folder(tmp_path / "clip", 2)
    with open_video(tmp_path / "clip", decoder, 12.0) as opened:  # type: ignore[arg-type]
        assert opened.info.fps == 12


def test_a_folder_gives_the_views_of_its_frames(tmp_path: Path) -> None:
    video = write_folder(tmp_path / "clip", 30)
    clips = load(VideoItem("a", str(tmp_path / "clip")))
    expected = segment_indices(30, 4, 2, 2)
    assert clips.indices == expected and clips.pixels is not None
    for segment, indices in enumerate(expected):
        assert torch.equal(clips.pixels[:, segment], crop_views(video[indices], 24, 3))


def test_times_restrict_a_folder_whose_rate_is_known(tmp_path: Path) -> None:
    write_folder(tmp_path / "clip", 30)
    item = VideoItem("a", str(tmp_path / "clip"), start_s=1.0, end_s=2.0)
    assert load(replace(item, fps=10.0)).indices == [[10 + i for i in clip] for clip in segment_indices(10, 4, 2, 2)]
    assert "frame rate is unknown" in str(load(item).error)
    for times in ((3.0, None), (2.5, 2.5), (2.0, 1.0)):
        clips = load(replace(item, fps=10.0, start_s=times[0], end_s=times[1]))
        assert "no frame between" in str(clips.error) and "lasts 3.00 s" in str(clips.error)


def test_frames_of_another_size_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "clip", 3)
    Image.fromarray(noise(20, 20)).save(tmp_path / "clip" / "2.png")
    with pytest.raises(DecodeError, match=r"2\.png: is 20x20 pixels, the first frame of its folder is 56x40"):
        read_frames(tmp_path / "clip", [0, 1])


@pytest.mark.parametrize("content", [b"", b"not a frame", "cut"])
def test_a_damaged_frame_is_named(tmp_path: Path, content: bytes | str) -> None:
    write_folder(tmp_path / "clip", 3, suffix=".jpg")
    damaged = tmp_path / "clip" / "3.jpg"
    damaged.write_bytes(damaged.read_bytes()[:600] if isinstance(content, str) else content)
    with pytest.raises(DecodeError) as caught:
        read_frames(tmp_path / "clip", [2])
    assert "3.jpg" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_frames_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(DecodeError, match="holds no frames"):
        probe_video(tmp_path)
    assert not holds_frames(tmp_path)


def test_a_still_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    picture = noise(40, 56)
    Image.fromarray(picture).save(tmp_path / "photo.PNG")
    assert is_image(tmp_path / "photo.PNG") and not is_image(tmp_path / "photo.mp4")
    clips = load(VideoItem("a", str(tmp_path / "photo.PNG")))
    assert clips.indices == [[0] * 4] * 2, "as V-JEPA 2 takes an image among videos"
    assert clips.pixels is not None
    assert torch.equal(clips.pixels[:, 1], crop_views(np.stack([picture] * 4), 24, 3))
    by_rate = load(VideoItem("a", str(tmp_path / "photo.PNG")), replace(PLAN, fps=4.0))
    assert by_rate.error is None, "an image needs no rate"
    timed = load(VideoItem("a", str(tmp_path / "photo.PNG"), start_s=1.0))
    assert "frame rate is unknown" in str(timed.error)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1", "I;16", "LA"])
def test_every_kind_of_image_becomes_rgb_as_torchvision_makes_it(tmp_path: Path, mode: str) -> None:
    from torchvision.datasets.folder import pil_loader

    image = Image.fromarray(noise(9, 7)).convert("L" if mode == "I;16" else mode)
    path = tmp_path / f"image.{'jpg' if mode == 'CMYK' else 'png'}"
    (Image.fromarray(np.asarray(image).astype(np.uint16) * 200) if mode == "I;16" else image).save(path)
    assert np.array_equal(read_frames(path, [0])[0], np.asarray(pil_loader(str(path))))


def test_the_orientation_in_exif_is_passed_over_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    image = Image.fromarray(noise(40, 56))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "phone.jpg", exif=exif)
    assert np.array_equal(read_frames(tmp_path / "phone.jpg", [0])[0], np.asarray(pil_loader(tmp_path / "phone.jpg")))


@pytest.mark.parametrize(("content", "reason"), [(None, "no such file"), (b"", "empty"), (b"text", "not an image")])
def test_unreadable_images_say_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(DecodeError, match=reason):
        read_frames(tmp_path / "photo.jpg", [0])
