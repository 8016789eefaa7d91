"""A function over many files in processes that may hang or die without ending the run or losing another file.

`concurrent.futures` stops as a whole when a process dies, and cannot end one that hangs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from bench.core.errors import BenchError

Task = TypeVar("Task")
Result = TypeVar("Result")
Alive = Callable[[], None]
"""Called by a function that works on one file for long: it has not hung."""

_MAX_DEATHS_AT_BIRTH = 3
_PARENT_CHECK_S = 5.0


@dataclass(frozen=True)
class Lost:
    """A task whose process hung or died."""

    reason: str


@dataclass(frozen=True)
class _Sign:
    """A process lives."""


@dataclass(frozen=True)
class _Fatal:
    """What ends the run: a fault of the program, or of the disk that is written to."""

    error: BenchError | None
    report: str
    """The traceback of a fault of the program."""


@dataclass
class _Worker(Generic[Task]):
    process: Any
    pipe: Connection
    tasks: deque[Task] = field(default_factory=deque)
    """The oldest first."""
    heard: float = field(default_factory=time.monotonic)
    born: bool = False


def guarded_map(
    function: Callable[[Task, Alive], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    timeout_s: float,
    ahead: int,
) -> Iterator[tuple[Task, Result | Lost]]:
    """Each task with what `function` made of it, in the order in which they end; `tasks` is read as they are needed.

    A task that gives no sign of life (a result, or a call of `Alive`) for `timeout_s` seconds, or whose process dies,
    is `Lost`; every other arrives. `ahead` tasks wait in each process: many where one takes no longer than a
    message, few where it is long.
    With `workers=0` all is done in this process, and nothing guards it. Processes end with the iterator.

    Raises the BenchError that `function` raises, and its other errors as RuntimeError with their traceback; BenchError
    for a negative `workers` or no time, or if processes die before they start.
    """
    if workers < 0:
        raise BenchError(f"there cannot be {workers} workers", where="--workers", fix="give 0 or more")
    if not timeout_s > 0:
        raise BenchError(f"{timeout_s:g} s is no time", where="--timeout-s", fix="give seconds above 0, such as 60")
    if workers == 0:
        for task in tasks:
            yield task, function(task, lambda: None)
        return
    pool = _Pool(function, workers, timeout_s, ahead)
    try:
        yield from pool.run(iter(tasks))
    finally:
        pool.stop()


class _Pool(Generic[Task, Result]):
    def __init__(self, function: Callable[[Task, Alive], Result], workers: int, timeout_s: float, ahead: int) -> None:
        self._function, self._timeout_s, self._ahead = function, timeout_s, ahead
        self._context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._deaths_at_birth = 0
        self._ended: deque[tuple[Task, Result | Lost]] = deque()
        self._workers: list[_Worker[Task]] = [self._hire() for _ in range(workers)]

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Result | Lost]]:
        """Hand out, listen, give."""
        while True:
            for worker in self._workers:
                while len(worker.tasks) <= self._ahead and (task := next(tasks, None)) is not None:
                    self._send(worker, task)
            if not any(worker.tasks for worker in self._workers):
                return
            while not self._ended:
                self._listen()
            while self._ended:
                yield self._ended.popleft()

    def stop(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _hire(self) -> _Worker[Task]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._function), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _send(self, worker: _Worker[Task], task: Task) -> None:
        if not worker.tasks:
            worker.heard = time.monotonic()
        worker.tasks.append(task)
        # A process that has died meanwhile is found by `_listen`, which gives its tasks to another.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.pipe.send(task)

    def _listen(self) -> None:
        """Wait for the next message, death or deadline of a process, and act on it."""
        patience = min(w.heard + self._timeout_s for w in self._workers if w.tasks) - time.monotonic()
        ready = set(wait([worker.pipe for worker in self._workers], max(0.0, patience)))
        for place, worker in enumerate(self._workers):
            if worker.pipe in ready:
                try:
                    self._hear(worker, worker.pipe.recv())
                    while worker.pipe.poll():
                        self._hear(worker, worker.pipe.recv())
                except (EOFError, ConnectionResetError):
                    self._replace(place, "its reader crashed")
            elif worker.tasks and time.monotonic() - worker.heard > self._timeout_s:
                self._replace(place, f"its reader hung for more than {self._timeout_s:g} s")

    def _hear(self, worker: _Worker[Task], message: Any) -> None:
        worker.heard = time.monotonic()
        if isinstance(message, _Fatal):
            raise message.error or RuntimeError(f"a worker failed:\n{message.report}")
        if isinstance(message, _Sign):
            worker.born = True
        else:
            self._ended.append((worker.tasks.popleft(), message))

    def _replace(self, place: int, reason: str) -> None:
        """Lose the task that a process was at, and give its other tasks to a new one."""
        worker = self._workers[place]
        tasks = list(worker.tasks)
        if worker.born and tasks:
            self._ended.append((tasks.pop(0), Lost(reason)))
        else:
            self._deaths_at_birth += 1
        if self._deaths_at_birth > _MAX_DEATHS_AT_BIRTH:
            raise BenchError("worker processes die before they read anything", fix="give fewer --workers, or 0")
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers[place] = self._hire()
        for task in tasks:
            self._send(self._workers[place], task)


def _work(pipe: Connection, function: Callable[[Any, Alive], Any]) -> None:
    """A process's life: take a task, send what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        pipe.send(_Sign())
        while _has_mail(pipe):
            pipe.send(_outcome(function, pipe.recv(), pipe))


def _has_mail(pipe: Connection) -> bool:
    """Wait for a task; False when the parent was killed. Its end of the pipe lives on in processes forked later."""
    parent = os.getppid()
    while not pipe.poll(_PARENT_CHECK_S):
        if os.getppid() != parent:
            return False
    return True


def _outcome(function: Callable[[Any, Alive], Any], task: Any, pipe: Connection) -> Any:
    try:
        return function(task, lambda: pipe.send(_Sign()))
    except BenchError as error:
        return _Fatal(error, "")
    except Exception:  # noqa: BLE001 - passed on whole; the parent raises it
        return _Fatal(None, traceback.format_exc())
