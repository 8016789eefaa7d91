"""First weights of the attentive probes, as the official classes make them (protocol.md 4.1, 4.2).

Inside the pooler: normal weights of deviation 0.02, zero biases, unit norms. What goes back into the tokens is divided
by sqrt(2 (i + 1)) in self-attention block i, and in the cross-attention block by the divisor of the last of them. The
classifiers stand outside of the pooler, whose constructor does all that, so they keep torch.nn.Linear's own start:
weights and biases uniform between -1 / sqrt(D) and 1 / sqrt(D).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_POOLER = "pooler."
_BLOCKS = "pooler.blocks."
_INTO_TOKENS = ("attn.proj.weight", "mlp.fc2.weight")


def first_weights(shapes: Mapping[str, tuple[int, ...]], *, seed: int) -> dict[str, Tensor]:
    """Untrained float32 weights of a probe whose official tensors have these shapes.

    The official truncation at +-2 is a hundred deviations away. What it does all the same, about once in ten million
    weights, is an accident of torch's inverse error function at its edge (a weight of exactly 2), which is left out.
    The stream is NumPy's legacy one, which is frozen: a seed names the same weights on every machine and version.
    """
    stream = np.random.RandomState(seed)
    return {name: torch.from_numpy(_drawn(name, shapes, stream).astype(np.float32)) for name in shapes}


def _drawn(name: str, shapes: Mapping[str, tuple[int, ...]], stream: np.random.RandomState) -> np.ndarray:
    shape = shapes[name]
    if not name.startswith(_POOLER):
        bound = 1 / math.sqrt(shapes[f"{name.rpartition('.')[0]}.weight"][1])
        return stream.uniform(-bound, bound, shape)
    if name.endswith("bias"):
        return np.zeros(shape)
    if len(shape) == 1:
        return np.ones(shape)
    return stream.standard_normal(shape) * 0.02 / _divisor(name, shapes)


def _divisor(name: str, shapes: Mapping[str, tuple[int, ...]]) -> float:
    if not name.endswith(_INTO_TOKENS):
        return 1.0
    last = max((_block(other) for other in shapes if other.startswith(_BLOCKS)), default=0)
    return math.sqrt(2.0 * (1 + (_block(name) if name.startswith(_BLOCKS) else last)))


def _block(name: str) -> int:
    """The number of the block that a tensor of it is named with."""
    return int(name.removeprefix(_BLOCKS).partition(".")[0])
