"""One source of prepared data: re-encoded if asked, then counted and hashed. Runs in worker processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.data.checks import reason_of
from bench.data.guarded import Alive
from bench.data.prepared import Encoding
from bench.data.reencode import reencode, unwritable
from bench.data.sources import Stamp, stamp_of
from bench.errors import BenchError
from bench.features.contents import content_id
from bench.files import atomic_write
from bench.video.decode import DecodeError, open_video


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

    @property
    def path(self) -> str:
        """Of the file that results."""
        return str(self.out / self.name) if self.encoding else self.source

    def stamp(self, source: Stamp) -> str:
        """Everything that decides what is made, the state of the source included."""
        how = self.encoding.model_dump() if self.encoding else "as it is"
        return json.dumps([self.source, source, self.fps, self.segment, how])


@dataclass(frozen=True)
class Made:
    """What is known of the file of a task: its state and its facts, or the problem with it."""

    problem: str | None = None
    source_stamp: Stamp = (0, 0)
    source_hash: str = ""
    stamp: Stamp = (0, 0)
    hash: str = ""
    frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0


def make(task: Task, alive: Alive) -> Made:
    """Do a task. Raises BenchError where the target cannot be written, never for what the source holds."""
    try:
        source_stamp = stamp_of(task.source)
        source_hash = content_id(task.source)
        if task.encoding:
            _encode(task, task.encoding, alive)
        with open_video(task.path, fps=task.fps) as video:
            info = video.info
        return Made(
            source_stamp=source_stamp,
            source_hash=source_hash,
            stamp=stamp_of(task.path),
            hash=content_id(task.path) if task.encoding else source_hash,
            frames=info.num_frames,
            fps=info.fps,
            height=info.height,
            width=info.width,
        )
    except BenchError as error:
        if not isinstance(error, DecodeError):
            raise
        return Made(problem=reason_of(error, task.source))
    except Exception as error:  # noqa: BLE001 - a damaged file makes the libraries fail in ways they do not document
        return Made(problem=reason_of(error, task.source))


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
