"""One label a sample -> top-1 accuracy: outcomes of samples, summed and divided once; and whether answers look as if
the classes were in another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.core.hashing import text_digest
from bench.metrics.detection import FrameMap, frame_map
from bench.metrics.intervals import wilson_interval
from bench.metrics.metric import Metric, PartScore
from bench.metrics.recall import ClassRecall, class_mean_recall
from bench.metrics.resample import MeanSums, group_names
from bench.metrics.score import Breakdown, Score

__all__ = [
    "METRICS",
    "ClassAnswers",
    "ClassRecall",
    "FrameMap",
    "Outcome",
    "Top1",
    "class_answers",
    "class_mean_recall",
    "frame_map",
    "score_of",
    "top1",
]


@dataclass(frozen=True)
class ClassAnswers:
    """How likely each class is for each sample. n samples, C classes."""

    form: ClassVar[str] = "classes"
    samples: tuple[str, ...]
    labels: NDArray[np.int64]
    """[n]"""
    probabilities: NDArray[np.floating]
    """[n, C]"""
    groups: NDArray[Any] | None = None
    """[n], equal where two samples were cut from one video: they are not independent. None where each has its own."""

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """[n], 1 where the most probable class is the label. Raises what `top1` raises."""
        return top1(self.labels, self.probabilities).hits

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class [n]."""
        classes: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return classes

    @property
    def sample_digest(self) -> str:
        """SHA-256 of all ids with their labels."""
        rows = (f"{sample} {label}" for sample, label in zip(self.samples, self.labels.tolist(), strict=True))
        return text_digest("\n".join(rows))

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of the predicted classes."""
        return text_digest(",".join(map(str, self.predicted.tolist())))

    def of(self, samples: Sequence[str]) -> ClassAnswers:
        """Only these samples, in this order; all of them must be there."""
        places = {sample: place for place, sample in enumerate(self.samples)}
        rows = np.array([places[sample] for sample in samples], dtype=np.int64)
        groups = None if self.groups is None else self.groups[rows]
        return ClassAnswers(tuple(samples), self.labels[rows], self.probabilities[rows], groups)


def class_answers(
    samples: Sequence[str], labels: ArrayLike, probabilities: ArrayLike, groups: Sequence[str] | None = None
) -> ClassAnswers:
    """The same of lists."""
    names = None if groups is None else np.array(groups, dtype=object)
    return ClassAnswers(tuple(samples), np.asarray(labels), np.asarray(probabilities), names)


@dataclass(frozen=True)
class Outcome:
    """What a metric says of each sample, in the order of the samples."""

    hits: NDArray[np.int64]
    """[n], 1 where the sample is right and 0 where it is not."""

    @property
    def n(self) -> int:
        """Samples, each counted once."""
        return len(self.hits)

    @property
    def correct(self) -> int:
        """Samples that are right."""
        return int(self.hits.sum())

    @property
    def value(self) -> float:
        """The score, 0 to 100."""
        return 100 * self.correct / self.n


def top1(labels: ArrayLike, probabilities: ArrayLike) -> Outcome:
    """Whether the most probable class is the label. A tie goes to the class with the lowest number.

    labels: integers [n] in 0 .. classes - 1; probabilities: [n, classes], or any scores that order classes.
    Raises BenchError where there is no sample or a probability is NaN or infinite, ValueError where shapes or
    labels do not fit.
    """
    truth, scores = _checked(labels, probabilities)
    return Outcome((scores.argmax(axis=1) == truth).astype(np.int64))


def score_of(metric: str, labels: ArrayLike, probabilities: ArrayLike, failed: int) -> Score:
    """The score of a run: accuracy with the Wilson 95 % interval, over the samples that could be read.

    `failed` is the number of test samples that could not be read; they are reported, not counted as wrong.
    Raises what `top1` raises.
    """
    outcome = top1(labels, probabilities)
    low, high = wilson_interval(outcome.correct, outcome.n)
    return Score(
        metric=metric,
        value=outcome.value,
        low=100 * low,
        high=100 * high,
        correct=outcome.correct,
        n=outcome.n,
        failed=failed,
        interval="Wilson, 95 %",
    )


class Top1:
    """Top-1 accuracy. A Metric."""

    name = "top1"
    title = "top-1 accuracy"
    higher_is_better = True

    def score(self, answers: ClassAnswers, failed: int) -> Score:
        """See `score_of`."""
        return score_of(self.name, answers.labels, answers.probabilities, failed)

    def breakdowns(self, answers: ClassAnswers) -> list[Breakdown]:
        """None: the predictions say it all."""
        return []

    def by_class(self, answers: ClassAnswers) -> dict[int, PartScore]:
        """The accuracy on the samples of each class."""
        hits, labels = answers.hits, answers.labels
        return {
            label: PartScore(100 * float(hits[labels == label].mean()), int((labels == label).sum()))
            for label in np.unique(labels).tolist()
        }

    def sums(self, answers: ClassAnswers) -> MeanSums:
        """Right answers and samples of each video."""
        return MeanSums.of(100.0 * answers.hits, group_names(answers.samples, answers.groups))

    def chance(self, answers: ClassAnswers, counts: Mapping[str, NDArray[Any]]) -> ClassAnswers:
        """Always the most frequent class of the training samples, the first of several.

        Motion shares take the mean of several that are equally frequent instead (`chance_hits`).
        """
        said = np.zeros_like(answers.probabilities)
        said[:, int(counts["class"].argmax())] = 1
        return ClassAnswers(answers.samples, answers.labels, said, answers.groups)


METRICS: dict[str, Metric[ClassAnswers]] = {"top1": Top1()}


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    if not truth.size:
        raise BenchError(
            "no test sample could be scored", fix="the failures of the run say why each one could not be read"
        )
    if truth.ndim != 1 or scores.ndim != 2 or len(truth) != len(scores):
        raise ValueError(f"labels {truth.shape} and probabilities {scores.shape} must be [n] and [n, classes]")
    if not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {truth.dtype}")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"labels must be in 0 .. {scores.shape[1] - 1}, got {truth.min()} .. {truth.max()}")
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(broken):
        raise BenchError(
            f"probabilities of {len(broken)} of {len(truth)} samples are NaN or infinite",
            where=f"test sample {broken[0]}",
            fix="the encoder or the probe overflowed; run it in fp32",
        )
    return truth.astype(np.int64), scores


def suspicion(labels: Sequence[int], predictions: Sequence[int] | NDArray[np.int64]) -> str | None:
    """One clause where the predictions fit the labels far better with the classes renamed; None where they do not.

    Every predicted class takes the label that it meets most often on every other sample; the rest of the samples
    count. Far better: the low end of the 95 % interval of that accuracy is above twice the high end of the accuracy as
    it is, and above that of always naming the most frequent class.
    """
    truth, predicted = np.asarray(labels), np.asarray(predictions)
    learn, count = slice(0, None, 2), slice(1, None, 2)
    n = len(truth[count])
    if n == 0:
        return None
    renamed = {
        value: np.bincount(truth[learn][predicted[learn] == value]).argmax() for value in np.unique(predicted[learn])
    }
    guesses = np.array([renamed.get(value, value) for value in predicted[count]])
    hits = int((guesses == truth[count]).sum())
    right = int((predicted == truth).sum())
    least = wilson_interval(hits, n).low
    most = wilson_interval(right, len(truth)).high
    constant = wilson_interval(int(np.bincount(truth).max()), len(truth)).high
    if least <= max(2 * most, constant):
        return None
    return (
        f"{100 * right / len(truth):.1f} % right, but {100 * hits / n:.1f} % of every other sample with the classes "
        "renamed: the probe's class order is probably another one"
    )
