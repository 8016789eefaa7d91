"""Token sources and streams in memory, and a problem that a probe can learn."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
import torch
from torch import Tensor

from bench.probing.streaming import Chunk, StreamCounts


class ArraySource:
    """Tokens [views, samples, N, D] as a source that notes which rows were read."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self.num_views, self.num_samples, self.num_tokens, self.embed_dim = tokens.shape
        self.seen: list[tuple[int, ...]] = []

    def read(self, rows: np.ndarray, view: int) -> Tensor:
        self.seen.append((view, *rows.tolist()))
        return self.tokens[view, torch.from_numpy(rows)]


def learnable(num_samples: int, *, views: int = 1, seed: int = 0) -> tuple[ArraySource, np.ndarray]:
    """Three classes, told by the direction of one token among six at a random place; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % 3
    tokens = torch.randn(views, num_samples, 6, 12, generator=generator)
    directions = torch.eye(12)[:3] * 8.0
    place = torch.randint(0, 6, (num_samples,), generator=generator)
    tokens[:, torch.arange(num_samples), place] += directions[labels]
    return ArraySource(tokens), labels.numpy()


class ArrayStream:
    """Tokens [views, samples, N, D] as a stream: epoch e shows view e, and the first again after the last.

    `size` samples make a chunk; those of `broken` cannot be read; the chunk number `stop` never comes.
    """

    def __init__(
        self, tokens: Tensor, *, size: int = 1000, broken: tuple[int, ...] = (), stop: int | None = None
    ) -> None:
        self.tokens, self.size, self.broken, self.stop = tokens, size, broken, stop
        self.num_views, self.num_samples, self.num_tokens, self.embed_dim = tokens.shape
        self.counts = StreamCounts()
        self.seen: list[int] = []
        self.num_chunks = 0

    def take(self, rows: np.ndarray) -> ArrayStream:
        return ArrayStream(self.tokens[:, torch.from_numpy(rows)], size=self.size)

    def chunks(self, wanted: Iterable[tuple[int, np.ndarray]]) -> Generator[Chunk, None, None]:
        for epoch, rows in wanted:
            for start in range(0, len(rows), self.size):
                self.num_chunks += 1
                if self.num_chunks == self.stop:
                    raise KeyboardInterrupt
                part = rows[start : start + self.size]
                self.seen += part.tolist()
                self.counts.failures |= {row: "broken" for row in part.tolist() if row in self.broken}
                readable = part[~np.isin(part, self.broken)]
                self.counts.clips += len(readable)
                tokens = self.tokens[epoch % self.num_views, torch.from_numpy(readable)]
                yield Chunk(readable, tokens, len(part), start + self.size >= len(rows))
