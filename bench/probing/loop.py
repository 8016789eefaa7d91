"""One training of a sweep: batches, epochs, losses. Nothing in it depends on the number of settings or the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cards.load import Optimisation, Setting
from bench.core.threads import small_steps
from bench.probing.optim import SweepOptimiser
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


def batches(rows: Rows, plan: Plan, num_views: int, *, seed: int) -> Iterator[tuple[int, Rows, int]]:
    """(epoch, rows, view) of every step: a new order each epoch, the views in turn."""
    stream = np.random.RandomState(seed)
    for epoch in range(plan.epochs):
        order = rows[stream.permutation(len(rows))]
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


class Losses(Protocol):
    """The losses that a training minimises."""

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss [S] of logits [S, B, C] for the targets of B examples."""
        ...

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss [] of one setting's logits [B, C], summed over examples."""
        ...


class CrossEntropy:
    """Cross-entropy where each example has one label, targets [B]."""

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return setting_losses(logits, targets)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return F.cross_entropy(logits, targets, reduction="sum")


def setting_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy [S] of logits [S, B, C] for targets [B]."""
    S, B, _ = logits.shape
    return F.cross_entropy(logits.flatten(0, 1), targets.repeat(S), reduction="none").view(S, B).mean(dim=1)
