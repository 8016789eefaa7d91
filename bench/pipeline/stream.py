"""Training clips that are decoded, augmented and encoded as a probe needs them, epoch by epoch: nothing is cached.

Decoding goes on in other processes while the encoder and the probes are at work (bench.video.loader).

Shapes: b samples of a chunk, K segments, N tokens of a clip, D channels.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, tee

import numpy as np
import torch
from torch import Tensor

from bench.core import machine as environment
from bench.data.formats import Sample
from bench.encoders.contract import Encoder
from bench.features.batch import ClipsAtOnce
from bench.features.extract import clips_at_once, encode, feature_fields, item_key, items_at_once
from bench.features.store import space_key
from bench.pipeline.features import SplitAccount, refuse_too_many, sample_items
from bench.pipeline.missing_files import size_of
from bench.pipeline.plan import RunPlan
from bench.probing.split import Rows
from bench.probing.streaming import Chunk, StreamCounts, samples_at_once
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.loader import LoadedClips, load_clips
from bench.video.train_views import TrainViews

Check = Callable[[Mapping[int, str]], None]
"""Called with the samples that have failed, by number, and why, after each; it may raise BenchError."""


class ClipStream:
    """Training samples, encoded when they are asked for. A bench.probing.streaming.TokenStream.

    Under a plan that augments, every epoch draws clips of its own, which depend on the plan, the sample and the epoch
    alone; any other plan shows the same clip in every epoch. A sample that cannot be read is left out of its batch,
    noted in `counts.failures`, and not tried again.
    """

    def __init__(
        self,
        encoder: Encoder,
        items: Sequence[VideoItem],
        plan: ClipPlan | TrainViews,
        *,
        num_workers: int,
        timeout_s: float = 60.0,
        batch_size: int | None = None,
        check: Check | None = None,
    ) -> None:
        """`batch_size`: clips that the encoder sees at once; by their tokens where it is None."""
        clip_tokens = encoder.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)
        self.num_samples, self.embed_dim = len(items), encoder.embed_dim
        self.num_tokens = plan.num_segments * clip_tokens
        self.counts = StreamCounts()
        self._encoder, self._items, self._plan = encoder, items, plan
        self._num_workers, self._timeout_s, self._check = num_workers, timeout_s, check
        self.at_once = ClipsAtOnce(batch_size or clips_at_once(encoder, clip_tokens))

    def chunks(self, wanted: Iterable[tuple[int, Rows]]) -> Generator[Chunk, None, None]:
        """The chunks of each batch, in order; `wanted` names the epoch and the samples of every batch."""
        to_load, to_encode = tee(wanted)
        reader = _Reader(self._to_load(to_load))
        loaded = load_clips(reader.items(), self._plan, num_workers=self._num_workers, timeout_s=self._timeout_s)
        size = samples_at_once(self.num_tokens, self.embed_dim)
        with closing(loaded):
            for epoch, rows in to_encode:
                for start in range(0, len(rows), size):
                    part = rows[start : start + size]
                    readable, tokens = self._encoded(part, epoch, reader, loaded)
                    yield Chunk(readable, tokens, len(part), start + size >= len(rows))

    def _to_load(self, wanted: Iterable[tuple[int, Rows]]) -> Iterator[VideoItem | None]:
        """The item of every row, or None for one that has failed before."""
        for epoch, rows in wanted:
            for row in rows.tolist():
                yield None if row in self.counts.failures else self._item(row, epoch)

    def _item(self, row: int, epoch: int) -> VideoItem:
        return replace(self._items[row], draw=epoch) if isinstance(self._plan, TrainViews) else self._items[row]

    def _encoded(self, rows: Rows, epoch: int, reader: _Reader, loaded: Iterator[LoadedClips]) -> tuple[Rows, Tensor]:
        """The readable ones of these rows, and their tokens [b, K * N, D]; encoded as soon as there are enough."""
        readable: list[int] = []
        parts = [torch.empty(0, self.num_tokens, self.embed_dim, device=self._encoder.device)]
        waiting: list[tuple[VideoItem, Tensor]] = []
        segments = self._plan.num_segments
        enough = items_at_once(self._encoder, self.at_once.size, segments, self.num_tokens // segments)
        for row in rows.tolist():
            clips = self._next(reader, loaded)
            if clips is not None and clips.pixels is not None:
                readable.append(row)
                waiting.append((self._item(row, epoch), clips.pixels))
            elif clips is not None:
                self._fail(row, clips.error or "could not be read")
            if len(waiting) == enough or (waiting and row == rows[-1]):
                parts.append(self._encode(waiting))
                waiting = []
        return np.array(readable, dtype=np.int64), torch.cat(parts)

    def _encode(self, clips: Sequence[tuple[VideoItem, Tensor]]) -> Tensor:
        items, pixels = [item for item, _ in clips], [pixels for _, pixels in clips]
        tokens = encode(self._encoder, pixels, items, self._plan, self.at_once)
        self.counts.clips += len(items) * self._plan.num_segments
        return tokens[:, 0]

    def _next(self, reader: _Reader, loaded: Iterator[LoadedClips]) -> LoadedClips | None:
        started = time.perf_counter()
        clips = reader.next(loaded)
        self.counts.waiting_s += time.perf_counter() - started
        return clips

    def _fail(self, row: int, reason: str) -> None:
        self.counts.failures.setdefault(row, reason)
        if self._check:
            self._check(self.counts.failures)


class _Reader:
    """Keeps what a loader gives in step with what it was asked for, though some rows are passed over."""

    def __init__(self, wanted: Iterator[VideoItem | None]) -> None:
        self._wanted = wanted
        self._asked: deque[bool] = deque()
        """Of the rows ahead: whether the loader was asked for it."""
        self._ahead: deque[LoadedClips] = deque()

    def items(self) -> Iterator[VideoItem]:
        """What the loader reads, a bounded number ahead."""
        for item in self._wanted:
            self._asked.append(item is not None)
            if item is not None:
                yield item

    def next(self, loaded: Iterator[LoadedClips]) -> LoadedClips | None:
        """What became of the next row; None for one that is passed over."""
        if not self._asked:  # the loader has not come to it
            self._ahead.extend(islice(loaded, 1))
        if not self._asked.popleft():
            return None
        return self._ahead.popleft() if self._ahead else next(loaded)


@dataclass(frozen=True)
class StreamedSplit:
    """A training split that is encoded while a probe is trained on it."""

    samples: list[Sample]
    """Those with a file; the stream counts them in this order."""
    tokens: ClipStream
    keys: list[list[str]]
    """Of each sample: its item, whatever the epoch draws from it."""
    failures: dict[str, str]
    """Sample id -> why it has no file."""
    contents: list[str]
    """Content id of every sample of the list, as in SplitFeatures."""
    space: str
    """Key of everything that decides the tokens of a video in an epoch, besides the video."""

    def account(self, done: StreamCounts, *, encoded_now: bool) -> SplitAccount:
        """What the record says of the split when the stream has `done` this, in an earlier run or now."""
        failed = {self.samples[row].id: reason for row, reason in done.failures.items()}
        return SplitAccount(
            samples=[sample for sample in self.samples if sample.id not in failed],
            failures={**self.failures, **failed},
            contents=self.contents,
            space=self.space,
            encoded_clips=done.clips if encoded_now else 0,
            cached_clips=0,
            seconds=0.0,
            num_bytes=0,
            halved_to=self.tokens.at_once.halved_to,
        )


def open_stream(plan: RunPlan, encoder: Encoder, contents: Mapping[str, str]) -> StreamedSplit:
    """The training split of a streaming recipe. `contents` maps paths to content ids.

    Raises BenchError, now or when the stream is read, where more samples fail than --max-failed allows.
    """
    listed = plan.splits.train
    missing = {sample.id: reason for sample in listed if (reason := _missing(sample))}
    refuse_too_many(plan, "train", listed, missing)
    samples = [sample for sample in listed if sample.id not in missing]
    items = [sample_items(sample, contents, 1)[0] for sample in samples]

    def check(failures: Mapping[int, str]) -> None:
        failed = {samples[row].id: reason for row, reason in failures.items()}
        refuse_too_many(plan, "train", listed, {**missing, **failed})

    workers = plan.options.workers
    stream = ClipStream(
        encoder,
        items,
        plan.train_clips,
        num_workers=environment.default_workers() if workers is None else workers,
        timeout_s=plan.options.timeout_s,
        batch_size=plan.options.batch_size,
        check=check,
    )
    space = space_key(feature_fields(encoder, plan.train_clips))
    identities = [contents.get(sample.path, "") for sample in listed]
    return StreamedSplit(samples, stream, [[item_key(item)] for item in items], missing, identities, space)


def _missing(sample: Sample) -> str:
    """Why there is nothing to decode; empty where there is."""
    size = size_of(sample)
    if size is None:
        return f"{sample.path}: no such file"
    return "" if size else f"{sample.path}: an empty file, or a folder without frames"
