"""How a sweep is optimised: the official schedules, clipping and torch's AdamW, for each setting on its own.

Steps are counted from 1, because the official schedules advance before each iteration (protocol.md 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bench.cards import Optimisation
from bench.probing.stack import Stack


def cosine(start: float, final: float, progress: float) -> float:
    """Half a cosine wave from `start` (progress 0) to `final` (progress 1)."""
    return final + (start - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(recipe: Optimisation, lr: float, step: int, *, total_steps: int, warmup_steps: int) -> float:
    """Linear warm-up from start_lr_ratio * lr to lr, then a cosine to final_lr."""
    if step < warmup_steps:
        start = recipe.start_lr_ratio * lr
        return start + (lr - start) * step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(recipe.final_lr, cosine(lr, recipe.final_lr, progress))


def weight_decay(recipe: Optimisation, value: float, step: int, *, total_steps: int) -> float:
    """A cosine from `value` to final_weight_decay over all steps; constant where the recipe names no final value."""
    if recipe.final_weight_decay is None:
        return value
    return cosine(value, recipe.final_weight_decay, step / total_steps)


def clip_gradients(stack: Stack, max_norm: float) -> None:
    """Scale each setting's gradient to at most `max_norm`, by torch's rule."""
    norms = torch.linalg.vector_norm(stack.gradients, dim=1, keepdim=True)
    stack.gradients.mul_((max_norm / (norms + 1e-6)).clamp(max=1.0))


class SweepOptimiser:
    """torch.optim.AdamW over the rows of a stack: every setting has its own learning rate, decay and clipping."""

    def __init__(
        self,
        stack: Stack,
        recipe: Optimisation,
        settings: Sequence[tuple[float, float]],
        *,
        epochs: int,
        steps_per_epoch: int,
    ) -> None:
        self.stack = stack
        self.recipe = recipe
        self.settings = settings
        self.total_steps = epochs * steps_per_epoch
        self.warmup_steps = int(recipe.warmup_epochs * steps_per_epoch)
        self.num_steps = 0
        groups = []
        for values, gradients in zip(stack.values, stack.gradients, strict=True):
            for part in (slice(None, stack.num_decayed), slice(stack.num_decayed, None)):
                row = values[part].detach()
                row.grad = gradients[part]
                groups.append({"params": [row]})
        fused = stack.values.device.type in ("cpu", "cuda")
        self._adamw = torch.optim.AdamW(groups, fused=fused)

    def step(self) -> None:
        """Advance the schedules, clip, and update every setting."""
        self.num_steps += 1
        if self.recipe.clip_norm is not None:
            clip_gradients(self.stack, self.recipe.clip_norm)
        groups = self._adamw.param_groups
        for (lr, decay), decayed, rest in zip(self.settings, groups[::2], groups[1::2], strict=True):
            decayed["lr"] = rest["lr"] = learning_rate(
                self.recipe, lr, self.num_steps, total_steps=self.total_steps, warmup_steps=self.warmup_steps
            )
            decayed["weight_decay"] = weight_decay(self.recipe, decay, self.num_steps, total_steps=self.total_steps)
            rest["weight_decay"] = decayed["weight_decay"] if self.recipe.decay_biases else 0.0
        self._adamw.step()
