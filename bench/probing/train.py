"""From tokens to a probe: hold out, train the sweep, choose a setting, train it again on everything.

The choice sees training samples only; the test split enters with `predict`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from bench.probing.objectives import Objective, OneLabel
from bench.probing.pixel_classes import PixelClasses
from bench.probing.scoring import FittedProbe, choose, has_diverged, heads_of
from bench.probing.source import HeldOut, NormalisedTokens, PooledTokens, Rows, ScaledTokens, TestSamples, TokenSource
from bench.probing.streaming import TokenStream, train_stream
from bench.probing.together import fit_together

Progress = Callable[..., None]
"""Called with the phase (sweep, refit or train), the steps done and the steps in all; where clips are streamed, with
samples in place of steps, and how it goes."""
_KEPT_BYTES = 1 << 28
"""Size of a training split whose normalised tokens are kept in memory."""
_SCALED_BY = 16
"""Samples whose tokens decide on a scale."""
_MANY_EPOCHS = 10
"""Epochs from which on that is worth a pass over all tokens beforehand."""


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
    if answers_together(card, objective):
        how: dict[str, Any] = {"device": device, "progress": progress}
        how["held_out"] = None if isinstance(chosen_on, TestSamples) else chosen_on
        return fit_seeds(card, train, objective, num_heads, [seed], **how)[0]
    started = time.perf_counter()
    if card.optimisation is not None:
        steps_per_epoch = make_plan(card.optimisation, train.num_samples).steps_per_epoch
        settled = card.optimisation.settled(train.embed_dim, steps_per_epoch)
        card = card.model_copy(update={"optimisation": settled})
    source, chosen_on, scale = _prepared(card, train, chosen_on, objective, device)
    job = _Job(card, source, objective, num_heads, seed, device, progress, chosen_on, checkpoints)
    everything = np.arange(train.num_samples)
    chosen, num_held_out = 0, 0
    if card.selection is None:
        trained = job.train([chosen], everything, "train")
        heads, final = heads_of(card, trained.result, None, chosen=[chosen]), trained.setting(0)
    else:
        rest, scored = job.split()
        swept = job.sweep(rest, scored)
        chosen, final, num_held_out = swept.chosen, swept.best, len(scored) if card.hold_out else 0
        heads = heads_of(card, swept.result, swept.scores, chosen=[chosen])
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


def answers_together(card: ProbeCard, objective: Objective) -> bool:
    """Whether the probes of several seeds are trained together, each the mean of its settings."""
    return card.answers_with_mean and isinstance(objective, OneLabel)


def fit_seeds(
    card: ProbeCard,
    train: TokenSource | TokenStream,
    objective: Objective,
    num_heads: int,
    seeds: Sequence[int],
    *,
    device: str = "cpu",
    progress: Progress | None = None,
    held_out: HeldOut | None = None,
) -> list[FittedProbe]:
    """Train the probes of several seeds at once, by a recipe that answers with a mean (bench.probing.together)."""
    source, chosen_on, scale = _prepared(card, train, held_out, objective, device)
    if isinstance(source, TokenStream) or isinstance(chosen_on, TestSamples):
        raise ValueError("probes that answer with a mean read cached tokens, and choose on held-out ones")

    def tick(*state: Any) -> None:
        if progress:
            progress("train", *state)

    return fit_together(
        card, source, objective, num_heads, seeds, device=device, progress=tick, held_out=chosen_on, scale=scale
    )


def _unscaled(probe: nn.Module, scale: float) -> nn.Module:
    """A probe of tokens times `scale`, a power of two, as one of the tokens themselves: with the same answers."""
    if isinstance(probe, pooled.LinearProbe):
        probe.mean.div_(scale)
        probe.deviation.div_(scale)
    elif isinstance(probe, AttentiveProbe | dense.DenseProbe | pooled.KnnProbe):
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


@dataclass(frozen=True)
class _Swept:
    """All settings of a recipe, trained without the samples of the choice and scored on them."""

    result: TrainResult
    scores: tuple[list[float], list[float]]
    """How good each setting is on the samples of the choice, and its mean loss."""
    chosen: int
    """The setting that did best."""
    best: _Final


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

        data = (rows, self.objective.targets, recipe, settings)
        if isinstance(self.source, TokenStream):
            name = f"{phase.partition(',')[0]}-{indices[0]}-{indices[-1]}"
            checkpoint = self.checkpoints.of(name) if self.checkpoints else None
            result = train_stream(sweep, self.source, *data, seed=self.seed, checkpoint=checkpoint, progress=tick)
        else:
            result = train_sweep(sweep, self.source, *data, seed=self.seed, progress=tick)
        return _Trained(sweep, result, rows)

    def sweep(self, rows: Rows, scored: Rows) -> _Swept:
        """Train every setting on these rows, in groups that fit the memory, and choose by the samples `scored`."""
        groups = self._groups()
        loss: list[float] = []
        diverged: list[bool] = []
        correct: list[float] = []
        mean_loss: list[float] = []
        best: _Final | None = None
        batch_size = self.schedule(len(rows))[2]
        for number, group in enumerate(groups, start=1):
            phase = "sweep" if len(groups) == 1 else f"sweep, part {number} of {len(groups)}"
            trained = self.train(group, rows, phase)
            scores = self.score(trained.sweep, scored, batch_size)
            loss += trained.result.loss
            diverged += trained.result.diverged
            correct += scores[0]
            mean_loss += scores[1]
            # Only the weights of the best so far are kept: those of all settings may not fit the memory.
            if not all(diverged) and (chosen := choose(diverged, correct, mean_loss)) in group:
                best = trained.setting(chosen - group[0])
            del trained  # the next group needs its memory
        if best is None:
            raise has_diverged()
        return _Swept(TrainResult(loss, diverged), (correct, mean_loss), choose(diverged, correct, mean_loss), best)

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
        return attentive.AttentiveSweep(initial, num_settings, self.num_heads, losses, norm_eps=norm_eps)

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
