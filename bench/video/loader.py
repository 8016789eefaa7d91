"""Videos -> clips for the encoder, in worker processes that may hang or die without losing a sample.

A file can hang or crash its decoder. Each worker therefore has a pipe of its own, on which it says what it
starts, and can be killed without touching the others. (`torch.utils.data.DataLoader` shares queues between
workers, stops as a whole, and raises from a signal handler in the middle of the caller's code.)

Shapes: T frames of a clip, n frames read at once, H x W pixels of the video.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import mmap
import multiprocessing
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from bench.errors import BenchError
from bench.video.clips import segment_indices, timed_step
from bench.video.decode import Decoder, Video, VideoInfo, open_video
from bench.video.views import Interpolation, view_crops

_BYTES_IN_FLIGHT = 1 << 28
_MOST_FRAMES_AT_ONCE = 16
_BYTES_AT_ONCE = 1 << 23
"""Whole frames are read in groups of about this size: they are still in the processor's cache when they are cropped."""
_MAX_IDLE_DEATHS = 3


Outcome = list[list[int]] | str
"""Of an item: the frame numbers of its clips, or the reason why it has none."""


@dataclass(frozen=True)
class VideoItem:
    """A video, or the part of it between two times, that clips are drawn from."""

    id: str
    path: str
    draw: int = 0
    """Tells apart several random draws of the same sample."""
    start_s: float | None = None
    end_s: float | None = None
    attempt: int = 0
    """How many other videos have failed in this one's place."""
    fps: float | None = None
    """Frames per second of a folder of frames; a video file tells its own."""


class Plan(Protocol):
    """What workers make of a video."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the uint8 pixels that one item gives."""
        ...

    @property
    def decoder(self) -> Decoder:
        """What decodes the videos."""
        ...

    def fill(self, item: VideoItem, video: Video, out: npt.NDArray[np.uint8]) -> list[list[int]]:
        """Write the item's pixels into `out` and return the frame numbers of its clips; errors make the item fail."""
        ...


@dataclass(frozen=True)
class ClipPlan:
    """Test views. Everything that decides which pixels a sample gives, and nothing that does not."""

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
    interpolation: Interpolation = "opencv-bilinear"
    squash: bool = False
    """Whether both sides are resized to `short_side`, whatever the video's shape."""
    fps: float | None = None
    """Frames of a clip per second of the video; `frame_step` then means nothing."""
    duration_s: float | None = None
    """Seconds that a clip spans; `frame_step` then means nothing."""

    def __post_init__(self) -> None:
        for name in ("frames_per_clip", "frame_step", "num_segments", "views", "size"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} is {getattr(self, name)}", fix="it must be at least 1")

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        """Of a sample's pixels: [views, num_segments, T, size, size, 3]."""
        return (self.views, self.num_segments, self.frames_per_clip, self.size, self.size, 3)

    def fill(self, item: VideoItem, video: Video, out: npt.NDArray[np.uint8]) -> list[list[int]]:
        """The views of the item's segments into `out`, of this plan's shape."""
        first, count = frame_range(item, video.info)
        step = step_in(self, item, video.info)
        rng = random_state(self.seed, item.id, item.draw) if self.sampling == "random" else None
        within = segment_indices(count, self.frames_per_clip, step, self.num_segments, rng=rng)
        indices = [[first + index for index in clip] for clip in within]
        for frames, places in read_clips(video, indices):
            crops = view_crops(
                frames,
                self.size,
                self.views,
                short_side=self.short_side,
                interpolation=self.interpolation,
                squash=self.squash,
            )
            for number, segment, position in places:
                for view, crop in enumerate(crops):
                    out[view, segment, position] = crop[number]
        return indices


class Paced(Protocol):
    """How far apart the frames of a clip are."""

    @property
    def frames_per_clip(self) -> int: ...
    @property
    def frame_step(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def duration_s(self) -> float | None: ...


def step_in(plan: Paced, item: VideoItem, info: VideoInfo) -> int:
    """Frames of this video between two frames of a clip. Raises BenchError where that takes an unknown frame rate."""
    if (plan.fps is None and plan.duration_s is None) or info.num_frames == 1:
        return plan.frame_step
    if info.fps <= 0:
        raise BenchError(
            "its frame rate is unknown, and the step of its clips follows from it",
            where=item.path,
            fix="give the rate of its frames, or a step in frames with --set clip.step=N",
        )
    return timed_step(info.fps, plan.frames_per_clip, fps=plan.fps, duration_s=plan.duration_s)


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


def random_state(*parts: object) -> np.random.RandomState:
    """A random stream that depends on these parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def read_clips(
    video: Video, indices: Sequence[Sequence[int]]
) -> Iterator[tuple[npt.NDArray[np.uint8], list[tuple[int, int, int]]]]:
    """A few frames at a time, uint8 [n, H, W, 3], and their places: (number among these n, clip, position in it).

    Every frame is decoded once, however many clips hold it. Whole frames of a large video would fill the memory, so
    each group is to be cropped before the next is read.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for clip, numbers in enumerate(indices):
        for position, index in enumerate(numbers):
            places.setdefault(index, []).append((clip, position))
    rising = sorted(places)
    frame_bytes = video.info.height * video.info.width * 3
    at_once = max(1, min(_MOST_FRAMES_AT_ONCE, _BYTES_AT_ONCE // frame_bytes))
    for start in range(0, len(rising), at_once):
        group = rising[start : start + at_once]
        yield video.read(group), [(number, *place) for number, index in enumerate(group) for place in places[index]]


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
    except BenchError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a damaged file makes the libraries fail in ways they do not document
        return f"{item.path}: {type(error).__name__}: {error}"


def frame_range(item: VideoItem, info: VideoInfo) -> tuple[int, int]:
    """First frame and number of frames between the item's times, which are rounded to the nearest frame.

    Raises BenchError where there is none, or the video's rate is not known.
    """
    if item.start_s is None and item.end_s is None:
        return 0, info.num_frames
    if info.fps <= 0:
        raise BenchError(
            "its frame rate is unknown, so times have no meaning",
            where=item.path,
            fix="give the rate of its frames, or leave start and end out",
        )
    first = max(0, round((item.start_s or 0.0) * info.fps))
    last = info.num_frames if item.end_s is None else min(info.num_frames, round(item.end_s * info.fps))
    if first >= last:
        lasts = f"the video lasts {info.num_frames / info.fps:.2f} s"
        raise BenchError(f"no frame between {item.start_s} s and {item.end_s} s, {lasts}", where=item.path)
    return first, last - first


@dataclass(frozen=True)
class _Task:
    number: int
    """Place in the order of items."""
    item: VideoItem
    slot: int


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
                    self._replace(number, "the decoder crashed on this file")
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

    def _replace(self, place: int, reason: str) -> None:
        """Fail the sample that the worker at `place` was at, and give its other tasks to a new worker."""
        worker = self._workers[place]
        tasks = list(worker.tasks)
        if worker.started is not None:
            task = tasks.pop(0)
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
