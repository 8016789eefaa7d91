"""One source of prepared data: re-encoded if asked, then counted and hashed. Runs in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError, lack_of
from bench.core.files import atomic_write
from bench.core.workers import Alive
from bench.data.verify.checks import reason_of
from bench.data.verify.prepared import Encoding
from bench.data.verify.reencode import reencode, unwritable
from bench.video.contents import content_id
from bench.video.decode import DecodeError, open_video
from bench.video.states import sampled, state_of


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
        """Of the file that results."""
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
