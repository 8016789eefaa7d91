"""Training examples that are decoded, augmented and encoded as a probe needs them, epoch by epoch: nothing is cached.

Decoding goes on in other processes while the encoder and the probes are at work (bench.video.loader).

Shapes: b examples of a chunk, K segments, N tokens of a part of a clip, D channels.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, tee

import numpy as np
import torch
from torch import Tensor

from bench.encoders.contract import Encoder
from bench.features.extract import ClipsAtOnce, ExtractOptions, clips_at_once, encode, items_at_once
from bench.features.spec import FeatureSpec, Request
from bench.probing.source import Rows
from bench.probing.streaming import Chunk, StreamCounts, samples_at_once
from bench.video.clip_views import VideoItem, Views
from bench.video.loader import LoadedClips, load_clips

Check = Callable[[Mapping[int, str]], None]
"""Called with the samples that have failed, by number, and why, after each; it may raise BenchError."""


class ClipStream:
    """Training examples, each a part of an item, encoded when they are asked for. A
    bench.probing.streaming.TokenStream.

    Under views that draw, every epoch has clips of its own, which depend on the views, the sample and the epoch
    alone; any others show the same clip in every epoch. An example that cannot be read is left out of its batch,
    noted in `counts.failures`, and not tried again.
    """

    def __init__(
        self,
        encoder: Encoder,
        requests: Sequence[Request],
        views: Views,
        spec: FeatureSpec,
        options: ExtractOptions,
        check: Check | None = None,
    ) -> None:
        """`requests` have one part each."""
        part_tokens, self.embed_dim = spec.shape(encoder.facts, views.clip_shape)
        self.num_samples = len(requests)
        self.num_tokens = views.num_segments * part_tokens
        self.counts = StreamCounts()
        self._encoder, self._requests, self._views, self._spec = encoder, requests, views, spec
        self._options, self._check = options, check
        self._clip_tokens = encoder.facts.num_tokens(*views.clip_shape)
        self.at_once = ClipsAtOnce(options.batch_size or clips_at_once(encoder, self._clip_tokens))

    def take(self, rows: Rows) -> ClipStream:
        """As TokenStream."""
        check, numbers = self._check, rows.tolist()

        def renumbered(failures: Mapping[int, str]) -> None:
            if check:
                check({numbers[row]: reason for row, reason in failures.items()})

        some = [self._requests[row] for row in numbers]
        return ClipStream(self._encoder, some, self._views, self._spec, self._options, renumbered)

    def chunks(self, wanted: Iterable[tuple[int, Rows]]) -> Generator[Chunk, None, None]:
        """The chunks of each batch, in order; `wanted` names the epoch and the samples of every batch."""
        to_load, to_encode = tee(wanted)
        reader = _Reader(self._to_load(to_load))
        options = self._options
        loaded = load_clips(reader.items(), self._views, num_workers=options.num_workers, timeout_s=options.timeout_s)
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
        return self._request(row, epoch).item

    def _request(self, row: int, epoch: int) -> Request:
        request = self._requests[row]
        return replace(request, item=replace(request.item, draw=epoch)) if self._views.draws else request

    def _encoded(self, rows: Rows, epoch: int, reader: _Reader, loaded: Iterator[LoadedClips]) -> tuple[Rows, Tensor]:
        """The readable ones of these rows, and their tokens [b, K * N, D]; encoded as soon as there are enough."""
        readable: list[int] = []
        parts = [torch.empty(0, self.num_tokens, self.embed_dim, device=self._encoder.device)]
        waiting: list[tuple[Request, Tensor]] = []
        enough = items_at_once(self._encoder, self.at_once.size, self._views.clips_per_item, self._clip_tokens)
        for row in rows.tolist():
            read = self._next(reader, loaded)
            if read is not None and read.pixels is not None:
                clips = self._views.unpack(read.pixels)
                if waiting and waiting[0][1].shape != clips.shape:
                    parts.append(self._encode(waiting))
                    waiting = []
                readable.append(row)
                waiting.append((self._request(row, epoch), clips))
            elif read is not None:
                self._fail(row, read.error or "could not be read")
            if len(waiting) == enough:
                parts.append(self._encode(waiting))
                waiting = []
        if waiting:
            parts.append(self._encode(waiting))
        return np.array(readable, dtype=np.int64), torch.cat(parts)

    def _encode(self, clips: Sequence[tuple[Request, Tensor]]) -> Tensor:
        requests, pixels = [request for request, _ in clips], [pixels for _, pixels in clips]
        parts = encode(self._encoder, pixels, requests, self._views, self._spec, self.at_once)
        self.counts.clips += len(requests) * self._views.clips_per_item
        return torch.stack([of_item[0, 0] for of_item in parts])

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
        """Whether the loader was asked for each of the rows ahead."""
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
