"""Who reads a file: a name says whether Pillow or FFmpeg does, and the content whether an image is still.

The content id of a file has the reader in it where that is not the usual one for such content, as two libraries do not
give the same pixels of the same bytes.
"""

from __future__ import annotations

import os
from typing import Literal

from bench.video.animations import holds_several, is_webp_or_tiff
from bench.video.image_frames import is_image
from bench.video.info import DecodeError, open_file

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
