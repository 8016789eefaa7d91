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

from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import Paired
from bench.metrics.metric import Metric
from bench.metrics.resample import PairedDifference, paired_scores, resampled
from bench.records.recomputed import read_answers
from bench.records.schema import Record


@dataclass(frozen=True)
class Change:
    """A minus B, in points."""

    difference: float
    low: float
    """Low end of the interval of the difference."""
    high: float
    p_value: float
    """Two-sided."""
    p_lower: float
    """One-sided, of a drop."""
    mde: float | None
    """The smallest true difference that such a comparison finds with 80 % power; None where it finds none."""
    wins: int
    """Answers that only A got right; in other metrics than accuracy, groups that add more to the score of A."""
    losses: int
    """Answers that only B got right, or groups that add more to the score of B."""
    clusters: int
    """Videos that the samples are of, or samples."""
    interval: str
    """How the interval was made."""
    test: str


def change_of_hits(found: Paired, interval: str) -> Change:
    """The difference of two accuracies."""
    test = "exact McNemar" if found.clusters == found.n else "exact sign flips of whole clusters"
    return Change(
        difference=100 * found.difference,
        low=100 * found.low,
        high=100 * found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=None if found.mde is None else 100 * found.mde,
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=interval,
        test=test,
    )


def change_of_scores(found: PairedDifference, n: int) -> Change:
    """The difference of two scores in another metric, of n samples."""
    units = "samples" if found.clusters == n else "videos"
    return Change(
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        p_lower=found.p_lower,
        mde=found.mde,
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=f"paired bootstrap over {found.clusters:,} {units}, {100 * found.confidence:g} %",
        test=f"sign flips of what each of the {units} adds",
    )


def change_of_answers(metric: Metric[Any], a: Sequence[Any], b: Sequence[Any]) -> Change:
    """The difference in a metric that is no accuracy, of answers [K] to the same samples."""
    side_a, side_b = ([resampled(metric, answers) for answers in side] for side in (a, b))
    return change_of_scores(paired_scores(side_a, side_b), len(a[0].samples))


def mean_score(metric: Metric[Any], answers: Sequence[Any]) -> tuple[float, float, float]:
    """The score and both ends of its interval, means over the seeds."""
    scores = [metric.score(one, failed=0) for one in answers]
    return fmean(s.value for s in scores), fmean(s.low for s in scores), fmean(s.high for s in scores)


def common_answers(runs: Sequence[tuple[Path, Record]], where: str) -> tuple[list[Any], int]:
    """The answers of runs, given with their folders, to the samples that all of them scored, in order of the ids; and
    how many samples that leaves out at most.

    Raises BenchError where there is no such sample, or what is true of one differs.
    """
    read = [read_answers(folder, record) for folder, record in runs]
    samples = shared_samples(read)
    if not samples:
        raise BenchError("they have no test sample in common", where=where, fix="compare runs on one list")
    aligned = [answers.of(samples) for answers in read]
    for answers in aligned[1:]:
        if answers.sample_digest != aligned[0].sample_digest:
            found = _first_difference(aligned[0], answers, samples)
            what = f"the labels of test samples differ, such as {found}"
            raise BenchError(what, where=where, fix="compare runs on one list")
    return aligned, max(len(answers.samples) for answers in read) - len(samples)


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
    """What is of one class. With several seeds every sample counts once for each."""

    name: str
    n: int
    """Samples of the class, or boxes."""
    value_a: float
    value_b: float
    wins: int | None
    """Answers that only A got right; None where the metric is no share of answers."""
    losses: int | None
    """Answers that only B got right."""


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
        changes.append(
            ClassChange(
                name=_name(names, label),
                n=right_a.shape[1],
                value_a=100 * int(right_a.sum()) / right_a.size,
                value_b=100 * int(right_b.sum()) / right_b.size,
                wins=int((right_a > right_b).sum()),
                losses=int((right_a < right_b).sum()),
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
