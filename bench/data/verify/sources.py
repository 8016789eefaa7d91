"""What a sample's path leads to: a video file, a still image, or a folder of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.video.decode import Frames, Video
from bench.video.info import open_file

_PIECE_BYTES = 4096
_BYTES_AT_ONCE = 1 << 26


def read_in_groups(source: Video, indices: range) -> Iterator[Frames]:
    """The frames of `indices`, which rise: a few at a time, as those of a long video would fill the memory."""
    group = max(1, _BYTES_AT_ONCE // (3 * source.info.height * source.info.width))
    for start in range(0, len(indices), group):
        yield source.read(indices[start : start + group])


def read_pieces(path: str) -> tuple[int, list[bytes]]:
    """A file's size in bytes, and up to 4 KiB each of its beginning, middle and end."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        pieces = []
        for start in (0, size // 2, max(0, size - _PIECE_BYTES)):
            file.seek(start)
            pieces.append(file.read(_PIECE_BYTES))
    return size, pieces
