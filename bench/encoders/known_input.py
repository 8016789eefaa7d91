"""A short name of what an encoder answers to its known clips, to be compared by eye across machines.

Two clips, N tokens of a clip, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.hashing import text_digest

_PIECES = 32


def known_digest(tokens: Tensor) -> str:
    """16 hex digits that name the tokens [2, N, D] of `known_clips`.

    No hash of all tokens, however rounded, is the same on two machines: among millions of values some lie on the edge
    of a rounding step. So 34 numbers are hashed: the tokens' standard deviation s to two significant digits, their mean
    to 0.1 s, and for each of 32 equal pieces of the standardised tokens, n values in order, their sum weighted with
    cos(0.61 i + 0.2) sqrt(2 / n), i counted over all values, to 0.1. They see scale, shift and order.

    Threads, batches and machines move fp32 tokens by 1e-6 s or so, which moves one of the numbers over an edge in
    about one encoder of a thousand; a change of 0.1 s in the tokens changes the digest nearly always. It holds for
    fp32 on a CPU: half precision and TF32 are too coarse, and move the numbers themselves by hundredths
    (`known_numbers`).
    """
    std, *others = known_numbers(tokens)
    # Adding 0 turns a rounded -0.0 into 0.0.
    numbers = [f"{std:.1e}", *(f"{round(value, 1) + 0.0:.1f}" for value in others)]
    return text_digest(" ".join(numbers))[:16]


def known_numbers(tokens: Tensor) -> list[float]:
    """What `known_digest` hashes, before it is rounded: s, the mean over s, and the 32 weighted sums."""
    flat = tokens.detach().cpu().double().flatten()
    mean, std = flat.mean(), flat.std()
    standard = (flat - mean) / std
    weights = torch.cos(0.61 * torch.arange(len(flat), dtype=torch.float64) + 0.2)
    sums = [piece.sum() * (2 / len(piece)) ** 0.5 for piece in (standard * weights).tensor_split(_PIECES)]
    return [value.item() for value in (std, mean / std, *sums)]
