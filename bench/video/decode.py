"""Frames of a video by index: the same frames, bit for bit, whichever library decodes them.

PyAV reads every file's packets once: that gives the count, the order and the places to start decoding, so an
index means the same with both libraries and what a container claims about itself is not trusted. PyAV also
decodes, unless decord (what the official code uses) is asked for: decord misreads some files, which are refused
then, and was the slower of the two on six of seven real clips. Folders of frames and still images are opened in the
same way (bench.video.image_frames).
"""

from __future__ import annotations

import functools
import importlib.util
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError
from bench.video.animations import AnimatedImage
from bench.video.endings import is_cut_off
from bench.video.image_frames import ImageFrames
from bench.video.info import DecodeError, Frames, VideoInfo
from bench.video.readers import reader_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = [
    "DecodeError",
    "Decoder",
    "Frames",
    "Video",
    "VideoInfo",
    "check_decoder",
    "open_video",
    "probe_video",
    "read_frames",
]

Decoder = Literal["auto", "decord", "pyav"]

# decord takes the padding of a row for pixels where it is as wide as the row; it is below 64 bytes.
_DECORD_MIN_WIDTH = 64
# Elsewhere (AVI, MPEG-TS) times are guessed, and decord loses its place, on some reads of a file and not on others.
_DECORD_KEEPS_PLACE_IN = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


# What FFmpeg also opens: text drawn as pictures, and lists that lead to other files.
_NOT_VIDEO_FILES = {"tty", "hls", "concat", "dash", "image2", "sdp", "rtsp", "imf", "lavfi"}


@dataclass(frozen=True)
class _Packets:
    """The packets of a video stream, as far as seeking needs them: a few bytes each, for videos of many hours."""

    shown_at: npt.NDArray[np.int64] | None
    """Presentation times in display order; None where frames have no true ones and are counted."""
    start: int | None
    """Decoding time of frame 0; without one, the file is opened anew."""
    key_frames: npt.NDArray[np.int64]
    """Display indices, rising, of the frames after frame 0 that decoding can start at."""
    key_times: npt.NDArray[np.int64]
    """Their decoding times."""
    turns: int
    """Quarter turns, anticlockwise, that bring a decoded frame upright."""
    decord_problem: str | None
    """Why decord would give wrong frames of this file, if it would."""


_MOST_OPENED = 4
_opened: dict[tuple[str, int, int], tuple[VideoInfo, _Packets]] = {}
"""What the packets of the last few files say, by path, size and time of change."""


class Video:
    """An open video file, animation, folder of frames, or still image. Made by `open_video`."""

    def __init__(self, path: str, decoder: Decoder, fps: float | None = None) -> None:
        self.path = path
        self._frames: ImageFrames | AnimatedImage | _PyavFrames | _DecordFrames
        reader = reader_of(path)
        if reader in ("folder", "still"):
            self._frames = ImageFrames(path, fps)
        elif reader == "animation":
            self._frames = AnimatedImage(path, fps)
        else:
            self._frames = _PyavFrames(path) if decoder != "decord" else _DecordFrames(path)
        self.info = self._frames.info

    def read(self, indices: Sequence[int]) -> Frames:
        """RGB frames, uint8 [len(indices), height, width, 3], in the order asked for; an index may repeat.

        Successive calls with rising indices decode every frame at most once.
        Raises DecodeError where an index is outside [0, num_frames) or a frame cannot be decoded.
        """
        outside = [index for index in indices if not 0 <= index < self.info.num_frames]
        if outside:
            raise DecodeError(
                f"frame {outside[0]} was asked for, but there are {self.info.num_frames}", where=self.path
            )
        if not indices:
            return np.empty((0, self.info.height, self.info.width, 3), dtype=np.uint8)
        unique = sorted(set(indices))
        frames = self._frames.read(unique)
        return frames if list(indices) == unique else frames[np.searchsorted(unique, indices)]

    def close(self) -> None:
        self._frames.close()


@contextmanager
def open_video(path: str | os.PathLike[str], decoder: Decoder = "auto", fps: float | None = None) -> Iterator[Video]:
    """Open a video, an animation, a folder of frames or a still image once, for its `info` and for `read(indices)`.

    A folder's frames are its image files in natural order; `fps` is their rate, where known, or that of a TIFF's pages.
    A video file tells its own.

    `decoder` is "pyav", "decord", or "auto", which is PyAV: it reads more files rightly, on every platform.
    Frames are equal, except of 10-bit files and of 4:2:0 files with an odd height or width, which the FFmpeg
    inside decord converts to RGB differently.

    Raises DecodeError with a short reason where the file is missing, empty, cut off, or holds no video, where a
    folder holds no frames, frames of several sizes (when they are read) or damaged ones, and where "decord" is asked
    for a file that it misreads; BenchError for a decoder that is unknown or not installed. Damaged data inside a
    complete file is concealed where the codec can, as in the official code.
    """
    check_decoder(decoder)
    video = Video(os.fspath(path), decoder, fps)
    try:
        yield video
    finally:
        video.close()


def check_decoder(decoder: str) -> None:
    """Raise BenchError for a decoder that is unknown or not installed."""
    if decoder not in get_args(Decoder):
        raise BenchError(f"unknown decoder '{decoder}'", fix="known: " + ", ".join(get_args(Decoder)))
    if decoder == "decord" and not _has_decord():
        raise BenchError("decord is not installed", fix="install it or use the decoder 'pyav'")


def read_frames(path: str | os.PathLike[str], indices: Sequence[int], decoder: Decoder = "auto") -> Frames:
    """RGB frames, uint8 [len(indices), H, W, 3], of a video file. Decoders and errors: see `open_video`."""
    with open_video(path, decoder) as video:
        return video.read(indices)


def probe_video(path: str | os.PathLike[str], decoder: Decoder = "auto") -> VideoInfo:
    """Count, frame rate and size of a video, without decoding it. Errors: see `open_video`."""
    with open_video(path, decoder) as video:
        return video.info


class _PyavFrames:
    """Decodes with PyAV: from the key frame before the one asked for, identified by presentation time."""

    def __init__(self, path: str) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._container, self._stream = open_container(path)
        with self._as_decode_errors():
            self.info, self.packets = _known_packets(self._container, self._stream, path)
        self._to_rgb = VideoReformatter()
        self._decoded: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = self.info.num_frames

    def read(self, indices: list[int]) -> Frames:
        """uint8 [len(indices), H, W, 3]; `indices` rise."""
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), dtype=np.uint8)
        with self._as_decode_errors():
            for place, index in enumerate(indices):
                frames[place] = self._upright_rgb(self._find(index))
        return frames

    def close(self) -> None:
        self._container.close()

    def _find(self, index: int) -> VideoFrame:
        key, decoding_time = self._start_before(index)
        if not key <= self._next <= index:
            self._start_at(key, decoding_time)
        frame = self._forward_to(index)
        if frame is None and self._next > index + 1:  # the container's index led past the frame
            self._start_at(0, None)
            frame = self._forward_to(index)
        if frame is None:
            raise DecodeError(f"frame {index} of {self.info.num_frames} cannot be decoded", where=self._path)
        return frame

    def _start_before(self, index: int) -> tuple[int, int | None]:
        """The last frame up to `index` that decoding can start at, and its decoding time."""
        place = int(np.searchsorted(self.packets.key_frames, index, side="right")) - 1
        if place < 0:
            return 0, self.packets.start
        return int(self.packets.key_frames[place]), int(self.packets.key_times[place])

    def _start_at(self, index: int, decoding_time: int | None) -> None:
        if decoding_time is None:
            self.close()
            self._container, self._stream = open_container(self._path)
        else:  # much cheaper than to open a small file again
            self._container.seek(decoding_time, stream=self._stream)
        self._decoded = self._numbered()
        self._next = index

    def _forward_to(self, index: int) -> VideoFrame | None:
        for number, frame in self._decoded:
            self._next = number + 1
            if number >= index:
                return frame if number == index else None
        return None

    def _numbered(self) -> Iterator[tuple[int, VideoFrame]]:
        shown_at = self.packets.shown_at
        for count, frame in enumerate(self._container.decode(self._stream)):
            if shown_at is None:
                yield count, frame
            elif frame.pts is not None:
                index = int(np.searchsorted(shown_at, frame.pts))
                if index < len(shown_at) and shown_at[index] == frame.pts:
                    yield index, frame

    def _upright_rgb(self, frame: VideoFrame) -> Frames:
        turns = self.packets.turns
        height, width = self.info.height, self.info.width
        if turns % 2:
            height, width = width, height
        # One reformatter for all frames: setting up a new one costs more than converting a small frame.
        rgb = self._to_rgb.reformat(frame, width=width, height=height, format="rgb24", threads=1).to_ndarray()
        return np.rot90(rgb, turns)

    @contextmanager
    def _as_decode_errors(self) -> Iterator[None]:
        from av.error import FFmpegError

        try:
            yield
        except FFmpegError as error:
            raise DecodeError(f"damaged ({error.strerror})", where=self._path) from error


class _DecordFrames:
    """Decodes with decord, which skips the colour conversion of frames that nobody asked for."""

    def __init__(self, path: str) -> None:
        import decord

        pyav = _PyavFrames(path)
        pyav.close()
        self.info = pyav.info
        problem = pyav.packets.decord_problem
        if problem:
            raise DecodeError(f"decord cannot read this file: {problem}", where=path, fix="decode it with pyav")
        decord.logging.set_level(decord.logging.QUIET)
        self._path = path
        with self._as_decode_errors():
            self._reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
            counted = len(self._reader)
        if counted != self.info.num_frames:
            raise DecodeError(f"decord counts {counted} frames, there are {self.info.num_frames}", where=path)

    def read(self, indices: list[int]) -> Frames:
        """uint8 [len(indices), H, W, 3]; `indices` rise."""
        with self._as_decode_errors():
            frames: Frames = self._reader.get_batch(indices).asnumpy()
        return frames

    def close(self) -> None:
        """decord closes a file when its reader is dropped."""
        del self._reader

    @contextmanager
    def _as_decode_errors(self) -> Iterator[None]:
        from decord._ffi.base import DECORDError

        try:
            yield
        except (DECORDError, RuntimeError) as error:
            raise DecodeError("damaged (decord cannot decode it)", where=self._path) from error


def open_container(path: str) -> tuple[InputContainer, VideoStream]:
    """The container and its best video stream, not yet read. Raises DecodeError as `open_video` does."""
    import av
    from av.error import FFmpegError
    from av.video.stream import VideoStream

    av.logging.set_level(av.logging.PANIC)
    file = Path(path)
    if not file.exists():
        raise DecodeError("no such file", where=path)
    if not file.is_file():
        raise DecodeError("not a file", where=path)
    if file.stat().st_size == 0:
        raise DecodeError("the file is empty", where=path)
    if is_cut_off(path):
        raise DecodeError("the file is cut off", where=path, fix="copy or download it again")
    try:
        container = av.open(path, container_options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError) as error:
        raise DecodeError(f"not a video, or damaged ({error.strerror})", where=path) from error
    if any(name in _NOT_VIDEO_FILES for name in container.format.name.split(",")):
        container.close()
        raise DecodeError(f"not a video file, but {container.format.name}", where=path)
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        container.close()
        raise DecodeError("the file holds no video stream", where=path)
    stream.codec_context.thread_count = 1
    return container, stream


def _known_packets(container: InputContainer, stream: VideoStream, path: str) -> tuple[VideoInfo, _Packets]:
    """As `_read_packets`, which reads the whole file: not again for a file that was opened shortly before, as films are
    for each of their key frames."""
    status = Path(path).stat()
    stamp = (path, status.st_size, status.st_mtime_ns)
    if stamp not in _opened:
        found = _read_packets(container, stream, path)
        while len(_opened) >= _MOST_OPENED:
            del _opened[next(iter(_opened))]
        _opened[stamp] = found
    return _opened[stamp]


def _read_packets(container: InputContainer, stream: VideoStream, path: str) -> tuple[VideoInfo, _Packets]:
    count, discards = 0, False
    start: int | None = None
    first: VideoFrame | None = None
    times, keys = array("q"), array("q")  # presentation times; of key frames: packet number, both times
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise DecodeError(f"the file is cut off or damaged after frame {count}", where=path)
        if first is None:
            first = next(iter(packet.decode()), None)  # only a decoded frame tells its rotation
        if packet.size and packet.is_discard:
            discards = True
        elif packet.size:
            if count == 0:
                start = packet.dts
            if packet.pts is not None:
                times.append(packet.pts)
                if packet.is_keyframe and packet.dts is not None:
                    keys.extend((count, packet.pts, packet.dts))
            count += 1
    if first is None:
        raise DecodeError("no frame of it can be decoded", where=path)

    shown_at = np.unique(np.array(times, dtype=np.int64))
    # An AVI file holds no presentation times: those of its packets are guessed, and wrong with B-frames.
    counted_only = len(shown_at) < count or container.format.name == "avi"
    numbers, key_shown_at, key_times = np.array(keys, dtype=np.int64).reshape(-1, 3).T
    key_frames = np.searchsorted(shown_at, key_shown_at)
    problem = None
    if first.width < _DECORD_MIN_WIDTH:
        problem = f"it misreads videos narrower than {_DECORD_MIN_WIDTH} pixels"
    elif discards or len(shown_at) < count:
        problem = "it miscounts frames without a time of their own"
    elif container.format.name not in _DECORD_KEEPS_PLACE_IN:
        problem = f"it misplaces frames of {container.format.name} files"
    elif not np.array_equal(numbers, key_frames):
        problem = "it misplaces frames around key frames that later frames are shown before"
    turns = round(first.rotation / 90) % 4
    height, width = (first.width, first.height) if turns % 2 else (first.height, first.width)
    rate = stream.average_rate or stream.guessed_rate
    info = VideoInfo(num_frames=count, fps=float(rate or 0), height=height, width=width)
    if counted_only:
        nowhere = np.empty(0, dtype=np.int64)
        return info, _Packets(None, None, nowhere, nowhere, turns, problem)
    order = np.argsort(key_frames)
    order = order[key_frames[order] > 0]
    return info, _Packets(shown_at, start, key_frames[order], key_times[order], turns, problem)


@functools.cache
def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None
