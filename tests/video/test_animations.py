"""Files with several pictures are videos where a player shows them so; who reads a file is known before it is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.video.contents import bytes_of, content_id, content_ids
from bench.video.decode import DecodeError, open_video, probe_video, read_frames
from bench.video.readers import is_still, reader_of

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
