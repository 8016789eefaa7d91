"""The scores of a run: of every metric of its answers, the mean over its probes, with one interval for both chances.

Shapes: K probes, G groups of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bench.metrics.metric import FORMS, Answers, Metric, metric_of
from bench.metrics.resample import added_by_groups
from bench.metrics.score import OF_TRAININGS, Breakdown, Score
from bench.metrics.trainings import interval, share_interval, spread_over, trainings


@dataclass(frozen=True)
class Scored:
    """All scores of a run, and their parts."""

    scores: list[Score]
    breakdowns: list[Breakdown]


def score_all(answers: Answers, failed: int, further: Sequence[Answers] = ()) -> Scored:
    """Every score of a run that gave these answers; `further` are those of its other probes to the same samples, in the
    same order. Raises what the metrics raise."""
    metrics, seeds = [metric_of(name) for name in FORMS[answers.form].metrics], (answers, *further)
    scores = [score_of_seeds(metric, seeds, failed) for metric in metrics]
    return Scored(scores, [part for metric in metrics for part in _mean_breakdowns(metric, seeds)])


def score_of_seeds(metric: Metric[Any], seeds: Sequence[Answers], failed: int) -> Score:
    """The mean score of probes that answered the same samples, with an interval over samples, and over trainings where
    there are several (bench.metrics.trainings).

    One probe keeps the interval of its metric, unless a share of samples has some that share a group.
    """
    scores = [metric.score(one, failed) for one in seeds]
    first, sums = scores[0], [metric.sums(one) for one in seeds]
    value = sum(score.value for score in scores) / len(scores)
    counts = [score.correct for score in scores if score.correct is not None]
    added = [added_by_groups(one) for one in sums]
    known = len(added[0]) > 1 and all(map(_finite, added))
    changes: dict[str, Any] = {"value": value, "seeds": len(seeds), "correct": sum(counts) if counts else None}
    changes["training_sd"] = spread_over([score.value for score in scores])
    if counts:
        changes["value"] = 100 * sum(counts) / (first.n * len(seeds))
    if not known:
        if len(seeds) > 1 or (counts and first.n > 1):
            changes |= {"low": 0.0, "high": 100.0, "interval": "none: all samples are of one group"}
        return first.model_copy(update=changes)
    found = trainings(added, [score.value for score in scores])
    changes["sampling_se"] = found.sampling_se
    grouped = len(added[0]) < first.n
    if len(seeds) > 1 or (counts and grouped):
        low, high = share_interval(found) if counts else interval(found)
        over = f"{len(added[0]):,} groups of samples" if grouped else "samples"
        over += f" and {len(seeds)} trainings" if len(seeds) > 1 else ""
        way = OF_TRAININGS if counts else "Student's t"
        ends = {"low": max(0.0, min(low, value)), "high": min(100.0, max(high, value))}
        changes |= {**ends, "interval": f"{way}, over {over}, 95 %"}
    return first.model_copy(update=changes)


def _finite(values: NDArray[Any]) -> bool:
    return bool(abs(values).max() < float("inf"))  # false for NaN, too


def _mean_breakdowns(metric: Metric[Any], seeds: Sequence[Answers]) -> list[Breakdown]:
    """The parts of the score, means over the probes."""
    first, *others = [metric.breakdowns(one) for one in seeds]
    if not others:
        return first
    return [
        part.model_copy(update={"values": {name: _mean_part(parts, name) for name in part.values}})
        for part, *rest in zip(first, *others, strict=True)
        for parts in [(part, *rest)]
    ]


def _mean_part(parts: Sequence[Breakdown], name: str) -> float | None:
    values = [value for part in parts if (value := part.values.get(name)) is not None]
    return sum(values) / len(values) if values else None
