"""Where two models differ: class by class, and sample by sample. Shapes: K seeds, n samples, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Metric


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
