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
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from bench.core.errors import BenchError
from bench.video.endings import is_cut_off
from bench.video.image_frames import AnimatedImage, ImageFrames, reader_of
from bench.video.info import DecodeError, Frames, VideoInfo
from bench.video.packets import NO_TIME, Packets, Start, decoded_frames, facts_of, read_packets
from bench.video.states import State, state_of

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

_NOT_VIDEO_FILES = {"tty", "hls", "concat", "dash", "image2", "sdp", "rtsp", "imf", "lavfi"}
"""What FFmpeg also opens: text drawn as pictures, and lists that lead to other files, which may be pipes."""


_MOST_OPENED = 4
_opened: dict[tuple[str, State], tuple[VideoInfo, Packets]] = {}
"""What the packets of the last few files say, by path and state."""


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
    """Decodes with PyAV: from the clean start before the frame asked for, or else from the beginning."""

    def __init__(self, path: str) -> None:
        from av.video.reformatter import VideoReformatter

        self._path = path
        self._container, self._stream = open_container(path)
        with self._as_decode_errors():
            self.info, self.packets = _known_packets(self._container, self._stream, path)
        self._to_rgb = VideoReformatter()
        self._decoded: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = self.info.num_frames
        self._seeks = True

    def read(self, indices: list[int]) -> Frames:
        """uint8 [len(indices), H, W, 3]; `indices` rise."""
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), dtype=np.uint8)
        with self._as_decode_errors():
            for place, index in enumerate(indices):
                frames[place] = self._shown_rgb(self._find(index))
        return frames

    def close(self) -> None:
        self._container.close()

    def seeks_cleanly(self) -> bool:
        """Whether every seek to a start gives its frame."""
        with self._as_decode_errors():
            starts = (Start(*row) for row in self.packets.starts.tolist())
            return all(next(self._after_seek(start), None) is not None for start in starts)

    def _find(self, index: int) -> VideoFrame:
        start = self.packets.start_before(index) if self._seeks else None
        if not (start.frame if start else 0) <= self._next <= index:
            self._decoded, self._next = (self._after_seek(start), start.frame) if start else (self._from_beginning(), 0)
        frame = self._forward_to(index)
        if frame is None and self._seeks:
            self._seeks = False
            self._decoded, self._next = self._from_beginning(), 0
            frame = self._forward_to(index)
        if frame is None:
            raise DecodeError(f"frame {index} of {self.info.num_frames} cannot be decoded", where=self._path)
        return frame

    def _forward_to(self, index: int) -> VideoFrame | None:
        for number, frame in self._decoded:
            self._next = number + 1
            if number == index:
                return frame
        self._next = self.info.num_frames
        return None

    def _from_beginning(self) -> Iterator[tuple[int, VideoFrame]]:
        """Every frame, counted."""
        self.close()
        self._container, self._stream = open_container(self._path)
        yield from enumerate(decoded_frames(self._container, self._stream))

    def _after_seek(self, start: Start) -> Iterator[tuple[int, VideoFrame]]:
        """The frames from a start on. They end where they may differ from those of a decode from the beginning: other
        packets come, or the same with other times; the first frame is no key frame; or a frame is left out."""
        self._container.seek(start.decoded_at, stream=self._stream)
        number, expected = -1, start.frame
        for packet in self._container.demux(self._stream):
            if packet.size and number < 0:
                if not self.packets.has(packet, start.packet):
                    if packet.dts is not None and packet.dts > start.decoded_at:
                        return
                    continue
                number = start.packet
            elif packet.size:
                number += 1
                if not self.packets.has(packet, number):
                    return
            for frame in packet.decode() if number >= 0 else ():
                found = self.packets.number_of(frame)
                if found == expected and (found > start.frame or frame.key_frame):
                    yield found, frame
                    expected += 1
                elif not 0 <= found < start.frame:
                    return

    def _shown_rgb(self, frame: VideoFrame) -> Frames:
        orientation = self.packets.orientation
        height, width = orientation.size(self.info.height, self.info.width)  # exchanging the two undoes itself
        # One reformatter for all frames: setting up a new one costs more than converting a small frame.
        rgb: Frames = np.asarray(
            self._to_rgb.reformat(frame, width=width, height=height, format="rgb24", threads=1).to_ndarray(), np.uint8
        )
        return orientation.shown(rgb)

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

        with closing(_PyavFrames(path)) as pyav:
            self.info = pyav.info
            problem = pyav.packets.decord_problem
            if problem is None and not pyav.seeks_cleanly():
                problem = "it starts at frames that are flagged as key frames and are none"
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
    from av.error import ArgumentError, FFmpegError
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
        container = av.open(path, container_options={"protocol_whitelist": "file", "format_whitelist": _formats()})
    except ArgumentError as error:
        raise DecodeError("not a video file, but text or a list of others, or damaged", where=path) from error
    except (FFmpegError, OSError) as error:
        raise DecodeError(f"not a video, or damaged ({error.strerror})", where=path) from error
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        container.close()
        raise DecodeError("the file holds no video stream", where=path)
    stream.codec_context.thread_count = 1
    return container, stream


def _known_packets(container: InputContainer, stream: VideoStream, path: str) -> tuple[VideoInfo, Packets]:
    """The facts of a file, which takes reading it all: not again for one that was opened shortly before, as films are
    for each of their key frames."""
    opened = (path, state_of(path))
    if opened not in _opened:
        reading = read_packets(container, stream, path)
        found = facts_of(reading, None if reading.tells_frames else _decoded_times(path))
        while len(_opened) >= _MOST_OPENED:
            del _opened[next(iter(_opened))]
        _opened[opened] = found
    return _opened[opened]


def _decoded_times(path: str) -> npt.NDArray[np.int64]:
    """Presentation times of all frames in the order in which they are shown."""
    container, stream = open_container(path)
    with closing(container):
        times = array("q", (NO_TIME if frame.pts is None else frame.pts for frame in decoded_frames(container, stream)))
    return np.frombuffer(times, dtype=np.int64)


@functools.cache
def _formats() -> str:
    """The formats that a file may have, as FFmpeg wants them: it reads no other beyond its first bytes."""
    import av

    return ",".join(sorted(av.formats_available - _NOT_VIDEO_FILES))


@functools.cache
def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None
