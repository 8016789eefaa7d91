"""The weights of S probes side by side: every setting of a sweep is one row of one matrix.

Shapes: S settings, P numbers in one probe, D channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

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

    def setting(self, index: int) -> dict[str, Tensor]:
        """A copy of the weights of one setting, by name."""
        return {name: weight[index].detach().clone() for name, weight in self.weights.items()}
