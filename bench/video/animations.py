"""Image files with more than one picture: which they are, and the pictures of animated WebP and multi-page TIFF.

FFmpeg reads GIF, APNG and AVIF as the videos that they are, and of the other two nothing or the first picture. Pillow
composes the pictures of a WebP as a browser does, and drops transparency, as of still images. A reduced image or a mask
beside the picture of a TIFF is no frame, nor is what a camera keeps behind a JPEG (MPO).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.core.inputs import ANIMATION, read_bytes
from bench.video.endings import is_cut_off
from bench.video.image_frames import as_decode_errors
from bench.video.info import DecodeError, Frames, Seconds, VideoInfo

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
