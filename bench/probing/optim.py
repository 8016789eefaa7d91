"""How a sweep is optimised: the official schedules, clipping and torch's AdamW, for each setting on its own.

Steps are counted from 1, because the official schedules advance before each iteration (protocol.md 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.optim.adamw import adamw

from bench.cards.load import Optimisation, Setting
from bench.probing.weights import Stack

_NO_DECAY = {"weight_decay": 0.0, "final_weight_decay": None}


def cosine(start: float, final: float, progress: float) -> float:
    """Half a cosine wave from `start` (progress 0) to `final` (progress 1)."""
    return final + (start - final) * 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(setting: Setting, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
    """Linear warm-up from start_lr to lr, then a cosine to final_lr."""
    warmup_steps = int(setting.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        start = setting.lr if setting.start_lr is None else setting.start_lr
        return start + (setting.lr - start) * step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return max(setting.final_lr, cosine(setting.lr, setting.final_lr, progress))


def weight_decay(setting: Setting, step: int, *, total_steps: int) -> float:
    """A cosine from weight_decay to final_weight_decay over all steps; constant where the setting names no final."""
    if setting.final_weight_decay is None:
        return setting.weight_decay
    return cosine(setting.weight_decay, setting.final_weight_decay, step / total_steps)


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
        settings: Sequence[Setting],
        *,
        epochs: int,
        steps_per_epoch: int,
    ) -> None:
        self.stack = stack
        self.recipe = recipe
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = epochs * steps_per_epoch
        self.num_steps = 0
        self._means, self._squares = (torch.zeros_like(stack.values.detach()) for _ in range(2))
        self._groups = self._make_groups()

    def _make_groups(self) -> list[_Group]:
        """Parts of the stack that are updated alike: a call for each costs as much as its arithmetic."""
        values, gradients = self.stack.values.detach(), self.stack.gradients
        means, squares = self._means, self._squares
        groups: dict[tuple[Setting, bool], _Group] = {}
        for row, setting in enumerate(self.settings):
            for part, decays in (
                (slice(None, self.stack.num_decayed), True),
                (slice(self.stack.num_decayed, None), self.recipe.decay_biases),
            ):
                # What does not decay is alike whatever its setting's decay.
                alike = setting if decays else setting.model_copy(update=_NO_DECAY)
                group = groups.setdefault((alike, decays), _Group(alike))
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
                    group.setting, self.num_steps, total_steps=self.total_steps, steps_per_epoch=self.steps_per_epoch
                ),
                weight_decay=weight_decay(group.setting, self.num_steps, total_steps=self.total_steps),
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


@dataclass
class _Group:
    """Parts of settings that are updated alike, and AdamW's memory of them."""

    setting: Setting
    values: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    means: list[torch.Tensor] = field(default_factory=list)
    squares: list[torch.Tensor] = field(default_factory=list)
    steps: list[torch.Tensor] = field(default_factory=list)
