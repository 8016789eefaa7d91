"""How a sweep is optimised: the official schedules, clipping and torch's AdamW, for each setting on its own.

Steps are counted from 1, because the official schedules advance before each iteration (protocol.md 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.optim.adamw import adamw

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
        self._means, self._squares = (torch.zeros_like(stack.values.detach()) for _ in range(2))
        self._groups = self._make_groups()

    def _make_groups(self) -> list[_Group]:
        """Parts of the stack by learning rate and decay: a call for each costs as much as its arithmetic."""
        values, gradients = self.stack.values.detach(), self.stack.gradients
        means, squares = self._means, self._squares
        groups: dict[tuple[float, float | None], _Group] = {}
        for row, (lr, decay) in enumerate(self.settings):
            for part, value in (
                (slice(None, self.stack.num_decayed), decay),
                (slice(self.stack.num_decayed, None), decay if self.recipe.decay_biases else None),
            ):
                group = groups.setdefault((lr, value), _Group(lr, value))
                group.values.append(values[row, part])
                group.gradients.append(gradients[row, part])
                group.means.append(means[row, part])
                group.squares.append(squares[row, part])
                group.steps.append(torch.zeros((), device=values.device))
        return list(groups.values())

    def step(self) -> None:
        """Advance the schedules, clip, and update every setting."""
        self.num_steps += 1
        if self.recipe.clip_norm is not None:
            clip_gradients(self.stack, self.recipe.clip_norm)
        for group in self._groups:
            adamw(
                group.values,
                group.gradients,
                group.means,
                group.squares,
                [],
                group.steps,
                fused=self.stack.values.device.type in ("cpu", "cuda") or None,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=learning_rate(
                    self.recipe, group.lr, self.num_steps, total_steps=self.total_steps, warmup_steps=self.warmup_steps
                ),
                weight_decay=self._decay(group.decay),
                eps=1e-8,
                maximize=False,
            )

    def pass_over(self) -> None:
        """Advance the schedules by a step that has no gradients."""
        self.num_steps += 1

    def state(self) -> dict[str, torch.Tensor]:
        """AdamW's means and squares [S, P], and how many updates [] it has made; to be changed by no one."""
        return {"means": self._means, "squares": self._squares, "updates": self._groups[0].steps[0]}

    def load_state(self, state: Mapping[str, torch.Tensor], *, num_steps: int) -> None:
        """Go on from a `state` that was reached after so many steps of the schedules."""
        self.num_steps = num_steps
        self._means.copy_(state["means"])
        self._squares.copy_(state["squares"])
        for group in self._groups:
            for updates in group.steps:
                updates.copy_(state["updates"])

    def _decay(self, value: float | None) -> float:
        return 0.0 if value is None else weight_decay(self.recipe, value, self.num_steps, total_steps=self.total_steps)


@dataclass
class _Group:
    """Parts of settings that are updated alike, and AdamW's memory of them."""

    lr: float
    decay: float | None
    """None where the recipe decays nothing."""
    values: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    means: list[torch.Tensor] = field(default_factory=list)
    squares: list[torch.Tensor] = field(default_factory=list)
    steps: list[torch.Tensor] = field(default_factory=list)
