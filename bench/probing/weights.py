"""The weights of S probes side by side, every setting of a sweep one row of one matrix; and the first weights of
attentive probes, as the official classes make them (protocol.md 4.1, 4.2).

Inside the pooler these are normal weights of deviation 0.02, zero biases, unit norms. What goes back into the tokens is
divided by sqrt(2 (i + 1)) in self-attention block i, and in the cross-attention block by the divisor of the last of
them. The classifiers stand outside of the pooler, whose constructor does all that, so they keep torch.nn.Linear's own
start: weights and biases uniform between -1 / sqrt(D) and 1 / sqrt(D).

Shapes: S settings, P numbers in one probe, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def decays(name: str, weight: Tensor) -> bool:
    """Whether V-JEPA 1 applies weight decay to this tensor: neither a bias nor one-dimensional (protocol.md 5.1)."""
    return weight.ndim != 1 and "bias" not in name


class Stack:
    """S equal copies of `initial`, as a matrix [S, P] and as tensors [S, ...] by name, with their gradients.

    A row holds the decayed tensors first, so that the optimiser sees two slices of a setting, not seventeen tensors.
    `assigned` names the tensors whose `.grad` the backward pass of the model fills by itself (kernels.linear).
    `alignment` > 1 fills rows up with zeros to a multiple of so many numbers: matrix products may round by where their
    operands start in memory, and so all rows round alike.
    """

    def __init__(
        self, initial: Mapping[str, Tensor], num_settings: int, *, assigned: Collection[str] = (), alignment: int = 1
    ) -> None:
        names = sorted(initial, key=lambda name: not decays(name, initial[name]))
        self.num_decayed = sum(weight.numel() for name, weight in initial.items() if decays(name, weight))
        row = torch.cat([initial[name].detach().flatten() for name in names])
        row = F.pad(row, (0, -len(row) % alignment))
        self.values = row.repeat(num_settings, 1)
        self.gradients = torch.zeros_like(self.values)
        self.weights: dict[str, Tensor] = {}
        self._returned: list[tuple[Tensor, Tensor]] = []
        start = 0
        for name in names:
            shape = (num_settings, *initial[name].shape)
            stop = start + initial[name].numel()
            weight = self.values[:, start:stop].view(shape).requires_grad_()
            gradient = weight.grad = self.gradients[:, start:stop].view(shape)
            self.weights[name] = weight
            if name not in assigned:
                self._returned.append((weight, gradient))
            start = stop

    def backward(self, losses: Tensor) -> None:
        """Fill the gradients with those of each setting's own loss; losses [S]."""
        # Not losses.backward(): that adds, and would have to be cleared first, gradients of gigabytes in every step.
        fresh = torch.autograd.grad(losses.sum(), [weight for weight, _ in self._returned])
        for (_, gradient), values in zip(self._returned, fresh, strict=True):
            gradient.copy_(values)

    def put(self, index: int, weights: Mapping[str, Tensor]) -> None:
        """Give one setting other weights than the rest."""
        with torch.no_grad():
            for name, weight in weights.items():
                self.weights[name][index].copy_(weight)

    def setting(self, index: int) -> dict[str, Tensor]:
        """A copy of the weights of one setting, by name."""
        return {name: weight[index].detach().clone() for name, weight in self.weights.items()}


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
