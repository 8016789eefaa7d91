"""How long a recipe's steps take here: a few are made, by the run's own code, on random tokens of the run's shape.

A batch that is too large to try is tried in two small sizes; time is a straight line in between and beyond, as a step
updates the weights once and reads every token.

Shapes: N tokens of a sample in one view, D channels, C classes.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.cards.load import ProbeCard, Selection
from bench.core.progress import Reporter
from bench.features.store import FeatureSet, Store
from bench.pipeline.estimate.constants import NOTHING, Constant, StepTime, constant
from bench.pipeline.estimate.counts import Work, normalised, reads_means
from bench.probing import attentive
from bench.probing.scoring import FittedProbe
from bench.probing.source import NormalisedTokens, PooledTokens, TokenSource
from bench.probing.train import answers_together, fit, fit_seeds
from bench.tasks.kind import RunPlan

_MOST_VALUES = {"cpu": 1 << 24, "cuda": 1 << 29}
"""Token values of the largest batch that is tried."""
_FEW_STEPS, _MANY_STEPS = 3, 30
_SMALL_VALUES = 1 << 21
_SAMPLES_OF_A_CLASS = 2
"""At least, in a batch: half of all samples are held out, class by class."""


@dataclass(frozen=True)
class ProbeTimes:
    """As in Constants."""

    steps: tuple[StepTime, ...]
    start: Constant
    score: Constant
    predict: Constant
    pool: Constant


def measure_probe(plan: RunPlan, work: Work, folder: Path, reporter: Reporter) -> ProbeTimes:
    """Train the recipe for a few steps on features in `folder`."""
    pooled = reads_means(plan)
    num_tokens = 1 if pooled else work.sample_tokens
    sizes = _batch_sizes(plan, work, num_tokens)
    steps: list[StepTime] = []
    starts: list[float] = []
    for number, size in enumerate(sizes):
        reporter.stage("training probes", number, len(sizes))
        source = _features(folder, 2 * size, num_tokens, work.kept_shape[1])
        fitted, times, start = _train(plan, source, size)
        steps += times
        starts.append(start)
    reporter.stage("training probes", len(sizes), len(sizes))
    source = _features(folder, min(2 * sizes[-1], 64), num_tokens, work.kept_shape[1])
    whole = source if not pooled else _features(folder, 8, work.sample_tokens, work.kept_shape[1])
    objective = plan.kind.objective(plan, []).made_up(whole.num_samples, whole.num_samples)

    def predict() -> None:
        objective.outputs(fitted.probe, whole, objective.targets, device=plan.device)

    predicting = _timed(predict, whole.num_samples)
    return ProbeTimes(
        steps=tuple(steps),
        start=constant(starts),
        score=_score_seconds(plan, source, predicting),
        predict=predicting,
        pool=_pool_seconds(plan, whole),
    )


def _batch_sizes(plan: RunPlan, work: Work, num_tokens: int) -> list[int]:
    """The batch sizes of the trainings where they can be tried, else two that can."""
    device = torch.device(plan.device).type
    values = _MOST_VALUES.get(device, _MOST_VALUES["cpu"])
    most = max(2, values // (num_tokens * work.kept_shape[1] * max(1, plan.recipe.num_blocks)))
    wanted = sorted({training.batch_size for training in work.trainings})
    if wanted[-1] <= most:
        return sorted({wanted[0], wanted[-1]})
    return [max(1, most // 4), most]


def _features(folder: Path, count: int, num_tokens: int, embed_dim: int) -> FeatureSet:
    """Random features of so many samples in a store of their own."""
    store = Store(folder, {"samples": count, "tokens": num_tokens})
    keys = [f"random/{row}" for row in range(count)]
    if not store.shards():
        stream = np.random.RandomState(0)
        store.add(keys, stream.standard_normal((count, 1, num_tokens, embed_dim)).astype(np.float16))
    store.open(keys)
    return FeatureSet(store, [[key] for key in keys])


def _train(plan: RunPlan, source: TokenSource, size: int) -> tuple[FittedProbe, list[StepTime], float]:
    """A few steps of batches of `size`, half of the source: the probe, times of steps, seconds before the first."""
    values = size * source.num_tokens * source.embed_dim
    many = normalised(plan) or values < _SMALL_VALUES
    card = _brief(plan.recipe, size, _MANY_STEPS if many else _FEW_STEPS, normalised(plan))
    stamps: dict[str, list[float]] = {}
    usual = plan.kind.objective(plan, [])
    objective = usual.made_up(source.num_samples, max(1, size // _SAMPLES_OF_A_CLASS))
    started = time.perf_counter()
    data = (card, source, objective, plan.probe_heads)
    how: dict[str, Any] = {"device": plan.device}
    how["progress"] = lambda phase, *_: stamps.setdefault(phase, []).append(_now(plan.device))
    at_once = len(plan.seeds) if answers_together(card, objective) else 1
    fitted = fit_seeds(*data, plan.seeds, **how)[0] if at_once > 1 else fit(*data, seed=plan.options.seed, **how)
    times = []
    for phase, told in stamps.items():
        whole = phase.startswith("sweep") or answers_together(card, objective)
        settings = at_once * card.num_settings if whole else 1
        gaps = np.diff(told).tolist() or [told[0] - started]
        times.append(StepTime(settings=settings, batch_size=size, seconds=_typical(gaps)))
    first = next(iter(stamps.values()))
    return fitted, times, max(0.0, first[0] - started - times[0].seconds.value)


def _brief(card: ProbeCard, size: int, steps: int, normalise: bool) -> ProbeCard:
    """The recipe for a few steps of this batch size on twice as many samples, half of them held out."""
    if card.optimisation is None:
        raise ValueError("nothing is trained")
    epochs = max(steps, 10) if normalise else min(steps, 9)  # from ten on, tokens are normalised beforehand
    changes: dict[str, Any] = {
        "epochs": epochs,
        "min_steps": 1 if normalise else steps,
        "batch_size": size,
        "min_steps_per_epoch": 1,
    }
    selection = card.selection
    if card.num_blocks > 1:  # settings are computed one after another: one tells
        changes |= {"lr": (), "weight_decay": (), "sweep": card.optimisation.settings[-1:]}
        selection = None
    return card.model_copy(
        update={
            "streaming": False,
            "augmentation": "none",
            "train_views": 1,
            "optimisation": card.optimisation.model_copy(update=changes),
            "selection": Selection(held_out=0.5, refit=card.hold_out is not None and card.hold_out.refit)
            if selection
            else None,
        }
    )


def _typical(seconds: list[float]) -> Constant:
    """The mean of those up to twice the median: steps that something else held up are not the run's."""
    median = statistics.median(seconds)
    return constant([second for second in seconds if second <= 2 * median])


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _timed(action: Any, per: int) -> Constant:
    """Seconds of a unit, of three times after one that is not counted, or of the one where that is long."""
    seconds = []
    for _ in range(4):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
        if sum(seconds) > 6:
            break
    return constant(seconds[1:] or seconds, per=per)


def _score_seconds(plan: RunPlan, source: TokenSource, predicting: Constant) -> Constant:
    """Seconds in which all settings of the sweep are scored on one sample."""
    if plan.recipe.selection is None:
        return NOTHING
    if plan.recipe.kind != "attentive" or plan.recipe.num_blocks > 1:
        return _times(predicting, 1 if reads_means(plan) else plan.recipe.num_settings)
    rows = np.arange(source.num_samples)
    objective = plan.kind.objective(plan, []).made_up(len(rows), len(rows))
    first = objective.initial(source.embed_dim, 1, seed=plan.options.seed)
    if "linear.weight" not in first:  # several queries are computed as several blocks are
        return _times(predicting, plan.recipe.num_settings)
    initial = {name: weight.to(plan.device) for name, weight in first.items()}
    read = NormalisedTokens(source, eps=attentive.NORM_EPS) if normalised(plan) else source
    sweep = attentive.AttentiveSweep(
        initial,
        plan.recipe.num_settings,
        plan.probe_heads,
        norm_eps=None if normalised(plan) else attentive.NORM_EPS,
    )

    def score() -> None:
        objective.qualities(sweep.logits, read, rows, objective.targets, device=plan.device, at_once=len(rows))

    return _timed(score, len(rows))


def _times(seconds: Constant, factor: int) -> Constant:
    return seconds.model_copy(update={name: getattr(seconds, name) * factor for name in ("value", "low", "high")})


def _pool_seconds(plan: RunPlan, source: TokenSource) -> Constant:
    """Seconds for one sample that is read before a training."""
    if reads_means(plan):
        return _timed(lambda: PooledTokens(source), source.num_samples)
    if normalised(plan):
        return _timed(lambda: NormalisedTokens(source, eps=attentive.NORM_EPS), source.num_samples)
    return NOTHING
