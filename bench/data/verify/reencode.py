"""A video anew: the same frames in the same order, smaller, with key frames close together.

H.264 in MP4, yuv420p, at constant quality. A frame is decoded from the key frame before it, so the distance of key
frames (the GOP) bounds what one frame costs. What is slow to decode is left out: frames predicted from later ones (they
delay every start), arithmetic coding, and the deblocking filter. On real clips that saves more than short GOPs do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import BenchError, lack_of
from bench.core.files import atomic_write
from bench.core.workers import Alive
from bench.data.verify.checks import read_in_groups, reason_of
from bench.data.verify.manifest import Encoding
from bench.video.contents import content_id
from bench.video.decode import DecodeError, Frames, VideoInfo, open_video
from bench.video.states import sampled, state_of

CRF = 18
"""x264's quality: 18 is commonly taken to be hard to tell from the source; 23 is its default."""
PRESET = "fast"
TUNE = "fastdecode"
B_FRAMES = 0
RESIZE = "BICUBIC"
_MAX_DENOMINATOR = 10_000


def reencode(
    source: str,
    target: Path,
    *,
    fps: float | None,
    segment: tuple[float | None, float | None],
    short_side: int | None,
    gop: int,
    alive: Alive,
) -> None:
    """Write the frames of `source` between the seconds of `segment` to `target`, with a key frame every `gop` frames.

    `fps` is the rate of a folder of frames. A short side above `short_side` pixels, an even number, is resized to it;
    no video is enlarged. An odd row or column at the edge is dropped, as H.264 has none.

    Raises DecodeError where the source cannot be read, and BenchError where the target cannot be written.
    """
    with open_video(source, fps=fps) as video:
        if video.info.fps <= 0:
            raise DecodeError("its frame rate is unknown", where=source, fix="state it with --fps")
        wanted = range(*video.info.frames_between(*segment, where=source))
        height, width = target_size(video.info, short_side)
        groups = read_in_groups(video, wanted)
        if _scale(video.info, short_side) == 1:
            groups = (np.ascontiguousarray(frames[:, :height, :width]) for frames in groups)
        rate = Fraction(video.info.fps).limit_denominator(_MAX_DENOMINATOR)
        _write(target, groups, rate, (height, width), gop, alive)
    with open_video(target) as made:
        if made.info.num_frames != len(wanted):
            problem = f"{made.info.num_frames} frames were written, not {len(wanted)}"
            raise DecodeError(problem, where=source)


def target_size(info: VideoInfo, short_side: int | None) -> tuple[int, int]:
    """Height and width of the new video, even."""
    scale = _scale(info, short_side)
    if scale == 1:
        return max(2, info.height - info.height % 2), max(2, info.width - info.width % 2)
    return 2 * round(scale * info.height / 2), 2 * round(scale * info.width / 2)


def _scale(info: VideoInfo, short_side: int | None) -> float:
    return 1 if short_side is None else min(1, short_side / min(info.height, info.width))


def _write(
    target: Path, groups: Iterator[Frames], rate: Fraction, size: tuple[int, int], gop: int, alive: Alive
) -> None:
    """Encode uint8 frames [n, H, W, 3], group by group."""
    import av
    from av.video.reformatter import VideoReformatter

    to_yuv = VideoReformatter()
    height, width = size
    with _as_write_errors(target):
        container = av.open(str(target), "w", format="mp4")
        stream = container.add_stream("libx264", rate=rate)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.thread_count = 1
    stream.options = {"crf": str(CRF), "preset": PRESET, "tune": TUNE, "bf": str(B_FRAMES), "g": str(gop)}
    written = 0
    try:
        for frames in groups:
            alive()
            for pixels in frames:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                resized = to_yuv.reformat(frame, width, height, "yuv420p", interpolation=RESIZE, threads=1)
                resized.pts, resized.time_base = written, 1 / rate
                with _as_write_errors(target):
                    container.mux(stream.encode(resized))
                written += 1
        with _as_write_errors(target):
            container.mux(stream.encode())
    finally:
        with _as_write_errors(target):
            container.close()


@contextmanager
def _as_write_errors(target: Path) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:
        raise unwritable(target, error.strerror) from error
    except ValueError as error:  # av.codec.codec.UnknownCodecError
        raise BenchError("this PyAV cannot write H.264 (libx264)", fix="pip install --upgrade av") from error


def unwritable(target: Path, reason: str | None) -> BenchError:
    """What to say of a disk that takes no more."""
    fix = "free some space or choose another --out; the same command goes on"
    return BenchError(f"cannot be written ({reason})", where=str(target), fix=fix)


@dataclass(frozen=True)
class Task:
    """What is to be done for a source, or for a part of it."""

    name: str
    """Path of the file, from the folder of prepared data on; from the data folder on where nothing is re-encoded."""
    source: str
    out: Path
    """The folder of prepared data."""
    fps: float | None
    """Rate of a folder of frames."""
    segment: tuple[float | None, float | None]
    """Seconds that are cut out."""
    encoding: Encoding | None
    made: Made | None = None
    """What became of it before, where that may still hold."""

    @property
    def path(self) -> str:
        """Path of the file that results."""
        return str(self.out / self.name) if self.encoding else self.source

    @property
    def how(self) -> list[Any]:
        """Everything that decides what is made, besides the content of the source; as JSON gives it back."""
        how = self.encoding.model_dump() if self.encoding else "as it is"
        return [self.source, self.fps, list(self.segment), how]


@dataclass(frozen=True)
class Made:
    """What is known of the file of a task: the problem with it, or its facts, and the states that they hold for."""

    problem: str | None = None
    source_state: str = ""
    source_hash: str = ""
    state: str = ""
    hash: str = ""
    bytes: int = 0
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0


def make(task: Task, alive: Alive) -> Made:
    """Do a task, unless the contents are still those that it was done with.

    Raises BenchError where the target cannot be written, never for what the source holds.
    """
    try:
        source_state = state_of(task.source)
        source_hash = content_id(task.source)
        made = task.made
        if made is None or (source_hash, _hash(task, source_hash)) != (made.source_hash, made.hash):
            if task.encoding:
                _encode(task, task.encoding, alive)
            with open_video(task.path, fps=task.fps) as video:
                info = video.info
            made = Made(frames=info.num_frames, fps=info.fps, height=info.height, width=info.width)
        state = state_of(task.path)
        return replace(
            made,
            source_state=sampled(task.source, source_state).text,
            source_hash=source_hash,
            state=sampled(task.path, state).text,
            hash=_hash(task, source_hash),
            bytes=state.size,
        )
    except BenchError as error:
        if not isinstance(error, DecodeError):
            raise
        return Made(problem=reason_of(error, task.source))
    except Exception as error:  # a damaged file makes the libraries fail in ways they do not document
        if lack_of(error) == "files":  # it is no fault of this one
            raise
        return Made(problem=reason_of(error, task.source))


def _hash(task: Task, source_hash: str) -> str:
    """Content id of the file that results; empty where there is none yet."""
    if task.encoding is None:
        return source_hash
    return content_id(task.path) if Path(task.path).is_file() else ""


def _encode(task: Task, encoding: Encoding, alive: Alive) -> None:
    target = Path(task.path)
    if target.exists() and target.samefile(task.source):
        raise BenchError("is a source itself, and would be overwritten", where=task.path, fix="choose another --out")
    try:
        with atomic_write(target) as temporary, _reading(task.source):
            reencode(
                task.source,
                temporary,
                fps=task.fps,
                segment=task.segment,
                short_side=encoding.short_side,
                gop=encoding.gop,
                alive=alive,
            )
    except DecodeError:
        target.unlink(missing_ok=True)  # the list names it: a run would read what was made of an earlier source
        raise
    except OSError as error:
        raise unwritable(target, error.strerror) from error


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Errors of the disk here are those of the source: `reencode` turns those of the target into BenchError."""
    try:
        yield
    except OSError as error:
        raise DecodeError(error.strerror or str(error), where=source) from error
