"""One training of a sweep: batches, epochs, losses; each setting is optimised on its own, with the official schedules,
clipping and torch's AdamW.

Nothing depends on the number of settings or the device. Steps are counted from 1, because the official schedules
advance before each iteration (protocol.md 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adamw import adamw

from bench.cards.load import Optimisation, Setting
from bench.core.threads import small_steps
from bench.probing.source import Rows, TokenSource
from bench.probing.weights import Stack


class Sweep(Protocol):
    """S probes that are trained together."""

    stack: Stack

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, C]."""
        ...

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D], targets [B]; return the losses [S]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many samples of a split make a step, and how many steps a training has."""

    batch_size: int
    steps_per_epoch: int
    epochs: int

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_per_epoch


def make_plan(recipe: Optimisation, num_samples: int) -> Plan:
    """Small sets get smaller batches and more epochs; the last batch of an epoch may be a part of one."""
    batch_size = min(recipe.batch_size, max(1, num_samples // recipe.min_steps_per_epoch))
    steps_per_epoch = math.ceil(num_samples / batch_size)
    epochs = max(recipe.epochs, math.ceil(recipe.min_steps / steps_per_epoch))
    return Plan(batch_size=batch_size, steps_per_epoch=steps_per_epoch, epochs=epochs)


@dataclass(frozen=True)
class TrainResult:
    """Results of a training for each setting, both [S]."""

    loss: list[float]
    """Mean loss over the samples of the last epoch."""
    diverged: list[bool]
    """Whether the loss of any step, or a final weight, was not a finite number."""


def batches(
    rows: Rows, plan: Plan, num_views: int, *, seed: int, count: int | None = None
) -> Iterator[tuple[int, Rows, int]]:
    """(epoch, rows, view) of every step: a new order each epoch, of which the first `count` are taken where that is
    given; the views in turn."""
    stream = np.random.RandomState(seed)
    for epoch in range(plan.epochs):
        order = rows[stream.permutation(len(rows))][:count]
        for start in range(0, len(order), plan.batch_size):
            yield epoch, order[start : start + plan.batch_size], epoch % num_views


def train_sweep(
    sweep: Sweep,
    source: TokenSource,
    rows: Rows,
    labels: npt.NDArray[np.int64],
    recipe: Optimisation,
    settings: Sequence[Setting],
    *,
    seed: int,
    progress: Callable[[int, int], None],
) -> TrainResult:
    """Train every setting of `sweep` in place on these rows of the source."""
    stack = sweep.stack
    device = stack.values.device
    plan = make_plan(recipe, len(rows))
    optimiser = SweepOptimiser(stack, recipe, settings, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch)
    targets = torch.from_numpy(labels).to(device)
    total = torch.zeros(len(settings), device=device)
    finite = torch.ones(len(settings), dtype=torch.bool, device=device)
    numbers = plan.batch_size * source.num_tokens * source.embed_dim + stack.values.numel()
    with small_steps(device, numbers):
        for step, (epoch, chosen, view) in enumerate(batches(rows, plan, source.num_views, seed=seed), start=1):
            tokens = source.read(chosen, view).to(device)
            losses = sweep.backward(tokens, targets[torch.from_numpy(chosen).to(device)])
            optimiser.step()
            finite &= losses.isfinite()
            if epoch == plan.epochs - 1:
                total += losses * len(chosen)
            progress(step, plan.steps)
    finite &= stack.values.isfinite().all(dim=1)
    return TrainResult(loss=(total / len(rows)).tolist(), diverged=(~finite).tolist())


class TokenDropout:
    """Leaves out a share of the tokens of each sample, drawn from the seed anew for every batch."""

    def __init__(self, share: float, *, seed: int) -> None:
        self._share = share
        self._stream = np.random.RandomState([seed, 1])  # another one than that of the order of the data

    def __call__(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> [B, n, D], n = round((1 - share) * N), one at least; all where none is left out."""
        B, N, D = tokens.shape
        kept = max(1, round((1 - self._share) * N))
        if kept == N:
            return tokens
        places = np.argpartition(self._stream.random_sample((B, N)), kept, axis=1)[:, :kept]
        rows = torch.from_numpy(np.sort(places, axis=1))[..., None].expand(B, kept, D)
        return tokens.gather(1, rows)


class Losses(Protocol):
    """The losses that a training minimises."""

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss [S] of logits [S, B, C] for the targets of B examples."""
        ...

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss [] of one setting's logits [B, C], summed over examples."""
        ...


class CrossEntropy:
    """Cross-entropy where each example has one label, targets [B]; or [K, B], where K seeds see their own batches."""

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return setting_losses(logits, targets)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return F.cross_entropy(logits, targets, reduction="sum")


def setting_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy [S] of logits [S, B, C] for targets [B], or [K, B] of S / K settings each."""
    S, B, _ = logits.shape
    wanted = targets.repeat(S) if targets.ndim == 1 else targets.repeat_interleave(S // len(targets), dim=0).flatten()
    return F.cross_entropy(logits.flatten(0, 1), wanted, reduction="none").view(S, B).mean(dim=1)


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
