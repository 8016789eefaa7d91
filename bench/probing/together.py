"""Probes of several seeds in one pass: the settings of each answer together, with the mean of what they say.

Every seed has first weights for each of its settings, an order of the data, dropped tokens and held-out samples of its
own; features and arithmetic are shared. Nothing is trained again after the choice: a setting answers for its seed
unless the held-out samples show that it is worse than the best. What a seed gives does not depend on which others are
trained beside it.

Shapes: K seeds, M settings, S = K * M, B clips, N tokens, D channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.cards.load import Optimisation, ProbeCard
from bench.core.threads import small_steps
from bench.probing import attentive
from bench.probing.loop import Plan, SweepOptimiser, TokenDropout, TrainResult, batches, make_plan
from bench.probing.mean import MeanProbe
from bench.probing.objectives import Objective, Qualities
from bench.probing.scoring import FittedProbe, Logits, choose, heads_of, near_best
from bench.probing.source import HeldOut, NormalisedTokens, Rows, TokenSource

_NEXT_START = 0x9E3779B1
"""Between the seeds of the first weights of a probe's settings: far from every seed that users give."""


@dataclass(frozen=True)
class Seed:
    """What one probe is trained and chosen on."""

    number: int
    rows: Rows
    """Training samples that it learns from."""
    held_out: Rows


def fit_together(
    card: ProbeCard,
    source: TokenSource,
    objective: Objective,
    num_heads: int,
    seeds: Sequence[int],
    *,
    device: str,
    progress: Callable[[int, int], None],
    held_out: HeldOut | None = None,
    scale: float = 1.0,
) -> list[FittedProbe]:
    """Train the probes of these seeds on the tokens of a source, which are those of the encoder times `scale`.

    `held_out`: the samples that every seed chooses by, where those are other clips than are trained on.
    """
    started = time.perf_counter()
    drawn = [_draw(card, objective, seed, held_out) for seed in seeds]
    count = _num_seen(card, source, drawn)
    plan, recipe = _plan(card, source, count)
    sweep = _sweep(card, source, objective, num_heads, seeds, device)
    marks: dict[int, list[Qualities]] = {}
    """By steps: how good the settings of each seed were after so many."""

    def score(step: int) -> None:
        parts = [_of_seed(sweep, number, len(recipe.settings)) for number in range(len(drawn))]
        data = (objective, source, held_out, device, plan.batch_size)
        marks[step] = [_score(logits, seed, *data) for logits, seed in zip(parts, drawn, strict=True)]

    at = {max(1, round(plan.steps * quarter / 4)) for quarter in (1, 2, 3, 4)}
    result = _train(sweep, source, objective, drawn, recipe, plan, device, progress, at, score, count)
    seconds = (time.perf_counter() - started) / len(seeds)
    return [
        _fitted(
            card.model_copy(update={"optimisation": recipe}),
            [sweep.probe(number * len(recipe.settings) + index) for index in range(len(recipe.settings))],
            _part(result, number, len(recipe.settings)),
            {step: of_seeds[number] for step, of_seeds in marks.items()},
            plan=plan,
            num_held_out=len(seed.held_out),
            seconds=seconds,
            scale=scale,
        )
        for number, seed in enumerate(drawn)
    ]


def _part(result: TrainResult, number: int, num_settings: int) -> TrainResult:
    own = slice(number * num_settings, (number + 1) * num_settings)
    return TrainResult(result.loss[own], result.diverged[own])


def _fitted(
    card: ProbeCard,
    probes: Sequence[attentive.AttentiveProbe],
    result: TrainResult,
    marks: dict[int, Qualities],
    *,
    plan: Plan,
    num_held_out: int,
    seconds: float,
    scale: float,
) -> FittedProbe:
    """The probe of one seed: its settings that are not shown to be worse than the best of them."""
    correct, loss = marks[plan.steps]
    answering = near_best(result.diverged, correct, loss, num_held_out)
    probe = MeanProbe([probes[index] for index in answering])
    probe.token_scale = scale
    return FittedProbe(
        heads=heads_of(card, result, (correct, loss), chosen=answering),
        chosen=choose(result.diverged, correct, loss),
        steps=plan.steps,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        num_held_out=num_held_out,
        seconds=seconds,
        probe=probe,
        curve=tuple(
            (step, float(np.mean([at[0][index] for index in answering]))) for step, at in sorted(marks.items())
        ),
    )


def _draw(card: ProbeCard, objective: Objective, seed: int, held_out: HeldOut | None) -> Seed:
    if held_out is not None:
        return Seed(seed, np.setdiff1d(np.arange(len(objective.targets)), held_out.rows), held_out.readable)
    if card.hold_out is None:
        raise ValueError("nothing to choose a setting on")
    return Seed(seed, *objective.hold_out(card.hold_out.held_out, seed=seed))


def _num_seen(card: ProbeCard, source: TokenSource, seeds: Sequence[Seed]) -> int:
    """Samples of an epoch, the same for every seed, whichever others are trained beside it. Groups may not add up to
    the share that is held out: what is left over is seen in other epochs."""
    least = min(len(seed.rows) for seed in seeds)
    share = card.hold_out.held_out if card.hold_out else 0.0
    return min(least, source.num_samples - max(1, round(share * source.num_samples)))


def _plan(card: ProbeCard, source: TokenSource, count: int) -> tuple[Plan, Optimisation]:
    """The steps of a training on so many samples, and the settings as this width and these epochs have them."""
    if card.optimisation is None:
        raise ValueError("nothing is trained")
    plan = make_plan(card.optimisation, count)
    return plan, card.optimisation.settled(source.embed_dim, plan.steps_per_epoch)


def _sweep(
    card: ProbeCard, source: TokenSource, objective: Objective, num_heads: int, seeds: Sequence[int], device: str
) -> attentive.AttentiveSweep:
    """All settings of all seeds, those of one seed side by side, each with first weights of its own: settings with one
    start make the same mistakes, which their mean would keep."""
    D, M = source.embed_dim, card.num_settings
    attentive.check_heads(D, num_heads)
    norm_eps = None if isinstance(source, NormalisedTokens) else attentive.NORM_EPS
    norm = attentive.standard_norm(source, norm_eps=norm_eps) if card.standardised else {}
    starts = [(seed + index * _NEXT_START) % 2**32 for seed in seeds for index in range(M)]
    first = {**objective.initial(D, 1, seed=starts[0]), **norm}
    on_device = {name: weight.to(device) for name, weight in first.items()}
    sweep = attentive.AttentiveSweep(on_device, len(starts), num_heads, objective.losses, norm_eps=norm_eps)
    for row, start in enumerate(starts[1:], start=1):
        sweep.stack.put(row, {**objective.initial(D, 1, seed=start), **norm})
    return sweep


def _of_seed(sweep: attentive.AttentiveSweep, number: int, num_settings: int) -> Logits:
    """What the settings of one seed say: tokens [B, N, D] -> logits [M, B, C]."""
    own = slice(number * num_settings, (number + 1) * num_settings)
    weights = {name: weight[own].detach() for name, weight in sweep.stack.weights.items()}

    def logits(tokens: Tensor) -> Tensor:
        return attentive.attentive_logits(weights, tokens, sweep.num_heads, norm_eps=sweep.norm_eps)

    return logits


def _score(
    logits: Logits,
    seed: Seed,
    objective: Objective,
    source: TokenSource,
    held_out: HeldOut | None,
    device: str,
    at_once: int,
) -> Qualities:
    """How good every setting of a seed is on its held-out samples."""
    targets, rows = objective.targets, seed.held_out
    if held_out is not None:
        source, targets, rows = held_out.tokens, targets[rows], np.arange(len(rows))
    return objective.qualities(logits, source, rows, targets, device=device, at_once=at_once)


def _train(
    sweep: attentive.AttentiveSweep,
    source: TokenSource,
    objective: Objective,
    seeds: Sequence[Seed],
    recipe: Optimisation,
    plan: Plan,
    device: str,
    progress: Callable[[int, int], None],
    at: set[int],
    score: Callable[[int], None],
    count: int,
) -> TrainResult:
    """Train all settings of all seeds in place, and `score` them after the steps of `at`."""
    settings = list(recipe.settings) * len(seeds)
    optimiser = SweepOptimiser(sweep.stack, recipe, settings, epochs=plan.epochs, steps_per_epoch=plan.steps_per_epoch)
    targets = torch.from_numpy(objective.targets).to(device)
    total = torch.zeros(len(settings), device=device)
    finite = torch.ones(len(settings), dtype=torch.bool, device=device)
    numbers = len(seeds) * plan.batch_size * source.num_tokens * source.embed_dim + sweep.stack.values.numel()
    with small_steps(torch.device(device), numbers):
        for step, (epoch, chosen, tokens) in enumerate(_batches(source, seeds, recipe, plan, count), start=1):
            wanted = targets[torch.from_numpy(chosen).to(device)]
            losses = sweep.backward(tokens.to(device), wanted)
            optimiser.step()
            finite &= losses.isfinite()
            if epoch == plan.epochs - 1:
                total += losses * chosen.shape[1]
            if step in at:
                score(step)
            progress(step, plan.steps)
    finite &= sweep.stack.values.isfinite().all(dim=1)
    return TrainResult(loss=(total / count).tolist(), diverged=(~finite).tolist())


def _batches(
    source: TokenSource, seeds: Sequence[Seed], recipe: Optimisation, plan: Plan, count: int
) -> Iterator[tuple[int, Rows, Tensor]]:
    """(epoch, rows [K, B], tokens [K, B, N, D]) of every step, each seed in an order of its own."""
    orders = [batches(seed.rows, plan, source.num_views, seed=seed.number, count=count) for seed in seeds]
    drops = [TokenDropout(recipe.token_dropout, seed=seed.number) for seed in seeds]
    for parts in zip(*orders, strict=True):
        epoch, _, view = parts[0]
        rows = [chosen for _, chosen, _ in parts]
        tokens = [drop(source.read(chosen, view)) for drop, chosen in zip(drops, rows, strict=True)]
        yield epoch, np.stack(rows), torch.stack(tokens)
