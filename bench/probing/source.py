"""What a probe learns from: the tokens of one split, row by row, or their means."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from bench.probing.split import Rows

_READ = 256
"""Samples that are read at once when a whole split is pooled."""


class TokenSource(Protocol):
    """Features of one split."""

    num_samples: int
    num_views: int
    num_tokens: int
    embed_dim: int

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, D] of these samples, float16 or float32, on the CPU."""
        ...


class PooledTokens:
    """The means over tokens of a whole split, read once and kept: [views, samples, 1, D] float32. A TokenSource."""

    num_tokens = 1

    def __init__(self, source: TokenSource) -> None:
        self.num_samples, self.num_views, self.embed_dim = (
            source.num_samples,
            source.num_views,
            source.embed_dim,
        )
        rows = np.arange(source.num_samples)
        blocks = [rows[i : i + _READ] for i in range(0, len(rows), _READ)]
        self.values = torch.stack(
            [
                torch.cat([source.read(block, view).float().mean(dim=1, keepdim=True) for block in blocks])
                for view in range(source.num_views)
            ]
        )

    def read(self, rows: Rows, view: int) -> Tensor:
        """Means [b, 1, D] of these samples."""
        return self.values[view, torch.from_numpy(rows)]
