"""Token sources in memory, and a problem that a probe can learn."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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
