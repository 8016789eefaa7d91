"""Videos -> clips for the encoder, in worker processes: a file that hangs or crashes its decoder costs one sample."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.core.errors import BenchError, lack_of
from bench.core.workers import Lost, Pool, Tell, shared_memory
from bench.video.clip_views import Plan, VideoItem, Views
from bench.video.decode import open_video

_BYTES_IN_FLIGHT = 1 << 28

Outcome = list[list[int]] | str
"""The frame numbers of an item's clips, or the reason why it has none."""


@dataclass(frozen=True)
class LoadedClips:
    """The clips of one item, or the reason why there are none."""

    id: str
    draw: int
    pixels: torch.Tensor | None
    """uint8 RGB of the views' shape; None if the item failed."""
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
    if isinstance(items, Sized):
        num_workers = min(num_workers, len(items))
    size = int(np.prod(plan.shape))
    depth = min(16, max(2, _BYTES_IN_FLIGHT // (size * max(num_workers, 1))))
    slots = shared_memory(depth * num_workers, size)
    work, one_thread = partial(_work, plan, slots), partial(torch.set_num_threads, 1)
    with Pool(work, num_workers, timeout_s=timeout_s, ahead=depth - 1, begin=one_thread) as pool:
        yield from _in_order(pool, iter(items), plan, slots, replacement)


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
    """Fill `out`, of the views' shape; return the frame numbers, or the reason why there are none."""
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


def _in_order(
    pool: Pool[_Task, Outcome],
    items: Iterator[VideoItem],
    plan: Plan,
    slots: list[Any],
    replacement: Replacement | None,
) -> Iterator[LoadedClips]:
    numbered = enumerate(items)
    free = list(range(len(slots)))
    handed_out: deque[_Task] = deque()
    outcomes: dict[int, Outcome] = {}

    def outcome_of(task: _Task) -> Outcome:
        while task.number not in outcomes:
            for ended, outcome in pool.ended(wait=True):
                reason = f"{ended.item.path}: the decoder {outcome.reason}" if isinstance(outcome, Lost) else outcome
                outcomes[ended.number] = reason
        return outcomes.pop(task.number)

    while True:
        while free and (following := next(numbered, None)) is not None:
            handed_out.append(_Task(*following, free.pop()))
            pool.submit(handed_out[-1])
        if not handed_out:
            return
        task = handed_out.popleft()
        while (other := _successor(task.item, outcome := outcome_of(task), replacement)) is not None:
            task = dataclasses.replace(task, item=other)
            pool.submit(task)
        loaded = _loaded(task.item, torch.from_numpy(_pixels(plan, slots[task.slot]).copy()), outcome)
        free.append(task.slot)
        yield loaded


def _work(plan: Plan, slots: list[Any], task: _Task, tell: Tell) -> Outcome:
    """In a worker: decode into the task's slot."""
    return _load_or_explain(task.item, plan, _pixels(plan, slots[task.slot]))


def _pixels(plan: Plan, slot: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(slot, dtype=np.uint8).reshape(plan.shape)


_MOST_BYTES = 64 << 20
"""Memory for all remembered clips together; larger sets are decoded for each encoder."""

_decoded: dict[tuple[Views, str], LoadedClips] = {}


def remembered_clips(
    items: Mapping[str, VideoItem], plan: Views, *, num_workers: int, timeout_s: float
) -> Iterator[LoadedClips]:
    """As `load_clips`, for items by a key that names their content; what was decoded before is not decoded again."""
    known = {key: _decoded[plan, key] for key in items if (plan, key) in _decoded}
    rest = [item for key, item in items.items() if key not in known]
    room = _MOST_BYTES - sum(clips.pixels.numel() for clips in _decoded.values() if clips.pixels is not None)
    keep = len(rest) * _num_bytes(plan) <= room
    fresh = load_clips(rest, plan, num_workers=num_workers, timeout_s=timeout_s) if rest else iter(())
    for key in items:
        clips = known.get(key) or next(fresh)
        if keep and clips.pixels is not None:
            _decoded[plan, key] = clips
        yield clips


def forget_clips() -> None:
    """Give the memory back."""
    _decoded.clear()


def _num_bytes(plan: Views) -> int:
    return math.prod(plan.shape)
