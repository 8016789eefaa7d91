"""From tokens to a probe: hold out, train the sweep, choose a setting, train it again on everything.

The choice sees training samples only; the test split enters with `predict`.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.cards.load import ProbeCard
from bench.core.tensors import token_scale
from bench.probing import attentive, blocks, dense, pooled
from bench.probing.attentive import AttentiveProbe
from bench.probing.checkpoints import Checkpoints
from bench.probing.loop import TrainResult, make_plan, train_sweep
from bench.probing.mean import MeanProbe
from bench.probing.objectives import Objective, OneLabel
from bench.probing.pixel_classes import PixelClasses
from bench.probing.scoring import Head, choose, has_diverged, heads_of, near_best
from bench.probing.source import HeldOut, NormalisedTokens, PooledTokens, Rows, ScaledTokens, TestSamples, TokenSource
from bench.probing.streaming import StreamCounts, TokenStream, train_stream

Progress = Callable[..., None]
"""Called with the phase (sweep, refit or train), the steps done and the steps in all; where clips are streamed, with
samples in place of steps, and how it goes."""
_KEPT_BYTES = 1 << 28
"""Size of a training split whose normalised tokens are kept in memory."""
_SCALED_BY = 16
"""Samples whose tokens decide on a scale."""
_NEXT_START = 0x9E3779B1
"""Between the seeds of the first weights of settings that answer together: far from every seed that users give."""
_MANY_EPOCHS = 10
"""Epochs from which on that is worth a pass over all tokens beforehand."""


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A trained probe and how it came about."""

    heads: list[Head]
    chosen: int
    """Index of the head that did best; where a mean answers, its other heads are marked too."""
    steps: int
    """Optimiser steps of the final training; 0 for knn."""
    epochs: int
    batch_size: int
    num_held_out: int
    seconds: float
    probe: nn.Module
    """Tokens [B, N, D] -> logits [B, C], frozen."""
    curve: tuple[tuple[int, float], ...] = ()
    """Optimiser steps of the sweep, and how good its answering heads were after so many on the samples of the choice, 0
    to 1, the mean over them: at each quarter of the training. Empty where nothing is held out of cached tokens."""
    streamed: StreamCounts | None = None
    """What was encoded for it; None where the tokens came from the cache."""


def fit(
    card: ProbeCard,
    train: TokenSource | TokenStream,
    objective: Objective,
    num_heads: int,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    chosen_on: HeldOut | TestSamples | None = None,
    checkpoints: Checkpoints | None = None,
) -> FittedProbe:
    """Train the recipe's probe on the tokens of the training split, the examples of `objective`; `num_heads` are the
    attentive probe's.

    `chosen_on`: what a setting is chosen on, where those are no clips of the training's; a stream with a choice needs
    it, and so does a recipe that chooses on the test split.
    `checkpoints`: where a training on a stream keeps its state, and goes on from.
    """
    started = time.perf_counter()
    card = card.for_width(train.embed_dim)
    source, chosen_on, scale = _prepared(card, train, chosen_on, objective, device)
    job = _Job(card, source, objective, num_heads, seed, device, progress, chosen_on, checkpoints)
    everything = np.arange(train.num_samples)
    chosen, num_held_out = 0, 0
    curve: tuple[tuple[int, float], ...] = ()
    if card.selection is None:
        trained = job.train([chosen], everything, "train")
        heads, final = heads_of(card, trained.result, None, chosen=[chosen]), trained.setting(0)
    else:
        rest, scored = job.split()
        swept = job.sweep(rest, scored)
        chosen, final, num_held_out = swept.chosen, swept.final, len(scored) if card.hold_out else 0
        heads, curve = heads_of(card, swept.result, swept.scores, chosen=swept.answering), swept.curve
        if card.hold_out and card.hold_out.refit:
            final = job.train([chosen], everything, "refit").setting(0)
    steps, epochs, batch_size = job.schedule(final.num_samples)
    return FittedProbe(
        heads=heads,
        chosen=chosen,
        curve=curve,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        num_held_out=num_held_out,
        seconds=time.perf_counter() - started,
        probe=_unscaled(final.probe, scale),
        streamed=source.counts if isinstance(source, TokenStream) else None,
    )


def _unscaled(probe: nn.Module, scale: float) -> nn.Module:
    """A probe of tokens times `scale`, a power of two, as one of the tokens themselves: with the same answers."""
    if isinstance(probe, pooled.LinearProbe):
        probe.mean.div_(scale)
        probe.deviation.div_(scale)
    elif isinstance(probe, AttentiveProbe | MeanProbe | dense.DenseProbe | pooled.KnnProbe):
        probe.token_scale = scale
    return probe


def _prepared(
    card: ProbeCard,
    train: TokenSource | TokenStream,
    chosen_on: HeldOut | TestSamples | None,
    objective: Objective,
    device: str,
) -> tuple[TokenSource | TokenStream, HeldOut | TestSamples | None, float]:
    """What the probe reads and is chosen on: tokens at a scale that no epsilon outweighs, their means, or tokens that
    are normalised beforehand where they fit and are read often; and the scale, 1 for ordinary tokens.

    To a GPU, float16 travels faster.
    """
    if isinstance(train, TokenStream):
        return train, chosen_on, 1.0
    scale = token_scale(train.read(np.arange(min(_SCALED_BY, train.num_samples)), 0))
    if scale != 1:
        train = ScaledTokens(train, scale)
        chosen_on = chosen_on and replace(chosen_on, tokens=ScaledTokens(chosen_on.tokens, scale))
    if objective.as_they_are:
        return train, chosen_on, scale
    if card.kind != "attentive":
        return PooledTokens(train), chosen_on, scale
    num_values = train.num_samples * train.num_views * train.num_tokens * train.embed_dim
    if normalised_beforehand(card, train.num_samples, num_values, device):
        chosen_on = chosen_on and replace(chosen_on, tokens=NormalisedTokens(chosen_on.tokens, eps=attentive.NORM_EPS))
        return NormalisedTokens(train, eps=attentive.NORM_EPS), chosen_on, scale
    return train, chosen_on, scale


def normalised_beforehand(card: ProbeCard, num_samples: int, num_values: int, device: str) -> bool:
    """Whether a probe reads a training split of so many samples and token values normalised, from memory."""
    if card.kind != "attentive" or card.num_blocks > 1:  # the first block adds to the tokens as they are
        return False
    epochs = make_plan(card.optimisation, num_samples).epochs if card.optimisation else 0
    return device == "cpu" and 4 * num_values <= _KEPT_BYTES and epochs >= _MANY_EPOCHS


def group_size(card: ProbeCard, embed_dim: int, num_classes: int, device: str) -> int:
    """How many settings of a sweep are trained together: all, or as many probes of several blocks as fit the memory."""
    if card.num_blocks == 1:
        return card.num_settings
    num_weights = sum(map(math.prod, blocks.tensor_shapes(embed_dim, num_classes, card.num_blocks).values()))
    if card.streaming:  # a batch in chunks adds up its gradients: 20 bytes a weight, not 16
        num_weights += num_weights // 4
    return blocks.settings_at_once(num_weights, torch.device(device))


_Sweep = attentive.AttentiveSweep | blocks.BlockSweep | dense.DenseSweep | pooled.LinearSweep | pooled.KnnSweep
Watch = Callable[[Any, int], None]


@dataclass(frozen=True)
class _Final:
    """The probe that a fit gives, and on how many samples it was trained."""

    probe: nn.Module
    num_samples: int


@dataclass(frozen=True)
class _Trained:
    """Settings that were trained together."""

    sweep: _Sweep
    result: TrainResult
    rows: Rows

    def setting(self, index: int) -> _Final:
        """One of them. Raises BenchError where it diverged."""
        if self.result.diverged[index]:
            raise has_diverged()
        return _Final(self.sweep.probe(index), len(self.rows))

    def mean(self, indices: Sequence[int], *, each: bool) -> _Final:
        """Several of them, none of which diverged, as one; `each` as of a MeanProbe."""
        probes = [self.sweep.probe(index) for index in indices]
        return _Final(MeanProbe([one for one in probes if isinstance(one, AttentiveProbe)], each=each), len(self.rows))


@dataclass(frozen=True)
class _Swept:
    """All settings of a recipe, trained without the samples of the choice and scored on them."""

    result: TrainResult
    scores: tuple[list[float], list[float]]
    """How good each setting is on the samples of the choice, and its mean loss."""
    chosen: int
    """The setting that did best."""
    answering: tuple[int, ...]
    """It, or those whose mean answers."""
    final: _Final
    curve: tuple[tuple[int, float], ...]
    """As of a FittedProbe."""


@dataclass(frozen=True)
class _Job:
    """What every training of one `fit` shares."""

    card: ProbeCard
    source: TokenSource | TokenStream
    objective: Objective
    num_heads: int
    seed: int
    device: str
    progress: Progress | None
    chosen_on: HeldOut | TestSamples | None
    checkpoints: Checkpoints | None

    def split(self) -> tuple[Rows, Rows]:
        """Samples to train on before the choice, and those it is made on: of the test split, or of the training."""
        if isinstance(self.chosen_on, TestSamples):
            return np.arange(len(self.objective.targets)), np.arange(len(self.chosen_on.targets))
        if self.chosen_on is not None:
            return np.setdiff1d(np.arange(len(self.objective.targets)), self.chosen_on.rows), self.chosen_on.readable
        hold_out = self.card.hold_out
        if hold_out is None or isinstance(self.source, TokenStream):
            raise ValueError("nothing to choose a setting on")
        return self.objective.hold_out(hold_out.held_out, seed=self.seed)

    def train(self, indices: Sequence[int], rows: Rows, phase: str, watch: Watch | None = None) -> _Trained:
        """Train these settings of the card on these rows, all from the same initial weights. `watch` is called with the
        steps and the sweep at each quarter, where tokens are read from the cache."""
        recipe = self.card.optimisation
        if recipe is None:
            return self._neighbours([self.card.neighbours[i] for i in indices], rows)
        settings = [recipe.settings[i] for i in indices]
        sweep = self._sweep(len(settings), rows)

        def tick(*state: Any) -> None:
            if self.progress:
                self.progress(phase, *state)

        data = (rows, self.objective.targets, recipe, settings)
        if isinstance(self.source, TokenStream):
            name = f"{phase.partition(',')[0]}-{indices[0]}-{indices[-1]}"
            checkpoint = self.checkpoints.of(name) if self.checkpoints else None
            result = train_stream(sweep, self.source, *data, seed=self.seed, checkpoint=checkpoint, progress=tick)
        else:
            seen = partial(watch, sweep) if watch else None
            result = train_sweep(sweep, self.source, *data, seed=self.seed, progress=tick, watch=seen)
        return _Trained(sweep, result, rows)

    def sweep(self, rows: Rows, scored: Rows) -> _Swept:
        """Train every setting on these rows, in groups that fit the memory, and choose by the samples `scored`."""
        groups = self._groups()
        loss: list[float] = []
        diverged: list[bool] = []
        correct: list[float] = []
        mean_loss: list[float] = []
        marks: dict[int, list[float]] = defaultdict(list)
        best: _Final | None = None
        batch_size = self.schedule(len(rows))[2]

        def watch(sweep: _Sweep, step: int) -> None:
            marks[step] += self.score(sweep, scored, batch_size)[0]

        for number, group in enumerate(groups, start=1):
            phase = "sweep" if len(groups) == 1 else f"sweep, part {number} of {len(groups)}"
            trained = self.train(group, rows, phase, watch if self.card.hold_out else None)
            scores = self.score(trained.sweep, scored, batch_size)
            loss += trained.result.loss
            diverged += trained.result.diverged
            correct += scores[0]
            mean_loss += scores[1]
            # Only the weights of the best so far are kept: those of all settings may not fit the memory.
            if not all(diverged) and (chosen := choose(diverged, correct, mean_loss)) in group:
                best = trained.setting(chosen - group[0])
        chosen = choose(diverged, correct, mean_loss)
        answering: tuple[int, ...] = (chosen,)
        if best is None:
            raise has_diverged()
        if self.card.selection and self.card.selection.answer == "mean":  # of one block: all are in one group
            answering = near_best(diverged, correct, mean_loss, len(scored))
            best = trained.mean(answering, each=not isinstance(self.objective, OneLabel))
        if marks:
            marks[self.schedule(len(rows))[0]] = correct
        curve = tuple((step, float(np.mean([part[index] for index in answering]))) for step, part in marks.items())
        return _Swept(TrainResult(loss, diverged), (correct, mean_loss), chosen, answering, best, curve)

    def _groups(self) -> list[range]:
        """The settings that are trained together; the result does not depend on it."""
        size = group_size(self.card, self.source.embed_dim, self.objective.num_outputs, self.device)
        if self.checkpoints:  # in other groups than it began with, a training would not find what it has done
            size = self.checkpoints.settings_at_once(size)
        return [
            range(start, min(start + size, self.card.num_settings)) for start in range(0, self.card.num_settings, size)
        ]

    def _sweep(
        self, num_settings: int, rows: Rows
    ) -> attentive.AttentiveSweep | blocks.BlockSweep | dense.DenseSweep | pooled.LinearSweep:
        D, losses = self.source.embed_dim, self.objective.losses
        if isinstance(self.objective, PixelClasses):
            return self.objective.sweep(self._on_device(self.objective.initial(D, 1, seed=self.seed)), num_settings)
        if self.card.kind == "linear":
            initial = pooled.initial_weights(D, self.objective.num_outputs, seed=self.seed)
            # Pooled tokens are standardised; others are read as they are, normed by the encoder.
            mean, deviation = torch.zeros(D), torch.ones(D)
            if isinstance(self.source, PooledTokens):
                mean, deviation = pooled.standardisation(self.source, rows)
            statistics = mean.to(self.device), deviation.to(self.device)
            return pooled.LinearSweep(self._on_device(initial), num_settings, *statistics, losses)
        attentive.check_heads(D, self.num_heads)
        initial = self._on_device(self.objective.initial(D, self.card.num_blocks, seed=self.seed))
        if self.card.num_blocks > 1 or "linear.weight" not in initial:
            return blocks.BlockSweep(initial, num_settings, self.num_heads, losses)
        norm_eps = None if isinstance(self.source, NormalisedTokens) else attentive.NORM_EPS
        norm: dict[str, Tensor] = {}
        if self.card.standardised and not isinstance(self.source, TokenStream):
            norm = attentive.standard_norm(self.source, norm_eps=norm_eps)
            initial |= self._on_device(norm)
        sweep = attentive.AttentiveSweep(initial, num_settings, self.num_heads, losses, norm_eps=norm_eps)
        if self.card.selection and self.card.selection.answer == "mean":
            # Probes with one start make the same mistakes, which their mean would keep.
            for index in range(1, num_settings):
                start = self.objective.initial(D, 1, seed=(self.seed + index * _NEXT_START) % 2**32)
                sweep.stack.put(index, {name: weight for name, weight in start.items() if name not in norm})
        return sweep

    def _on_device(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: weight.to(self.device) for name, weight in weights.items()}

    def _neighbours(self, neighbours: Sequence[int], rows: Rows) -> _Trained:
        if not isinstance(self.source, PooledTokens):
            raise ValueError("neighbours are sought among pooled tokens")
        pooled.check_neighbours(self.card, len(rows), self.source.num_views)
        sweep = pooled.KnnSweep(self.source, rows, self.objective.targets, self.objective.num_outputs, neighbours)
        nothing = TrainResult(loss=[float("nan")] * len(neighbours), diverged=[False] * len(neighbours))
        return _Trained(sweep, nothing, rows)

    def score(self, sweep: _Sweep, scored: Rows, at_once: int) -> tuple[list[float], list[float]]:
        """How good every setting is on the examples of the choice, and its mean loss on them."""
        targets = self.objective.targets
        if isinstance(self.chosen_on, TestSamples):
            source, rows, targets = self.chosen_on.tokens, scored, self.chosen_on.targets
        elif self.chosen_on is not None:
            source, rows, targets = self.chosen_on.tokens, np.arange(len(scored)), targets[scored]
        elif isinstance(self.source, TokenStream):
            raise ValueError("nothing to choose a setting on")
        else:
            source, rows = self.source, scored
        return self.objective.qualities(sweep.logits, source, rows, targets, device=self.device, at_once=at_once)

    def schedule(self, num_samples: int) -> tuple[int, int, int]:
        """(steps, epochs, batch size) of a training on this many samples; knn has no steps."""
        if self.card.optimisation is None:
            return 0, 0, num_samples
        plan = make_plan(self.card.optimisation, num_samples)
        return plan.steps, plan.epochs, plan.batch_size
