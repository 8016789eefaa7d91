"""A function over many tasks in processes that may hang or die without ending the run or losing another task.

`concurrent.futures` stops as a whole when a process dies, and cannot end one that hangs; `torch.utils.data.DataLoader`
does so too, and raises from a signal handler in the middle of the caller's code. Here each process has a pipe of its
own, and can be killed without touching the others.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from bench.core.errors import BenchError

Task = TypeVar("Task")
Result = TypeVar("Result")
Alive = Callable[[], None]
"""Called by a function that works on one task for long: it has not hung."""
Tell = Callable[..., None]
"""The same; what it is called with reaches the process that started this one."""

FORKS = sys.platform == "linux"
"""Whether processes for short work are forked: they start in milliseconds, and share memory that has no name."""
_BIRTH_S = 600.0
"""A fresh process imports its modules, perhaps from a slow disk."""
_MOST_IDLE_DEATHS = 3
_PARENT_CHECK_S = 5.0
_KILLED = -9
"""Exit code of a process that something else ended."""


@dataclass(frozen=True)
class Lost:
    """A task whose process hung or died."""

    reason: str
    """What it did, to be read after a noun: "crashed on this file"."""
    exit_code: int | None
    """None where it hung."""


@dataclass(frozen=True)
class _Told:
    """A sign of life, with the arguments of the call."""

    words: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Fatal:
    """What ends the run: a fault of the program, or of the disk that is written to."""

    error: BenchError | None
    report: str
    """The traceback of a fault of the program."""


@dataclass
class _Job(Generic[Task]):
    task: Task
    again: bool = False
    """Whether a process was killed over it."""


@dataclass
class _Worker(Generic[Task]):
    process: Any
    pipe: Connection
    jobs: deque[_Job[Task]] = field(default_factory=deque)
    """The oldest first; it is at that one."""
    born: bool = False
    heard: float = field(default_factory=time.monotonic)
    """When it last gave a sign of life, or got a job while it had none."""


def guarded_map(
    function: Callable[[Task, Tell], Result], tasks: Iterable[Task], *, workers: int, timeout_s: float, ahead: int
) -> Iterator[tuple[Task, Result | Lost]]:
    """Each task with what `function` made of it, in the order in which they end; `tasks` is read as they are needed.

    See `Pool`. With `workers=0` all is done in this process, and nothing guards it. Processes end with the iterator.
    Raises BenchError for a negative `workers` or no time, and what `Pool` raises.
    """
    if workers < 0:
        raise BenchError(f"there cannot be {workers} workers", where="--workers", fix="give 0 or more")
    if not timeout_s > 0:
        raise BenchError(f"{timeout_s:g} s is no time", where="--timeout-s", fix="give seconds above 0, such as 60")
    if workers == 0:
        for task in tasks:
            yield task, function(task, lambda: None)
        return
    with Pool(function, workers, timeout_s=timeout_s, ahead=ahead) as pool:
        waiting = iter(tasks)
        while True:
            for task in islice(waiting, workers * (ahead + 1) - pool.pending):
                pool.submit(task)
            if not pool.pending:
                return
            yield from pool.ended(wait=True)


class Pool(Generic[Task, Result]):
    """At most `size` processes, started as there is work for them, in which `function` makes a result of each task.

    A task that gives no sign of life (a result, or a call of `Tell`) for `timeout_s` seconds, or whose process dies,
    is `Lost`; every other arrives. `ahead` tasks wait in each process: many where one takes no longer than a
    message, few where it is long. Whatever the function tells goes to `told`, in the caller's thread. An interrupt
    (Ctrl-C) is for the caller alone; the processes end, silently, with the pool or with this process.

    `fresh` processes import everything anew, which takes seconds, instead of being forked: a process of a forked,
    many-threaded parent may hang where it starts threads itself. `begin` is what a process calls first.

    With `retry`, a task is tried once more if its process was killed (SIGKILL) by something else, such as the kernel
    when memory is short, which may not have meant the task; and a few processes may die without one.

    Its methods raise the BenchError that `function` raises, and other errors as RuntimeError with their traceback;
    and BenchError with `fix` if processes die before they do anything.
    """

    def __init__(
        self,
        function: Callable[[Task, Tell], Result],
        size: int,
        *,
        timeout_s: float = math.inf,
        ahead: int = 0,
        fresh: bool = False,
        begin: Callable[[], object] | None = None,
        told: Callable[..., None] = lambda *_: None,
        retry: bool = True,
        fix: str = "give fewer --workers, or 0",
    ) -> None:
        self._life = (function, begin)
        self._size, self._timeout_s, self._ahead = size, timeout_s, ahead
        self._forks = FORKS and not fresh
        self._context: Any = multiprocessing.get_context("fork" if self._forks else "spawn")
        self._told, self._retry, self._fix = told, retry, fix
        self._queue: deque[_Job[Task]] = deque()
        self._workers: list[_Worker[Task]] = []
        self._ended: list[tuple[Task, Result | Lost]] = []
        self._idle_deaths = 0

    def __enter__(self) -> Pool[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            _dismiss(worker)

    @property
    def pending(self) -> int:
        """How many tasks were submitted whose ends `ended` has not given."""
        return len(self._queue) + sum(len(worker.jobs) for worker in self._workers) + len(self._ended)

    def submit(self, task: Task) -> None:
        """Have a task done, after those that were submitted before."""
        self._queue.append(_Job(task))
        self._hand_out()

    def ended(self, *, wait: bool) -> list[tuple[Task, Result | Lost]]:
        """The tasks that have ended since the last call, with what came out; `wait` for at least one of them."""
        self.hear()
        while wait and not self._ended and self.pending:
            self._listen(math.inf)
        ended, self._ended = self._ended, []
        return ended

    def hear(self) -> None:
        """Act on what the processes have sent, and give them work. Does not wait."""
        self._listen(0.0)

    def _hand_out(self) -> None:
        """Give jobs to the least busy processes that are ready: a large message would wait for one that starts. While
        one does, the others get no work that it could do."""
        ready = [worker for worker in self._workers if worker.born]
        most = 1 + (self._ahead if len(ready) == len(self._workers) else 0)
        while self._queue and ready:
            worker = min(ready, key=lambda worker: len(worker.jobs))
            if len(worker.jobs) >= most:
                break
            self._send(worker, self._queue.popleft())
        idle = sum(not worker.jobs for worker in self._workers)
        if len(self._queue) > idle and len(self._workers) < self._size:
            self._workers.append(self._hire())

    def _send(self, worker: _Worker[Task], job: _Job[Task]) -> None:
        if not worker.jobs:
            worker.heard = time.monotonic()
        worker.jobs.append(job)
        # A process that has died meanwhile is found by `_listen`, which gives its jobs to another.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _send(worker.pipe, job.task)

    def _hire(self) -> _Worker[Task]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, *self._life), daemon=True)
        with _uninterrupted(tracked=not self._forks):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _listen(self, most_s: float) -> None:
        """Wait for the next message, death or deadline of a process for at most `most_s` seconds, and act on it."""
        patience = min([most_s, *(self._deadline(worker) - time.monotonic() for worker in self._workers)])
        ready = set(wait([w.pipe for w in self._workers], None if patience == math.inf else max(0.0, patience)))
        for worker in list(self._workers):
            if worker.pipe in ready:
                try:
                    self._act(worker, _received(worker.pipe))
                    while worker.pipe.poll():
                        self._act(worker, _received(worker.pipe))
                except (EOFError, ConnectionResetError):
                    worker.process.join(1.0)  # it has closed its pipe, and is on its way
                    self._bury(worker, Lost("crashed on this file", worker.process.exitcode))
            elif time.monotonic() > self._deadline(worker):
                self._bury(worker, Lost(f"hung for more than {self._timeout_s:g} s", None))
        self._hand_out()

    def _deadline(self, worker: _Worker[Task]) -> float:
        if not worker.born:
            return worker.heard + _BIRTH_S
        return worker.heard + self._timeout_s if worker.jobs else math.inf

    def _act(self, worker: _Worker[Task], message: Any) -> None:
        worker.heard = time.monotonic()
        if isinstance(message, _Fatal):
            raise message.error or RuntimeError(f"a worker failed:\n{message.report}")
        if isinstance(message, _Told):
            worker.born = True
            if message.words:
                self._told(*message.words)
        else:
            self._idle_deaths = 0
            self._ended.append((worker.jobs.popleft().task, message))

    def _bury(self, worker: _Worker[Task], lost: Lost) -> None:
        """Lose the job that a process was at, and put its other ones back."""
        self._workers.remove(worker)
        _dismiss(worker)
        job = worker.jobs.popleft() if worker.jobs else None
        self._queue.extendleft(reversed(worker.jobs))
        if job is None:
            self._idle_deaths += 1
        elif self._retry and lost.exit_code == _KILLED and not job.again:
            self._queue.appendleft(_Job(job.task, again=True))
        else:
            self._ended.append((job.task, lost))
        if self._idle_deaths > (_MOST_IDLE_DEATHS if self._retry else 0):
            raise BenchError("worker processes die before they do anything", fix=self._fix)


def shared_memory(count: int, size: int) -> list[Any]:
    """`count` buffers of `size` bytes that a function's processes fill for this one, to be bound to the function of a
    `Pool`. Anonymous memory, where it can be inherited, is not bound by the small /dev/shm of many containers."""
    if FORKS:
        return [mmap.mmap(-1, size) for _ in range(count)]
    return [multiprocessing.get_context("spawn").RawArray("B", size) for _ in range(count)]


@contextlib.contextmanager
def _uninterrupted(*, tracked: bool) -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal. One that starts while it is blocked never sees it, not even while it
    imports; this one sees it a moment later."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    if tracked:
        resource_tracker.ensure_running()  # it would be started now, and would unblock it again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _dismiss(worker: _Worker[Any]) -> None:
    worker.process.kill()
    worker.process.join()
    worker.process.close()
    worker.pipe.close()


def _send(pipe: Connection, message: object) -> None:
    """Not Connection.send: it would move tensors through /dev/shm, which is small in many containers."""
    pipe.send_bytes(pickle.dumps(message))


def _received(pipe: Connection) -> Any:
    return pickle.loads(pipe.recv_bytes())  # noqa: S301 - from a process that this one started, or that started it


def _work(pipe: Connection, function: Callable[[Any, Tell], Any], begin: Callable[[], object] | None) -> None:
    """A process's life: take a task, send what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    if begin:
        begin()
    parent = os.getppid()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        _send(pipe, _Told())
        while _has_mail(pipe, parent):
            _send(pipe, _outcome(function, _received(pipe), pipe))


def _has_mail(pipe: Connection, parent: int) -> bool:
    """Wait for a task; False when the parent was killed. Its end of the pipe lives on in processes forked later."""
    while not pipe.poll(_PARENT_CHECK_S):
        if os.getppid() != parent:
            return False
    return True


def _outcome(function: Callable[[Any, Tell], Any], task: Any, pipe: Connection) -> Any:
    try:
        return function(task, lambda *words: _send(pipe, _Told(words)))
    except BenchError as error:
        return _Fatal(error, "")
    except Exception:  # noqa: BLE001 - passed on whole; the parent raises it
        return _Fatal(None, traceback.format_exc())
