"""Folders of frames, still and animated images are opened as videos are, and hold the pixels that Pillow gives."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import segment_indices
from bench.video.contents import bytes_of, content_id, content_ids
from bench.video.decode import DecodeError, open_video, probe_video, read_frames
from bench.video.image_frames import frame_files, holds_frames, is_image, is_still, reader_of
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


PICTURES = np.random.RandomState(0).randint(0, 256, (6, 48, 64, 3), dtype=np.uint8)


def write(path: Path, pictures: np.ndarray = PICTURES, **how: Any) -> Path:
    first, *others = [Image.fromarray(picture) for picture in pictures]
    if path.suffix == ".webp":
        how = {"lossless": True, **how}
    several = {"save_all": True, "append_images": others} if others else {}
    first.save(path, **several, **how)
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.webp", {"duration": 40}),
        ("a.png", {"duration": 40}),
        ("A.PNG", {"duration": 40}),
        ("a.tif", {}),
        ("lzw.tiff", {"compression": "tiff_lzw"}),
        ("big.tif", {"big_tiff": True}),
    ],
)
def test_all_pictures_of_an_animation_are_frames_in_any_order(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / name, **how)
    with open_video(path, fps=25.0) as opened:
        info = opened.info
        assert (info.num_frames, info.height, info.width, info.fps) == (6, 48, 64, 25.0)
        for wanted in ([0, 1, 2, 3, 4, 5], [4], [1, 5], [5, 0, 3, 3]):
            assert np.array_equal(opened.read(wanted), PICTURES[wanted])
    assert not is_still(path) or name.endswith(("tif", "tiff"))


def test_times_of_a_webp_make_its_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "a.webp", duration=[20, 100] * 3)
    info = probe_video(path)
    assert info.fps == pytest.approx(6 / 0.36)
    assert info.frames_between(0.1, 0.25, where="a.webp") == (2, 5), "shown at 0, 20, 120, 140, 240 and 260 ms"
    assert info.on_screen(np.array([0.01, 0.06, 0.13])).tolist() == [0, 1, 2]
    assert probe_video(write(tmp_path / "a.tif")).fps == 0


def test_pictures_that_cover_a_part_are_laid_over_the_ones_before(tmp_path: Path) -> None:
    moving = np.zeros((6, 48, 64, 3), np.uint8)
    moving[:, :, :, 1] = 90
    for number, picture in enumerate(moving):
        picture[8 * number : 8 * number + 8, 10:20] = (255, 0, 0)
    for name in ("a.webp", "a.png"):
        assert np.array_equal(read_frames(write(tmp_path / name, moving, duration=40), range(6)), moving)


def test_the_picture_that_an_apng_shows_where_it_cannot_move_is_no_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", default_image=True, duration=40)
    assert np.array_equal(read_frames(path, range(5)), PICTURES[1:]) and probe_video(path).num_frames == 5


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif", "a.tif"])
def test_a_still_image_stays_one_and_its_key_is_that_of_its_bytes(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, PICTURES[:1]) if name != "a.jpg" else tmp_path / name
    if name == "a.jpg":  # as a telephone writes it: the photograph, and a second picture behind it
        first, second = (Image.fromarray(picture) for picture in PICTURES[:2])
        first.save(path, "MPO", save_all=True, append_images=[second])
        assert Image.open(path).n_frames == 2
    assert probe_video(path).num_frames == 1 and len(content_id(str(path))) == 32
    assert reader_of(path) == ("video" if name in ("a.gif", "a.tif") else "still")


def test_reduced_pages_and_masks_beside_a_picture_are_no_frames(tmp_path: Path) -> None:
    pages = [Image.fromarray(PICTURES[0]), Image.fromarray(PICTURES[0]).resize((16, 12))]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(1)
        assert image.tag_v2[254] == 1 and image.size == (16, 12)
    assert probe_video(tmp_path / "a.tif").num_frames == 1
    assert np.array_equal(read_frames(tmp_path / "a.tif", [0])[0], PICTURES[0])


def test_pages_that_do_not_make_a_video_are_named(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture) for picture in PICTURES]
    pages[0].save(tmp_path / "sizes.tif", save_all=True, append_images=[pages[1].resize((10, 10))])
    with pytest.raises(DecodeError, match="page 1 is 10x10 pixels, the first 64x48"):
        read_frames(tmp_path / "sizes.tif", [0, 1])
    deep = [Image.fromarray(picture[..., 0].astype(np.uint16) * 200) for picture in PICTURES]
    deep[0].save(tmp_path / "deep.tif", save_all=True, append_images=deep[1:])
    with pytest.raises(DecodeError, match="more than 8 bits"):
        read_frames(tmp_path / "deep.tif", [0])


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif"])
def test_an_animation_that_is_cut_off_is_refused(name: str, part: float, tmp_path: Path, capfd: Any) -> None:
    content = write(tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    with pytest.raises(DecodeError):
        read_frames(tmp_path / name, range(6))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["2.webp", "2.png"])
def test_a_frame_of_a_folder_is_one_picture(name: str, tmp_path: Path) -> None:
    write(tmp_path / "1.png", PICTURES[:1])
    write(tmp_path / name)
    with pytest.raises(DecodeError, match=rf"{name}: holds more than one picture"):
        read_frames(tmp_path, [0, 1])


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.mp4"])
def test_a_pipe_is_judged_by_its_name(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    assert reader_of(tmp_path / name) == ("video" if name == "a.mp4" else "still")
    assert is_still(tmp_path / name) == (name != "a.mp4")


READINGS = {
    "jpeg": ({"a.jpg", "b.jpeg", "C.JPG", "really.png"}, {"a.mjpg", "b.jfif", "c.mp4"}),
    "moving gif": ({"a.gif", "a.mp4", "a.jpg"},),
    "still gif": ({"a.gif", "a.mp4"}, {"a.jpg", "b.png"}),
    "still webp": ({"a.webp", "b.png"}, {"a.mp4"}),
    "moving webp": ({"a.webp", "b.png", "a.mp4"},),
    "moving png": ({"a.png", "a.apng", "a.mp4"},),
    "tiff of pages": ({"a.tif", "a.png", "a.mp4"},),
    "still tiff": ({"a.tif", "b.mp4"}, {"a.png"}),
}
"""Content -> names that share a reader."""


@pytest.mark.parametrize("content", READINGS)
def test_equal_bytes_share_features_where_they_share_the_reader(content: str, tmp_path: Path) -> None:
    kind = content.rpartition(" ")[2].replace("pages", "tiff")
    pictures = PICTURES if content.startswith("moving") or "pages" in content else PICTURES[:1]
    first, *others = [Image.fromarray(picture) for picture in pictures]
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(tmp_path / "source", kind, **more)
    ids = []
    for names in READINGS[content]:
        for name in names:
            shutil.copy(tmp_path / "source", tmp_path / name)
        found = content_ids(tmp_path, [str(tmp_path / name) for name in sorted(names)])
        assert len(found) == len(names) and len(set(found.values())) == 1, found
        assert len({reader_of(tmp_path / name) for name in names}) == 1
        ids += set(found.values())
    assert len(set(ids)) == len(READINGS[content]) and len({bytes_of(one) for one in ids}) == 1
