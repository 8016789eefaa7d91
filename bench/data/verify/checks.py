"""Can a sample be read? By its header and its end, which takes a millisecond; or by decoding every frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.core.errors import lack_of
from bench.core.workers import Alive
from bench.video.decode import DecodeError, Frames, Video, VideoInfo, open_container, open_video
from bench.video.image_frames import frame_files, image_size, reader_of
from bench.video.info import open_file
from bench.video.states import State, sampled, state_of

Fault = Literal["missing", "empty", "unreadable"]
_DURATION_UNITS = 1_000_000  # FFmpeg counts microseconds
_WHOLE = 0.9
"""Share of its stated duration that a whole file has at least."""


@dataclass(frozen=True)
class Check:
    """One path to check."""

    place: int
    """Its number among the paths."""
    path: str
    full: bool
    """Whether every frame is decoded."""


@dataclass(frozen=True)
class Facts:
    """What a path leads to, or why it leads to nothing."""

    frames: int = 0
    """0 where the header does not state it."""
    fps: float = 0.0
    """0 where the file does not state it."""
    height: int = 0
    width: int = 0
    fault: Fault | None = None
    reason: str = ""


@dataclass(frozen=True)
class Checked:
    """What a check found, and the state of the file that it holds for."""

    facts: Facts
    state: State | None
    """None where there is no file."""


def check(task: Check, alive: Alive) -> Checked:
    """Look at one path. Never raises for what a file holds."""
    try:
        state = state_of(task.path)
    except (FileNotFoundError, NotADirectoryError):
        return Checked(Facts(fault="missing", reason="no such file"), None)
    except OSError as error:
        return Checked(Facts(fault="unreadable", reason=error.strerror or str(error)), None)
    if not state.size:
        return Checked(Facts(fault="empty", reason="no images" if Path(task.path).is_dir() else "0 bytes"), state)
    try:
        info = _decoded(task.path, alive) if task.full else _by_header(task.path, alive)
        facts = Facts(info.num_frames, info.fps, info.height, info.width)
    except Exception as error:  # a damaged file makes the libraries fail in ways they do not document
        if lack_of(error) == "files":  # it is no fault of this one
            raise
        facts = Facts(fault="unreadable", reason=reason_of(error, task.path))
    try:
        return Checked(facts, sampled(task.path, state))
    except OSError as error:
        return Checked(Facts(fault="unreadable", reason=error.strerror or str(error)), state)


def reason_of(error: Exception, path: str) -> str:
    """Why `path` cannot be read, in a few words that do not repeat it."""
    if isinstance(error, DecodeError):
        inside = Path(error.where).name + ": " if error.where and error.where != path else ""
        return inside + error.what
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def _by_header(path: str, alive: Alive) -> VideoInfo:
    """What is cheap to read; all of a file whose end looks wrong."""
    if Path(path).is_dir():
        return _folder_header(path, alive)
    size, pieces = read_pieces(path)
    if _is_doubtful(pieces, size):
        return _decoded_whole(path, alive)
    reader = reader_of(path)
    if reader == "animation":
        with open_video(path) as source:
            return source.info
    return _image_header(path) if reader == "still" else _video_header(path)


def _is_doubtful(pieces: list[bytes], size: int) -> bool:
    """Whether a file of `size` bytes looks unfinished, which only reading it all can tell.

    `pieces` are its beginning, middle and end: an image without its end mark, a WebP file shorter than it says, or
    zeros where data belong, as of a download that has reserved its space.
    """
    head, middle, tail = pieces
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return 8 + int.from_bytes(head[4:8], "little") > size
    return not any(middle) or not any(tail)


def _video_header(path: str) -> VideoInfo:
    container, stream = open_container(path)
    with closing(container):
        packet = next(container.demux(stream), None)
        if packet is None or not packet.size or packet.is_corrupt:
            raise DecodeError("it holds no frames", where=path)
        rate = stream.average_rate or stream.guessed_rate
        return VideoInfo(stream.frames, float(rate or 0), stream.height, stream.width)


def _image_header(path: str) -> VideoInfo:
    height, width = image_size(path)
    return VideoInfo(1, 0.0, height, width)


def _folder_header(path: str, alive: Alive) -> VideoInfo:
    """The first and the last frame stand for the others, none of which may be empty."""
    frames = frame_files(path)
    for frame in frames:
        if not frame.stat().st_size:
            raise DecodeError("0 bytes", where=frame.path)
    moving = next((frame.path for frame in (frames[0], frames[-1]) if reader_of(frame.path) != "still"), None)
    if moving:
        raise DecodeError("holds more than one picture", where=moving)
    first = _by_header(frames[0].path, alive)
    if _by_header(frames[-1].path, alive) != first:
        raise DecodeError("its size is not that of the first frame", where=frames[-1].path)
    return VideoInfo(len(frames), 0.0, first.height, first.width)


def _decoded_whole(path: str, alive: Alive) -> VideoInfo:
    """As `_decoded`, but a video must last as long as it says: readers take zeros for its end."""
    info = _decoded(path, alive)
    if reader_of(path) != "video":
        return info
    container, stream = open_container(path)
    with closing(container):
        if stream.duration and stream.time_base:
            said_s = float(stream.duration * stream.time_base)
        else:  # the file's own says the same where nothing else, such as sound, may outlast the pictures
            said_s = (container.duration or 0) / _DURATION_UNITS if len(container.streams) == 1 else 0.0
    if info.fps and info.num_frames / info.fps < _WHOLE * said_s:
        raise DecodeError(f"{info.num_frames / info.fps:.1f} s of {said_s:.1f} s are there", where=path)
    return info


def _decoded(path: str, alive: Alive) -> VideoInfo:
    """Read every frame as a run would, a few at a time."""
    with open_video(path) as source:
        for _ in read_in_groups(source, range(source.info.num_frames)):
            alive()
        return source.info


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
