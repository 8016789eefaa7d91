"""Processes that train and test probes beside the one that extracts features: one for each core.

A probe on small features keeps one core busy, and no other can help it (bench/core/threads.py). So several plans
at once are several processes. They map the features from the cache, and are started when there is work for them.

    with Crew(2, reporter) as crew:
        crew.submit(0, job)
        outcomes = crew.ended(wait=True)          # [(0, Measured or Exception)]
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import signal
import time
import traceback
from collections import deque
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.features.store import FeatureSet, Store
from bench.pipeline.run import measure
from bench.pipeline.stages import Inputs, Measured, ProbeJob
from bench.probing.source import HeldOut

_TELL_INTERVAL_S = 0.2
"""A stage is told this often: a training step takes milliseconds, and every message costs both sides a part of one."""

Outcome = Measured | Exception


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    number: int | None = None
    """The job it is at."""
    ready: bool = False
    """Whether it has started, and can be sent a job."""


class Crew:
    """At most `size` processes. It is a Reporter too: whatever is told to it goes on to `reporter`, and is a moment to
    hear the processes, so that one that has ended its job gets the next while this process is busy extracting."""

    def __init__(self, size: int, reporter: Reporter) -> None:
        self._size, self._reporter = size, reporter
        # A process of a forked, many-threaded parent may hang; a fresh one takes seconds to start, but never does.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._queue: deque[tuple[int, ProbeJob]] = deque()
        self._ended: list[tuple[int, Outcome]] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def submit(self, number: int, job: ProbeJob) -> None:
        """Have a job done, after those that were submitted before; `number` is its name in `ended`."""
        self._queue.append((number, job))
        self._hand_out()

    def ended(self, *, wait: bool) -> list[tuple[int, Outcome]]:
        """The jobs that have ended since the last call, with what came out; `wait` for at least one."""
        self._hear(0)
        while wait and not self._ended:
            self._hear(None)
        ended, self._ended = self._ended, []
        return ended

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Pass it on, and hear the processes."""
        self._reporter.stage(name, done, total, detail)
        self._hear(0)

    def say(self, line: str) -> None:
        """Pass it on."""
        self._reporter.say(line)

    def _hand_out(self) -> None:
        idle = [worker for worker in self._workers if worker.number is None]
        if len(self._queue) > len(idle) and len(self._workers) < self._size:
            self._workers.append(self._hire())
        for worker in idle:
            if worker.ready and self._queue:
                worker.number, job = self._queue.popleft()
                worker.pipe.send(job)

    def _hire(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, torch.get_num_threads()), daemon=True)
        # Ctrl-C reaches every process of a terminal. One that starts while it is blocked never sees it, not even while
        # it imports; this one sees it a moment later. (Starting the tracker would unblock it again.)
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return _Worker(process, ours)

    def _hear(self, timeout_s: float | None) -> None:
        """Act on what the processes have sent; wait for the first message for at most `timeout_s`."""
        ready = wait([worker.pipe for worker in self._workers], timeout_s)
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            try:
                self._act(worker, worker.pipe.recv_bytes())
                while worker.pipe.poll():
                    self._act(worker, worker.pipe.recv_bytes())
            except (EOFError, ConnectionResetError):
                self._bury(worker)
        self._hand_out()

    def _act(self, worker: _Worker, sent: bytes) -> None:
        message = pickle.loads(sent)  # noqa: S301 - from a process that this one started
        if isinstance(message, _Stage):
            self._reporter.stage(message.name, message.done, message.total, message.detail)
        elif isinstance(message, str):
            self._reporter.say(message)
        elif isinstance(message, _Bug):
            raise RuntimeError(f"a probe process failed:\n{message.report}")
        else:
            if worker.number is not None:
                self._ended.append((worker.number, message))
            worker.number, worker.ready = None, True

    def _bury(self, worker: _Worker) -> None:
        """Drop a process that has died; its job has failed, as another attempt would likely die of the same."""
        self._workers.remove(worker)
        worker.process.join()
        worker.pipe.close()
        died = BenchError(
            f"a process that trained a probe died (exit code {worker.process.exitcode})",
            fix="if memory was short, give one --model at a time",
        )
        if worker.number is None:
            raise died
        self._ended.append((worker.number, died))


@dataclass(frozen=True)
class _Stage:
    name: str
    done: int
    total: int
    detail: str


@dataclass(frozen=True)
class _Ready:
    """A process can be sent its first job."""


@dataclass(frozen=True)
class _Bug:
    """A fault of the program, not of the data: it ends the run."""

    report: str


class _Messenger:
    """The Reporter of a process: tells the parent."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._told = 0.0

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Tell the stage now and then, and its end."""
        now = time.monotonic()
        if done == total or now - self._told >= _TELL_INTERVAL_S:
            self._told = now
            self.send(_Stage(name, done, total, detail))

    def say(self, line: str) -> None:
        """Tell the line."""
        self.send(line)

    def send(self, message: object) -> None:
        """Not Connection.send: it would move tensors through /dev/shm, which is small in many containers."""
        self._pipe.send_bytes(pickle.dumps(message))


def _work(pipe: Connection, num_threads: int) -> None:
    """A process's life: take a job, send what came out."""
    torch.set_num_threads(num_threads)  # as in the parent, so that the same numbers come out
    parent = _Messenger(pipe)
    try:
        parent.send(_Ready())
        while True:
            parent.send(_outcome(pipe.recv(), parent))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone


def _outcome(job: ProbeJob, parent: _Messenger) -> Outcome | _Bug:
    try:
        return measure(job, open_inputs(job), parent)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except (BenchError, OSError) as error:
        return error
    except Exception:  # noqa: BLE001 - passed on whole; the parent raises it
        return _Bug(traceback.format_exc())


def open_inputs(job: ProbeJob) -> Inputs:
    """What a job's probe is trained and tested on, from the cache."""
    cache, held = job.plan.cache, job.held_out
    return Inputs.of(
        job.plan,
        open_features(cache, job.train_space, job.train_items),
        HeldOut(held.rows, held.readable, open_features(cache, held.space, held.items)) if held else None,
        open_features(cache, job.test_space, job.test_items),
        (open_inputs(part) for part in job.controls),
    )


def open_features(cache: Path, space: str, items: list[list[str]]) -> FeatureSet:
    """The features of a split that are in the cache, by the key of their space and the items of each sample."""
    fields = json.loads((cache / "features" / space / "space.json").read_text(encoding="utf-8"))
    store = Store(cache, fields)
    damaged = store.open(key for draws in items for key in draws)
    if damaged:
        raise BenchError(damaged[0], where=str(store.folder), fix="run the same command again")
    return FeatureSet(store, items)
