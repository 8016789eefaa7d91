"""Image files as frames, and who reads a file: Pillow or FFmpeg.

A folder of images is a video, a single one a video of one frame. Pillow decodes, and `convert("RGB")` makes three
channels of grey, palette, CMYK and transparent images, as torchvision's ImageFolder and with it the official code do.
As there, the orientation that a camera notes in EXIF is not applied: published scores were measured on the pixels as
they are stored.

Of files with more than one picture, FFmpeg reads GIF, APNG and AVIF as the videos that they are, and of WebP and TIFF
nothing or the first picture. Pillow composes the pictures of a WebP as a browser does, and drops transparency. A
reduced image or a mask beside the picture of a TIFF is no frame, nor is what a camera keeps behind a JPEG (MPO).

A name says whether Pillow or FFmpeg reads a file, and the content whether an image is still. The content id of a file
has the reader in it where that is not the usual one for such content, as two libraries do not give the same pixels of
the same bytes.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.core.inputs import ANIMATION, read_bytes
from bench.video.endings import is_cut_off
from bench.video.info import DecodeError, Frames, Seconds, VideoInfo, open_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Suffixes of the files that count as images, in upper or lower case."""

_ANIMATED = ("GIF", "PNG", "WEBP")  # not MPO, whose first picture is the photograph


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a still image; the file is not looked at."""
    return os.fspath(path).lower().endswith(IMAGE_SUFFIXES)


def frame_files(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The images of a folder of frames in natural order (`2.jpg` before `10.jpg`); hidden and other files are left out.

    Raises OSError where the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return sorted(filter(_is_frame, entries), key=lambda entry: _natural(entry.name))


def holds_frames(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds at least one frame. Raises OSError where it cannot be listed."""
    with os.scandir(folder) as entries:
        return any(map(_is_frame, entries))


class ImageFrames:
    """The frames of a folder, or the one of an image."""

    def __init__(self, path: str, fps: float | None = None) -> None:
        self._path = path
        try:
            is_folder = Path(path).is_dir()
            self._files = [entry.path for entry in frame_files(path)] if is_folder else [path]
        except OSError as error:
            raise DecodeError(f"cannot be listed ({error.strerror})", where=path, fix="check the folder") from error
        if not self._files:
            raise DecodeError("the folder holds no frames", where=path, fix=f"frames are {', '.join(IMAGE_SUFFIXES)}")
        height, width = image_size(self._files[0])
        self.info = VideoInfo(num_frames=len(self._files), fps=fps or 0.0, height=height, width=width)

    def read(self, indices: Sequence[int]) -> Frames:
        """uint8 [len(indices), H, W, 3]."""
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), dtype=np.uint8)
        for place, index in enumerate(indices):
            pixels = read_image(self._files[index])
            if pixels.shape != frames.shape[1:]:
                raise DecodeError(
                    f"is {pixels.shape[1]}x{pixels.shape[0]} pixels, the first frame of its folder is "
                    f"{self.info.width}x{self.info.height}",
                    where=self._files[index],
                    fix="bring the frames of a video to one size",
                )
            frames[place] = pixels
        return frames

    def close(self) -> None:
        """Nothing is kept open."""


def read_image(path: str) -> Frames:
    """The pixels of an image file, RGB uint8 [H, W, 3]. Raises DecodeError."""
    from PIL import Image

    with as_decode_errors(path), Image.open(path) as image:
        if image.format in _ANIMATED and getattr(image, "is_animated", False):
            raise DecodeError("holds more than one picture", where=path, fix="a frame or a still image is one")
        return np.asarray(image.convert("RGB"))


def image_size(path: str) -> tuple[int, int]:
    """Height and width of an image file, in pixels, from its header. Raises DecodeError."""
    from PIL import Image

    with as_decode_errors(path), Image.open(path) as image:
        return image.height, image.width


@contextmanager
def as_decode_errors(path: str) -> Iterator[None]:
    """What Pillow raises for a file that it cannot read, as DecodeError."""
    from PIL import Image, UnidentifiedImageError

    try:
        open_file(path).close()
        yield
    except FileNotFoundError as error:
        raise DecodeError("no such file", where=path) from error
    except UnidentifiedImageError as error:
        empty = Path(path).stat().st_size == 0
        raise DecodeError("the file is empty" if empty else "not an image, or damaged", where=path) from error
    # What Pillow's readers raise for damaged files: PNG's a SyntaxError, TIFF's a TypeError and KeyError.
    except (OSError, EOFError, SyntaxError, ValueError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise DecodeError(f"damaged ({error})", where=path) from error


def _is_frame(entry: os.DirEntry[str]) -> bool:
    return is_image(entry.name) and not entry.name.startswith(".") and entry.is_file()


def _natural(name: str) -> tuple[list[str | int], str]:
    """A sort key under which runs of digits count as numbers; names that then are equal follow their letters."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 1 | 4  # of TIFF


def is_webp_or_tiff(head: bytes) -> bool:
    """Whether a file that begins so is of a format whose animations Pillow reads, not FFmpeg."""
    return _is_webp(head) or head.startswith(_TIFF)


def holds_several(path: str, head: bytes) -> bool:
    """Whether an image file, of which `head` is the first KiB or more, holds several pictures to show one after the
    other. A TIFF that is damaged behind its first picture does, too."""
    from PIL import Image, UnidentifiedImageError

    if head.startswith(b"\x89PNG"):
        before, found, _ = head.partition(b"IDAT")
        if found and b"acTL" not in before:
            return False
    elif _is_webp(head):
        return head[12:16] == b"VP8X" and bool(head[20] & 2)
    elif not (is_webp_or_tiff(head) or head.startswith(b"GIF8") or head[4:12] == b"ftypavis"):
        return False
    try:
        with _quietly(), Image.open(path) as image:
            return len(_pages(image)) > 1 if image.format == "TIFF" else bool(getattr(image, "is_animated", False))
    except UnidentifiedImageError:
        return False
    except Exception:  # noqa: BLE001 - Pillow fails on damaged files in ways that it does not document
        return is_webp_or_tiff(head)


class AnimatedImage:
    """The pictures of an animated WebP file or of a multi-page TIFF."""

    def __init__(self, path: str, fps: float | None = None) -> None:
        """`fps`: of a TIFF, which states no rate. A WebP file says how long each picture is shown."""
        from PIL import Image

        self._path = path
        if is_cut_off(path):
            raise DecodeError("the file is cut off", where=path, fix="copy or download it again")
        with _quietly(), as_decode_errors(path):
            self._image = Image.open(path)
            is_tiff = self._image.format == "TIFF"
            self._pages = _pages(self._image) if is_tiff else list(range(getattr(self._image, "n_frames", 1)))
        rate, shown_s = (fps or 0.0, None) if is_tiff else _webp_times(read_bytes(path, ANIMATION))
        self.info = VideoInfo(len(self._pages), rate, self._image.height, self._image.width, shown_s)

    def read(self, indices: Sequence[int]) -> Frames:
        """uint8 [len(indices), H, W, 3]."""
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), dtype=np.uint8)
        with _quietly(), as_decode_errors(self._path):
            for place, index in enumerate(indices):
                self._image.seek(self._pages[index])
                self._check(index)
                frames[place] = np.asarray(self._image.convert("RGB"))
        return frames

    def close(self) -> None:
        self._image.close()

    def _check(self, index: int) -> None:
        width, height = self._image.size
        if (height, width) != (self.info.height, self.info.width):
            what = f"page {index} is {width}x{height} pixels, the first {self.info.width}x{self.info.height}"
            raise DecodeError(what, where=self._path, fix="bring the pages to one size")
        if self._image.mode.startswith(("I", "F")):  # of which Pillow would cut off what is above 255
            raise DecodeError("its pixels have more than 8 bits", where=self._path, fix="write them with 8 bits")


def _pages(image: Any) -> list[int]:
    """Numbers of the pages of a TIFF that are pictures of their own."""
    pages = []
    for number in range(image.n_frames):
        image.seek(number)
        if not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _REDUCED_OR_MASK:
            pages.append(number)
    image.seek(pages[0] if pages else 0)
    return pages


@contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns of damage that is no error to it; the command line has one line for errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_webp(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


def _webp_times(data: bytes) -> tuple[float, Seconds | None]:
    """Average pictures a second, 0 where they have no times; and when each is shown, None where all last as long."""
    lasting_ms: list[int] = []
    position = 12
    while position + 8 <= len(data):
        if data[position : position + 4] == b"ANMF":
            lasting_ms.append(int.from_bytes(data[position + 20 : position + 23], "little"))
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    if not any(lasting_ms):
        return 0.0, None
    rate = 1000 * len(lasting_ms) / sum(lasting_ms)
    if len(set(lasting_ms)) == 1:
        return rate, None
    return rate, np.cumsum([0, *lasting_ms[:-1]]) / 1000


Reader = Literal["folder", "still", "animation", "video"]
"""Frames as files; one picture, by Pillow; several in one file, by Pillow; whatever FFmpeg opens."""

_HEAD_BYTES = 4096
_MAY_MOVE = (".png", ".webp")


def reader_of(path: str | os.PathLike[str]) -> Reader:
    """The reader of a path. One that leads nowhere is judged by its name."""
    name = os.fspath(path)
    if os.path.isdir(name):  # noqa: PTH112 - a Path for each of a million files costs more than the call
        return "folder"
    return _reader(name, _head(name))


def is_still(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a still image. Only files that could be animations by their name are opened."""
    return is_image(path) and (not os.fspath(path).lower().endswith(_MAY_MOVE) or reader_of(path) == "still")


def unusual_reader(path: str | os.PathLike[str]) -> Reader | None:
    """The reader of a file, where it is not the one that the names usual for such content lead to. Raises OSError where
    the file cannot be read."""
    name = os.fspath(path)
    with open_file(name) as file:
        head = file.read(_HEAD_BYTES)
    reader = _reader(name, head)
    usual = "still" if _is_image_content(head) else "video"
    return reader if reader != usual else None


def _reader(name: str, head: bytes) -> Reader:
    by_pillow = is_webp_or_tiff(head)
    if (by_pillow or is_image(name)) and holds_several(name, head):
        return "animation" if by_pillow else "video"
    return "still" if is_image(name) else "video"


def _head(name: str) -> bytes:
    """The beginning of a file; nothing of what is none, as a pipe may never answer."""
    try:
        with open_file(name) as file:
            return file.read(_HEAD_BYTES)
    except (OSError, DecodeError):  # whoever reads it says why
        return b""


def _is_image_content(head: bytes) -> bool:
    """JPEG, PNG, BMP or WebP: the formats that IMAGE_SUFFIXES name."""
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
