"""Videos -> clips for the encoder, in worker processes that may hang or die without losing a sample.

A file can hang or crash its decoder. Each worker therefore has a pipe of its own, on which it says what it
starts, and can be killed without touching the others. (`torch.utils.data.DataLoader` shares queues between
workers, stops as a whole, and raises from a signal handler in the middle of the caller's code.)
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import multiprocessing
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import BenchError
from bench.video.clips import segment_indices
from bench.video.decode import Decoder, Video, VideoInfo, open_video
from bench.video.views import crop_views

_BYTES_IN_FLIGHT = 1 << 28
_FRAMES_AT_ONCE = 16
_MAX_IDLE_DEATHS = 3


@dataclass(frozen=True)
class ClipPlan:
    """Everything that decides which pixels a sample gives, and nothing that does not."""

    frames_per_clip: int
    frame_step: int
    num_segments: int
    views: int
    size: int
    """Height and width of a view, pixels."""
    sampling: Literal["center", "random"]
    """Where the window of a segment lies; "random" is the official way."""
    seed: int
    """Of the random windows, together with a sample's id and draw."""
    short_side: int | None
    """Short side that videos are resized to before the crop, pixels; None for the protocol's."""
    decoder: Decoder

    def __post_init__(self) -> None:
        for name in ("frames_per_clip", "frame_step", "num_segments", "views", "size"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} is {getattr(self, name)}", fix="it must be at least 1")

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        """Of a sample's pixels: [views, num_segments, T, size, size, 3]."""
        return (self.views, self.num_segments, self.frames_per_clip, self.size, self.size, 3)


@dataclass(frozen=True)
class VideoItem:
    """A video, or the part of it between two times, that clips are drawn from."""

    id: str
    path: str
    draw: int = 0
    """Tells apart several random draws of the same sample."""
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class LoadedClips:
    """The clips of one item, or the reason why there are none."""

    id: str
    draw: int
    pixels: torch.Tensor | None
    """uint8 [views, num_segments, T, size, size, 3], RGB; None if the item failed."""
    indices: list[list[int]] | None
    """Frame numbers in the file, one list per segment; None if the item failed."""
    error: str | None
    """Why it failed, in one line; None if it did not."""


def load_clips(
    items: Sequence[VideoItem], plan: ClipPlan, *, num_workers: int, timeout_s: float = 60.0
) -> Iterator[LoadedClips]:
    """One `LoadedClips` per item, in the order of `items`, whatever happens to a file.

    An item that cannot be decoded, that takes longer than `timeout_s` seconds, or that kills its worker
    process is given as failed and never replaced by another; the others arrive. The pixels do not depend on
    `num_workers` or on the order of items. With `num_workers=0` videos are decoded in this process, and
    nothing guards against a decoder that hangs or crashes. Workers end with the iterator, also if it is
    dropped early.

    Raises BenchError for a negative `num_workers`, and if workers die before they start any sample.
    """
    if num_workers < 0:
        raise BenchError(f"num_workers is {num_workers}", fix="it must be 0 or more")
    if num_workers == 0:
        for item in items:
            pixels = torch.empty(plan.shape, dtype=torch.uint8)
            outcome = _load_or_explain(item, plan, pixels.numpy())
            yield _loaded(item, pixels, outcome)
        return
    pool = _Pool(items, plan, min(num_workers, len(items)), timeout_s)
    try:
        yield from pool.run()
    finally:
        pool.stop()


def _loaded(item: VideoItem, pixels: torch.Tensor, outcome: list[list[int]] | str) -> LoadedClips:
    if isinstance(outcome, str):
        return LoadedClips(item.id, item.draw, None, None, outcome)
    return LoadedClips(item.id, item.draw, pixels, outcome, None)


def _load_or_explain(item: VideoItem, plan: ClipPlan, out: npt.NDArray[np.uint8]) -> list[list[int]] | str:
    """Fill `out` [views, num_segments, T, size, size, 3]; return the indices, or the reason why not."""
    try:
        with open_video(item.path, plan.decoder) as video:
            return _decode_views(item, plan, video, out)
    except BenchError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a damaged file makes the libraries fail in ways they do not document
        return f"{item.path}: {type(error).__name__}: {error}"


def _decode_views(item: VideoItem, plan: ClipPlan, video: Video, out: npt.NDArray[np.uint8]) -> list[list[int]]:
    first, count = _frame_range(item, video.info)
    rng = None
    if plan.sampling == "random":
        digest = hashlib.sha256(f"{plan.seed}\0{item.id}\0{item.draw}".encode()).digest()
        rng = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
    within = segment_indices(count, plan.frames_per_clip, plan.frame_step, plan.num_segments, rng=rng)
    indices = [[first + index for index in clip] for clip in within]

    places: dict[int, list[tuple[int, int]]] = {}
    for segment, clip in enumerate(indices):
        for position, index in enumerate(clip):
            places.setdefault(index, []).append((segment, position))
    # Every frame is decoded once and cropped at once: whole frames of a large video would fill the memory.
    rising = sorted(places)
    for start in range(0, len(rising), _FRAMES_AT_ONCE):
        batch = rising[start : start + _FRAMES_AT_ONCE]
        views = crop_views(video.read(batch), plan.size, plan.views, short_side=plan.short_side).numpy()
        for number, index in enumerate(batch):
            for segment, position in places[index]:
                out[:, segment, position] = views[:, number]
    return indices


def _frame_range(item: VideoItem, info: VideoInfo) -> tuple[int, int]:
    """First frame and number of frames between the item's times; times are rounded to the nearest frame."""
    if item.start_s is None and item.end_s is None:
        return 0, info.num_frames
    if info.fps <= 0:
        raise BenchError("its frame rate is unknown, so times have no meaning", where=item.path)
    first = max(0, round((item.start_s or 0.0) * info.fps))
    last = info.num_frames if item.end_s is None else min(info.num_frames, round(item.end_s * info.fps))
    if first >= last:
        lasts = f"the video lasts {info.num_frames / info.fps:.2f} s"
        raise BenchError(f"no frame between {item.start_s} s and {item.end_s} s, {lasts}", where=item.path)
    return first, last - first


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    tasks: deque[tuple[int, int]] = field(default_factory=deque)
    """(item number, slot), the oldest first."""
    started: float | None = None
    """When the oldest task was started, on the monotonic clock that all processes share."""


class _Pool:
    """Worker processes, and the slots of shared memory that carry pixels out of them."""

    def __init__(self, items: Sequence[VideoItem], plan: ClipPlan, num_workers: int, timeout_s: float) -> None:
        self._items, self._plan, self._timeout_s = items, plan, timeout_s
        size = int(np.prod(plan.shape))
        depth = min(16, max(2, _BYTES_IN_FLIGHT // (size * max(num_workers, 1))))
        forks = sys.platform == "linux"
        self._context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        # Anonymous memory, where it can be inherited, is not bound by the small /dev/shm of many containers.
        self._slots = [
            mmap.mmap(-1, size) if forks else self._context.RawArray("B", size) for _ in range(depth * num_workers)
        ]
        self._free = list(range(len(self._slots)))
        self._outcomes: dict[int, tuple[int, list[list[int]] | str]] = {}
        self._idle_deaths = 0
        self._workers = [self._hire() for _ in range(num_workers)]

    def run(self) -> Iterator[LoadedClips]:
        waiting = iter(range(len(self._items)))
        for number, item in enumerate(self._items):
            self._hand_out(waiting)
            while number not in self._outcomes:
                self._listen()
            slot, outcome = self._outcomes.pop(number)
            view = np.frombuffer(self._slots[slot], dtype=np.uint8).reshape(self._plan.shape)
            loaded = _loaded(item, torch.from_numpy(view.copy()), outcome)
            self._free.append(slot)
            yield loaded

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            self._dismiss(worker)

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._slots, self._plan), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _dismiss(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.process.close()
        worker.pipe.close()

    def _hand_out(self, waiting: Iterator[int]) -> None:
        while self._free and (number := next(waiting, None)) is not None:
            self._send(min(self._workers, key=lambda worker: len(worker.tasks)), number, self._free.pop())

    def _send(self, worker: _Worker, number: int, slot: int) -> None:
        worker.tasks.append((number, slot))
        # A worker that has died meanwhile is found by _listen, which hands its tasks to its successor.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send((self._items[number], slot))

    def _listen(self) -> None:
        """Wait for the next message, death or deadline of a worker, and act on it."""
        deadlines = [w.started + self._timeout_s for w in self._workers if w.started is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        ready = set(wait([worker.pipe for worker in self._workers], patience))
        for number, worker in enumerate(self._workers):
            if worker.pipe in ready:
                try:
                    self._hear(worker, worker.pipe.recv())
                except (EOFError, OSError):
                    self._replace(number, "the decoder crashed on this file")
            elif worker.started is not None and time.monotonic() - worker.started > self._timeout_s:
                self._replace(number, f"the decoder hung for more than {self._timeout_s:g} s")

    def _hear(self, worker: _Worker, message: float | list[list[int]] | str | _Bug) -> None:
        if isinstance(message, float):
            worker.started = message
            return
        if isinstance(message, _Bug):
            raise RuntimeError(f"a loader worker failed:\n{message.report}")
        number, slot = worker.tasks.popleft()
        worker.started = None
        self._idle_deaths = 0
        self._outcomes[number] = (slot, message)

    def _replace(self, place: int, reason: str) -> None:
        """Fail the sample that the worker at `place` was at, and give its other tasks to a new worker."""
        worker = self._workers[place]
        tasks = list(worker.tasks)
        if worker.started is not None:
            number, slot = tasks.pop(0)
            self._outcomes[number] = (slot, f"{self._items[number].path}: {reason}")
        else:
            self._idle_deaths += 1
        if self._idle_deaths > _MAX_IDLE_DEATHS:
            raise BenchError("loader workers die before they decode anything", fix="use fewer workers, or 0")
        self._dismiss(worker)
        self._workers[place] = self._hire()
        for number, slot in tasks:
            self._send(self._workers[place], number, slot)


@dataclass(frozen=True)
class _Bug:
    """An error of the program, not of a file: it ends the run."""

    report: str


def _work(pipe: Connection, slots: list[Any], plan: ClipPlan) -> None:
    """A worker's life: take (item, slot), say when it starts, decode into the slot, say the outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    torch.set_num_threads(1)
    try:
        while True:
            item, slot = pipe.recv()
            pipe.send(time.monotonic())
            out = np.frombuffer(slots[slot], dtype=np.uint8).reshape(plan.shape)
            pipe.send(_load_or_explain(item, plan, out))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception:  # noqa: BLE001 - passed on whole; the parent raises it
        pipe.send(_Bug(traceback.format_exc()))
