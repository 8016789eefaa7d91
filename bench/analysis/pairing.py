"""Runs of several models on the same samples: their answers to what all of them scored, one score against another, and
where two models differ, class by class and sample by sample. Shapes: K seeds, n samples, C classes.

Everything here is in points, 0 to 100, as in records; `bench.metrics.intervals` counts in shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bench.analysis.change import Change, change_of_scores, sides
from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Metric
from bench.metrics.resample import resampled
from bench.metrics.seed_scores import score_of_seeds
from bench.records.recomputed import read_seeds
from bench.records.schema import Record


def change_of_answers(metric: Metric[Any], a: Sequence[Any], b: Sequence[Any]) -> Change:
    """The difference in a metric that is no accuracy, of answers [K] to the same samples."""
    side_a, side_b = ([resampled(metric, answers) for answers in side] for side in (a, b))
    return change_of_scores(side_a, side_b, len(a[0].samples))


def score_of_side(metric: Metric[Any], answers: Sequence[Any]) -> tuple[float, float, float]:
    """The mean score of the seeds and both ends of its interval."""
    score = score_of_seeds(metric, answers, failed=0)
    return score.value, score.low, score.high


def common_answers(
    a: Sequence[tuple[Path, Record]], b: Sequence[tuple[Path, Record]], where: str
) -> tuple[list[Any], list[Any], int]:
    """The answers of all seeds of two sides, given as folders and records of their runs, to the samples that all
    scored, in order of the ids; and how many samples that leaves out at most.

    Raises BenchError where there is no such sample, or what is true of one differs.
    """
    read_a, read_b = ([one for run in side for one in read_seeds(*run)] for side in (a, b))
    read = [*read_a, *read_b]
    samples = shared_samples(read)
    if not samples:
        raise BenchError("they have no test sample in common", where=where, fix="compare runs on one list")
    aligned = [answers.of(samples) for answers in read]
    for answers in aligned[1:]:
        if answers.sample_digest != aligned[0].sample_digest:
            found = _first_difference(aligned[0], answers, samples)
            what = f"the labels of test samples differ, such as {found}"
            raise BenchError(what, where=where, fix="compare runs on one list")
    left_out = max(len(answers.samples) for answers in read) - len(samples)
    return aligned[: len(read_a)], aligned[len(read_a) :], left_out


def shared_samples(answers: Sequence[Any]) -> list[str]:
    """The samples that all of them have, in order of their ids."""
    return sorted(set.intersection(*(set(one.samples) for one in answers)))


def _first_difference(a: Any, b: Any, samples: Sequence[str]) -> str:
    """The first sample whose truth differs, found by halves."""
    while len(samples) > 1:
        half = samples[: len(samples) // 2]
        alike = a.of(half).sample_digest == b.of(half).sample_digest
        samples = samples[len(half) :] if alike else half
    return samples[0]


@dataclass(frozen=True)
class ClassChange:
    """What is of one class; values are means over the seeds."""

    name: str
    n: int
    """Samples of the class, or boxes."""
    value_a: float
    value_b: float
    wins: int | None
    """Samples that A gets right more often; None where the metric is no share of answers."""
    losses: int | None
    """Samples that B gets right more often."""


@dataclass(frozen=True)
class SampleChange:
    """One sample, and what both models said of it; probabilities are 0 to 1, means over the seeds."""

    sample: str
    label: str
    predicted_a: str
    predicted_b: str
    probability_a: float
    """Probability that A gave to the class it predicted."""
    probability_b: float
    label_probability_a: float
    """Probability that A gave to the label."""
    label_probability_b: float


def classes_of_answers(a: Sequence[ClassAnswers], b: Sequence[ClassAnswers], names: Sequence[str]) -> list[ClassChange]:
    """The accuracy on every class that occurs, those that differ most first."""
    hits_a, hits_b = (np.stack([answers.hits for answers in side]) for side in (a, b))
    changes = []
    for label in np.unique(a[0].labels).tolist():
        own = a[0].labels == label
        right_a, right_b = hits_a[:, own], hits_b[:, own]
        wins, losses = sides(right_a.mean(axis=0) - right_b.mean(axis=0))
        changes.append(
            ClassChange(
                name=_name(names, label),
                n=right_a.shape[1],
                value_a=100 * int(right_a.sum()) / right_a.size,
                value_b=100 * int(right_b.sum()) / right_b.size,
                wins=wins,
                losses=losses,
            )
        )
    return sorted(changes, key=lambda change: -abs((change.wins or 0) - (change.losses or 0)))


def classes_of_metric(
    metric: Metric[Any], a: Sequence[Any], b: Sequence[Any], names: Sequence[str]
) -> list[ClassChange]:
    """The score in another metric of every class that all runs have one of, those that differ most first."""
    side_a, side_b = ([metric.by_class(answers) for answers in side] for side in (a, b))
    changes = [
        ClassChange(
            name=_name(names, place),
            n=part.n,
            value_a=fmean(seed[place].value for seed in side_a),
            value_b=fmean(seed[place].value for seed in side_b),
            wins=None,
            losses=None,
        )
        for place, part in side_a[0].items()
        if all(place in seed for seed in (*side_a, *side_b))
    ]
    return sorted(changes, key=lambda change: -abs(change.value_a - change.value_b))


def changed_samples(
    a: Sequence[ClassAnswers], b: Sequence[ClassAnswers], names: Sequence[str], count: int
) -> list[SampleChange]:
    """The samples on whose label two models disagree most, at most `count`."""
    mean_a, mean_b = (np.mean([answers.probabilities for answers in side], axis=0) for side in (a, b))
    labels, every = a[0].labels, np.arange(len(a[0].labels))
    moved = np.abs(mean_a[every, labels] - mean_b[every, labels])
    changes = []
    for i in np.argsort(-moved, kind="stable")[:count].tolist():
        said_a, said_b, label = int(mean_a[i].argmax()), int(mean_b[i].argmax()), int(labels[i])
        changes.append(
            SampleChange(
                sample=a[0].samples[i],
                label=_name(names, label),
                predicted_a=_name(names, said_a),
                predicted_b=_name(names, said_b),
                probability_a=float(mean_a[i, said_a]),
                probability_b=float(mean_b[i, said_b]),
                label_probability_a=float(mean_a[i, label]),
                label_probability_b=float(mean_b[i, label]),
            )
        )
    return changes


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)
