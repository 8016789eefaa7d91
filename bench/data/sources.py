"""What a sample's path leads to: a video file, a still image, or a folder of frames."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bench.video.decode import Frames, Video
from bench.video.image_frames import frame_files
from bench.video.info import open_file

_PIECE_BYTES = 4096
_BYTES_AT_ONCE = 1 << 26

Stamp = tuple[int, int]
"""Bytes, and the latest time of change in nanoseconds: a source with the same ones holds the same."""


def stamp_of(path: str) -> Stamp:
    """Bytes and time of change of a file, or of a folder and all its frames. Raises OSError, as `os.stat` does."""
    status = os.stat(path)  # noqa: PTH116 - a Path for each of a million files costs more than the call
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime_ns
    frames = [entry.stat() for entry in frame_files(path)]
    changed = max([status.st_mtime_ns, *(frame.st_mtime_ns for frame in frames)])
    return sum(frame.st_size for frame in frames), changed


def read_in_groups(source: Video, indices: range) -> Iterator[Frames]:
    """The frames of `indices`, which rise: a few at a time, as those of a long video would fill the memory."""
    group = max(1, _BYTES_AT_ONCE // (3 * source.info.height * source.info.width))
    for start in range(0, len(indices), group):
        yield source.read(indices[start : start + group])


def fingerprint(path: str) -> int:
    """64 bits of a source's size, beginning, middle and end: equal for equal contents, rarely for others."""
    digest = hashlib.blake2b(digest_size=8)
    if Path(path).is_dir():
        frames = frame_files(path)
        for entry in frames:
            digest.update(f"{entry.name}/{entry.stat().st_size}/".encode())
        files = [frames[place].path for place in sorted({0, len(frames) // 2, len(frames) - 1})] if frames else []
    else:
        files = [path]
    for name in files:
        size, pieces = read_pieces(name)
        digest.update(str(size).encode())
        for piece in pieces:
            digest.update(piece)
    return int.from_bytes(digest.digest(), "big")


def read_pieces(path: str) -> tuple[int, list[bytes]]:
    """A file's size in bytes, and up to 4 KiB each of its beginning, middle and end."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        pieces = []
        for start in (0, size // 2, max(0, size - _PIECE_BYTES)):
            file.seek(start)
            pieces.append(file.read(_PIECE_BYTES))
    return size, pieces
