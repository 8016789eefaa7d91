"""Image files as frames: a folder of them is a video, a single one a video of one frame.

Pillow decodes, and `convert("RGB")` makes three channels of grey, palette, CMYK and transparent images, as
torchvision's ImageFolder and with it the official code do. As there, the orientation that a camera notes in EXIF is not
applied: published scores were measured on the pixels as they are stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.video.info import DecodeError, Frames, VideoInfo, open_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Of the files that count as images, upper case or lower case."""

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
