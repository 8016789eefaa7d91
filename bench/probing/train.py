"""From tokens to a probe: hold out, train the sweep, choose a setting, train it again on everything.

The choice sees training samples only; the test split enters with `predict`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.cards.load import ProbeCard
from bench.core.token_scale import token_scale
from bench.probing import attentive, blocks, knn, linear
from bench.probing.checkpoints import Checkpoints
from bench.probing.heads import Head, choose, has_diverged, heads_of
from bench.probing.loop import TrainResult, make_plan, train_sweep
from bench.probing.scoring import Logits, held_out_scores, log_probabilities
from bench.probing.source import HeldOut, NormalisedTokens, PooledTokens, ScaledTokens, TestSamples, TokenSource
from bench.probing.split import Rows, stratified_split
from bench.probing.streaming import StreamCounts, TokenStream, train_stream

Progress = Callable[..., None]
"""Called with the phase (sweep, refit or train), the steps done and the steps in all; where clips are streamed, with
samples in place of steps, and how it goes."""
_KEPT_BYTES = 1 << 28
"""Size of a training split whose normalised tokens are kept in memory."""
_SCALED_BY = 16
"""Samples whose tokens decide on a scale."""
_MANY_EPOCHS = 10
"""Epochs from which on that is worth a pass over all tokens beforehand."""


class Objective(Protocol):
    """What a probe is trained and chosen for where that is not one label a sample and its accuracy."""

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """Samples to train on before the choice, and those it is made on."""
        ...

    def sweep(
        self, card: ProbeCard, embed_dim: int, num_settings: int, num_heads: int, *, seed: int, device: str
    ) -> blocks.BlockSweep:
        """Untrained probes of so many settings."""
        ...

    def scores(
        self, logits: Logits, source: TokenSource, rows: Rows, labels: Rows, *, device: str, batch_size: int
    ) -> tuple[list[float], list[float]]:
        """Of each setting: what is chosen by, 0 to 1, and the mean loss."""
        ...


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A trained probe and how it came about."""

    heads: list[Head]
    chosen: int
    """Index of the chosen head."""
    steps: int
    """Optimiser steps of the final training; 0 for knn."""
    epochs: int
    batch_size: int
    num_held_out: int
    seconds: float
    probe: nn.Module
    """Tokens [B, N, D] -> logits [B, C], frozen."""
    streamed: StreamCounts | None = None
    """What was encoded for it; None where the tokens came from the cache."""


def fit(
    card: ProbeCard,
    train: TokenSource | TokenStream,
    labels: npt.NDArray[np.int64],
    num_classes: int,
    num_heads: int,
    *,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    chosen_on: HeldOut | TestSamples | None = None,
    checkpoints: Checkpoints | None = None,
    objective: Objective | None = None,
) -> FittedProbe:
    """Train the recipe's probe on the tokens of the training split; `num_heads` are the attentive probe's.

    `chosen_on`: what a setting is chosen on, where those are no clips of the training's; a stream with a choice needs
    it, and so does a recipe that chooses on the test split.
    `checkpoints`: where a training on a stream keeps its state, and goes on from.
    """
    started = time.perf_counter()
    scale = 1.0 if isinstance(train, TokenStream) else _scale(train)
    if scale != 1 and not isinstance(train, TokenStream):
        train = ScaledTokens(train, scale)
        chosen_on = chosen_on and replace(chosen_on, tokens=ScaledTokens(chosen_on.tokens, scale))
    source = train if isinstance(train, TokenStream) or objective else _prepared(card, train, device)
    if chosen_on is not None and isinstance(source, NormalisedTokens):
        chosen_on = replace(chosen_on, tokens=NormalisedTokens(chosen_on.tokens, eps=attentive.NORM_EPS))
    job = _Job(
        card,
        source,
        np.asarray(labels, dtype=np.int64),
        num_classes,
        num_heads,
        seed,
        device,
        progress,
        chosen_on,
        checkpoints,
        objective,
    )
    everything = np.arange(train.num_samples)
    if card.selection is None:
        chosen, num_held_out = 0, 0
        trained = job.train([chosen], everything, "train")
        heads, final = heads_of(card, trained.result, None, chosen=chosen), trained.setting(0)
    else:
        rest, scored = job.split()
        swept = job.sweep(rest, scored)
        chosen, final, num_held_out = swept.chosen, swept.best, len(scored) if card.hold_out else 0
        heads = heads_of(card, swept.result, swept.scores, chosen=chosen)
        if card.hold_out and card.hold_out.refit:
            final = job.train([chosen], everything, "refit").setting(0)
    steps, epochs, batch_size = job.schedule(final.num_samples)
    return FittedProbe(
        heads=heads,
        chosen=chosen,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        num_held_out=num_held_out,
        seconds=time.perf_counter() - started,
        probe=_unscaled(final.probe, scale),
        streamed=source.counts if isinstance(source, TokenStream) else None,
    )


def _scale(train: TokenSource) -> float:
    """What the first tokens are to be multiplied by, so that no epsilon outweighs them; 1 for ordinary ones."""
    return token_scale(train.read(np.arange(min(_SCALED_BY, train.num_samples)), 0))


def _unscaled(probe: nn.Module, scale: float) -> nn.Module:
    """A probe of tokens times `scale`, a power of two, as one of the tokens themselves: with the same answers."""
    if isinstance(probe, linear.LinearProbe):
        probe.mean.div_(scale)
        probe.deviation.div_(scale)
    elif isinstance(probe, attentive.AttentiveProbe | knn.KnnProbe):
        probe.token_scale = scale
    return probe


def _prepared(card: ProbeCard, train: TokenSource, device: str) -> TokenSource:
    """What the probe reads: means of the tokens, or tokens, normalised beforehand where they fit and are read often.

    To a GPU, float16 travels faster.
    """
    if card.kind != "attentive":
        return PooledTokens(train)
    num_values = train.num_samples * train.num_views * train.num_tokens * train.embed_dim
    if normalised_beforehand(card, train.num_samples, num_values, device):
        return NormalisedTokens(train, eps=attentive.NORM_EPS)
    return train


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


def predict(
    probe: nn.Module, test: TokenSource, *, device: str = "cpu", batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Probabilities [n, C] float32 of all samples: the softmax averaged over the views (protocol.md 4.3)."""
    probe = probe.to(device)
    parts = log_probabilities(
        lambda tokens: probe(tokens)[None],
        test,
        np.arange(test.num_samples),
        device=device,
        batch_size=batch_size,
    )
    return np.concatenate([log_p[0].exp().cpu().numpy() for _, log_p in parts])


@dataclass(frozen=True)
class _Final:
    """The probe that a fit gives, and on how many samples it was trained."""

    probe: nn.Module
    num_samples: int


@dataclass(frozen=True)
class _Trained:
    """Settings that were trained together."""

    sweep: attentive.AttentiveSweep | blocks.BlockSweep | linear.LinearSweep | knn.KnnSweep
    result: TrainResult
    rows: Rows

    def setting(self, index: int) -> _Final:
        """One of them. Raises BenchError where it diverged."""
        if self.result.diverged[index]:
            raise has_diverged()
        return _Final(self.sweep.probe(index), len(self.rows))


@dataclass(frozen=True)
class _Swept:
    """All settings of a recipe, trained without the samples of the choice and scored on them."""

    result: TrainResult
    scores: tuple[list[float], list[float]]
    """Of every setting: share of correct samples, and mean loss on them."""
    chosen: int
    best: _Final


@dataclass(frozen=True)
class _Job:
    """What every training of one `fit` shares."""

    card: ProbeCard
    source: TokenSource | TokenStream
    labels: Rows
    num_classes: int
    num_heads: int
    seed: int
    device: str
    progress: Progress | None
    chosen_on: HeldOut | TestSamples | None
    checkpoints: Checkpoints | None
    objective: Objective | None

    def split(self) -> tuple[Rows, Rows]:
        """Samples to train on before the choice, and those it is made on: of the test split, or of the training."""
        if isinstance(self.chosen_on, TestSamples):
            return np.arange(len(self.labels)), np.arange(len(self.chosen_on.labels))
        if self.chosen_on is not None:
            return np.setdiff1d(np.arange(len(self.labels)), self.chosen_on.rows), self.chosen_on.readable
        hold_out = self.card.hold_out
        if hold_out is None or isinstance(self.source, TokenStream):
            raise ValueError("nothing to choose a setting on")
        if self.objective is not None:
            return self.objective.hold_out(hold_out.held_out, seed=self.seed)
        return stratified_split(self.labels, hold_out.held_out, seed=self.seed)

    def train(self, indices: Sequence[int], rows: Rows, phase: str) -> _Trained:
        """Train these settings of the card on these rows, all from the same initial weights."""
        recipe = self.card.optimisation
        if recipe is None:
            return self._neighbours([self.card.neighbours[i] for i in indices], rows)
        settings = [recipe.settings[i] for i in indices]
        sweep = self._sweep(len(settings), rows)

        def tick(*state: Any) -> None:
            if self.progress:
                self.progress(phase, *state)

        data = (rows, self.labels, recipe, settings)
        if isinstance(self.source, TokenStream):
            name = f"{phase.partition(',')[0]}-{indices[0]}-{indices[-1]}"
            checkpoint = self.checkpoints.of(name) if self.checkpoints else None
            result = train_stream(sweep, self.source, *data, seed=self.seed, checkpoint=checkpoint, progress=tick)
        else:
            result = train_sweep(sweep, self.source, *data, seed=self.seed, progress=tick)
        return _Trained(sweep, result, rows)

    def sweep(self, rows: Rows, scored: Rows) -> _Swept:
        """Train every setting on these rows, in groups that fit the memory, and choose one by the samples `scored`."""
        groups = self._groups()
        loss: list[float] = []
        diverged: list[bool] = []
        correct: list[float] = []
        mean_loss: list[float] = []
        best: _Final | None = None
        for number, group in enumerate(groups, start=1):
            trained = self.train(group, rows, "sweep" if len(groups) == 1 else f"sweep, part {number} of {len(groups)}")
            scores = self.score(trained, scored)
            loss += trained.result.loss
            diverged += trained.result.diverged
            correct += scores[0]
            mean_loss += scores[1]
            # Only the weights of the best so far are kept: those of all settings may not fit the memory.
            if not all(diverged) and (chosen := choose(diverged, correct, mean_loss)) in group:
                best = trained.setting(chosen - group[0])
            del trained  # the next group needs its memory
        chosen = choose(diverged, correct, mean_loss)
        if best is None:
            raise has_diverged()
        return _Swept(TrainResult(loss, diverged), (correct, mean_loss), chosen, best)

    def _groups(self) -> list[range]:
        """The settings that are trained together; the result does not depend on it."""
        size = group_size(self.card, self.source.embed_dim, self.num_classes, self.device)
        if self.checkpoints:  # in other groups than it began with, a training would not find what it has done
            size = self.checkpoints.settings_at_once(size)
        return [
            range(start, min(start + size, self.card.num_settings)) for start in range(0, self.card.num_settings, size)
        ]

    def _sweep(
        self, num_settings: int, rows: Rows
    ) -> attentive.AttentiveSweep | blocks.BlockSweep | linear.LinearSweep:
        D = self.source.embed_dim
        if self.objective is not None:
            return self.objective.sweep(self.card, D, num_settings, self.num_heads, seed=self.seed, device=self.device)
        if isinstance(self.source, PooledTokens):
            initial = linear.initial_weights(D, self.num_classes, seed=self.seed)
            mean, deviation = linear.standardisation(self.source, rows)
            on_device = {name: weight.to(self.device) for name, weight in initial.items()}
            return linear.LinearSweep(on_device, num_settings, mean.to(self.device), deviation.to(self.device))
        attentive.check_heads(D, self.num_heads)
        initial = blocks.initial_weights(D, self.num_classes, self.card.num_blocks, seed=self.seed)
        on_device = {name: weight.to(self.device) for name, weight in initial.items()}
        if self.card.num_blocks > 1:
            return blocks.BlockSweep(on_device, num_settings, self.num_heads)
        norm_eps = None if isinstance(self.source, NormalisedTokens) else attentive.NORM_EPS
        return attentive.AttentiveSweep(on_device, num_settings, self.num_heads, norm_eps=norm_eps)

    def _neighbours(self, neighbours: Sequence[int], rows: Rows) -> _Trained:
        if not isinstance(self.source, PooledTokens):
            raise ValueError("neighbours are sought among pooled tokens")
        knn.check_neighbours(self.card, len(rows), self.source.num_views)
        sweep = knn.KnnSweep(self.source, rows, self.labels, self.num_classes, neighbours)
        nothing = TrainResult(loss=[float("nan")] * len(neighbours), diverged=[False] * len(neighbours))
        return _Trained(sweep, nothing, rows)

    def score(self, trained: _Trained, scored: Rows) -> tuple[list[float], list[float]]:
        """Share of correct samples of the choice and mean loss of every setting."""
        if isinstance(self.chosen_on, TestSamples):
            source, rows, labels = self.chosen_on.tokens, scored, self.chosen_on.labels
        elif self.chosen_on is not None:
            source, rows, labels = self.chosen_on.tokens, np.arange(len(scored)), self.labels[scored]
        elif isinstance(self.source, TokenStream):
            raise ValueError("nothing to choose a setting on")
        else:
            source, rows, labels = self.source, scored, self.labels
        data = (trained.sweep.logits, source, rows, labels)
        batch_size = self.schedule(len(trained.rows))[2]
        if self.objective is not None:
            return self.objective.scores(*data, device=self.device, batch_size=batch_size)
        correct, loss = held_out_scores(*data, device=self.device, batch_size=batch_size)
        return [count / len(rows) for count in correct], loss

    def schedule(self, num_samples: int) -> tuple[int, int, int]:
        """(steps, epochs, batch size) of a training on this many samples; knn has no steps."""
        if self.card.optimisation is None:
            return 0, 0, num_samples
        plan = make_plan(self.card.optimisation, num_samples)
        return plan.steps, plan.epochs, plan.batch_size
