"""Videos -> clips for the encoder, in worker processes that may hang or die without losing a sample.

A file can hang or crash its decoder. Each worker therefore has a pipe of its own, on which it says what it
starts, and can be killed without touching the others. (`torch.utils.data.DataLoader` shares queues between
workers, stops as a whole, and raises from a signal handler in the middle of the caller's code.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.core.errors import BenchError, lack_of
from bench.video.clip_views import Plan, VideoItem
from bench.video.decode import open_video

_BYTES_IN_FLIGHT = 1 << 28
_MAX_IDLE_DEATHS = 3
_PARENT_CHECK_S = 5.0
_KILLED = -9
"""Exit code of a process that something else ended."""


Outcome = list[list[int]] | str
"""Of an item: the frame numbers of its clips, or the reason why it has none."""


@dataclass(frozen=True)
class LoadedClips:
    """The clips of one item, or the reason why there are none."""

    id: str
    draw: int
    pixels: torch.Tensor | None
    """uint8 RGB of the plan's shape; None if the item failed."""
    indices: list[list[int]] | None
    """Frame numbers in the file, one list per clip; None if the item failed."""
    error: str | None
    """Why it failed, in one line; None if it did not."""


Replacement = Callable[[VideoItem, str], VideoItem | None]
"""From an item that failed and the reason to the item that takes its place, or None to let it fail."""


def load_clips(
    items: Iterable[VideoItem],
    plan: Plan,
    *,
    num_workers: int,
    timeout_s: float = 60.0,
    replacement: Replacement | None = None,
) -> Generator[LoadedClips, None, None]:
    """One `LoadedClips` per item, in the order of `items`, whatever happens to a file.

    An item that cannot be decoded, that takes longer than `timeout_s` seconds, or that kills its worker
    process is given as failed, unless `replacement` names another for its place; the others arrive. The pixels do not
    depend on `num_workers` or on the order of items. `items` may be endless: it is read a bounded number ahead.
    `replacement` is asked in this process and in the order of items. With `num_workers=0` videos are decoded in this
    process, and nothing guards against a decoder that hangs or crashes. Workers end with the iterator, also if it is
    dropped early.

    Raises BenchError for a negative `num_workers`, and if workers die before they start any sample.
    """
    if num_workers < 0:
        raise BenchError(f"num_workers is {num_workers}", fix="it must be 0 or more")
    if num_workers == 0:
        for item in items:
            yield _load_here(item, plan, replacement)
        return
    pool = _Pool(plan, min(num_workers, len(items)) if isinstance(items, Sized) else num_workers, timeout_s)
    try:
        yield from pool.run(iter(items), replacement)
    finally:
        pool.stop()


def _load_here(item: VideoItem, plan: Plan, replacement: Replacement | None) -> LoadedClips:
    pixels = np.empty(plan.shape, dtype=np.uint8)  # NumPy's memory comes in large pages, torch's in small ones
    while True:
        outcome = _load_or_explain(item, plan, pixels)
        other = _successor(item, outcome, replacement)
        if other is None:
            return _loaded(item, torch.from_numpy(pixels), outcome)
        item = other


def _successor(item: VideoItem, outcome: Outcome, replacement: Replacement | None) -> VideoItem | None:
    return replacement(item, outcome) if replacement is not None and isinstance(outcome, str) else None


def _loaded(item: VideoItem, pixels: torch.Tensor, outcome: Outcome) -> LoadedClips:
    if isinstance(outcome, str):
        return LoadedClips(item.id, item.draw, None, None, outcome)
    return LoadedClips(item.id, item.draw, pixels, outcome, None)


def _load_or_explain(item: VideoItem, plan: Plan, out: npt.NDArray[np.uint8]) -> Outcome:
    """Fill `out`, of the plan's shape; return the indices, or the reason why not."""
    try:
        with open_video(item.path, plan.decoder, item.fps) as video:
            return plan.fill(item, video, out)
    except Exception as error:  # a damaged file makes the libraries fail in ways they do not document
        if lack_of(error) == "files":  # it is no fault of this one
            raise
        return str(error) if isinstance(error, BenchError) else f"{item.path}: {type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Task:
    number: int
    """Place in the order of items."""
    item: VideoItem
    slot: int
    again: bool = False
    """Whether a worker was killed over it."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    tasks: deque[_Task] = field(default_factory=deque)
    """The oldest first."""
    started: float | None = None
    """When the oldest task was started, on the monotonic clock that all processes share."""


class _Pool:
    """Worker processes, and the slots of shared memory that carry pixels out of them."""

    def __init__(self, plan: Plan, num_workers: int, timeout_s: float) -> None:
        self._plan, self._timeout_s = plan, timeout_s
        size = int(np.prod(plan.shape))
        depth = min(16, max(2, _BYTES_IN_FLIGHT // (size * max(num_workers, 1))))
        forks = sys.platform == "linux"
        self._context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        # Anonymous memory, where it can be inherited, is not bound by the small /dev/shm of many containers.
        self._slots = [
            mmap.mmap(-1, size) if forks else self._context.RawArray("B", size) for _ in range(depth * num_workers)
        ]
        self._free = list(range(len(self._slots)))
        self._outcomes: dict[int, Outcome] = {}
        self._idle_deaths = 0
        self._workers = [self._hire() for _ in range(num_workers)]

    def run(self, items: Iterator[VideoItem], replacement: Replacement | None) -> Iterator[LoadedClips]:
        numbered = enumerate(items)
        handed_out: deque[_Task] = deque()
        while True:
            while self._free and (following := next(numbered, None)) is not None:
                handed_out.append(_Task(*following, self._free.pop()))
                self._send(self._least_busy(), handed_out[-1])
            if not handed_out:
                return
            task = handed_out.popleft()
            while (other := _successor(task.item, outcome := self._await(task), replacement)) is not None:
                task = dataclasses.replace(task, item=other)
                self._send(self._least_busy(), task)
            view = np.frombuffer(self._slots[task.slot], dtype=np.uint8).reshape(self._plan.shape)
            loaded = _loaded(task.item, torch.from_numpy(view.copy()), outcome)
            self._free.append(task.slot)
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

    def _least_busy(self) -> _Worker:
        return min(self._workers, key=lambda worker: len(worker.tasks))

    def _send(self, worker: _Worker, task: _Task) -> None:
        worker.tasks.append(task)
        # A worker that has died meanwhile is found by _listen, which hands its tasks to its successor.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send((task.item, task.slot))

    def _await(self, task: _Task) -> Outcome:
        while task.number not in self._outcomes:
            self._listen()
        return self._outcomes.pop(task.number)

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
                    self._replace(number, "the decoder crashed on this file", died=True)
            elif worker.started is not None and time.monotonic() - worker.started > self._timeout_s:
                self._replace(number, f"the decoder hung for more than {self._timeout_s:g} s")

    def _hear(self, worker: _Worker, message: float | Outcome | _Bug) -> None:
        if isinstance(message, float):
            worker.started = message
            return
        if isinstance(message, _Bug):
            raise RuntimeError(f"a loader worker failed:\n{message.report}")
        worker.started = None
        self._idle_deaths = 0
        self._outcomes[worker.tasks.popleft().number] = message

    def _replace(self, place: int, reason: str, *, died: bool = False) -> None:
        """Fail the sample that the worker at `place` was at, and give its other tasks to a new worker.

        A decoder does not send SIGKILL: who did, as the kernel does when memory is short, may not have meant the file.
        It is tried once more.
        """
        worker = self._workers[place]
        tasks = list(worker.tasks)
        if died:
            worker.process.join(1.0)  # it has closed its pipe, and is on its way
        if worker.started is not None:
            task = tasks.pop(0)
            if died and worker.process.exitcode == _KILLED and not task.again:
                tasks.insert(0, dataclasses.replace(task, again=True))
            else:
                self._outcomes[task.number] = f"{task.item.path}: {reason}"
        else:
            self._idle_deaths += 1
        if self._idle_deaths > _MAX_IDLE_DEATHS:
            raise BenchError("loader workers die before they decode anything", fix="use fewer workers, or 0")
        self._dismiss(worker)
        self._workers[place] = self._hire()
        for task in tasks:
            self._send(self._workers[place], task)


@dataclass(frozen=True)
class _Bug:
    """An error of the program, not of a file: it ends the run."""

    report: str


def _work(pipe: Connection, slots: list[Any], plan: Plan) -> None:
    """A worker's life: take (item, slot), say when it starts, decode into the slot, say the outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    torch.set_num_threads(1)
    parent = os.getppid()
    try:
        while _has_mail(pipe, parent):
            item, slot = pipe.recv()
            pipe.send(time.monotonic())
            out = np.frombuffer(slots[slot], dtype=np.uint8).reshape(plan.shape)
            pipe.send(_load_or_explain(item, plan, out))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except Exception:  # noqa: BLE001 - passed on whole; the parent raises it
        pipe.send(_Bug(traceback.format_exc()))


def _has_mail(pipe: Connection, parent: int) -> bool:
    """Wait for a task; False when the parent was killed. Its end of the pipe lives on in workers forked later."""
    while not pipe.poll(_PARENT_CHECK_S):
        if os.getppid() != parent:
            return False
    return True
