"""Metrics: pure functions of per-sample outcomes, summed and divided once.

A new metric is one function from labels and probabilities to an `Outcome`, and one entry in `METRICS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.metrics.detection import FrameMap, frame_map
from bench.metrics.intervals import wilson_interval
from bench.metrics.recall import ClassRecall, class_mean_recall
from bench.metrics.score import Score

__all__ = ["METRICS", "ClassRecall", "FrameMap", "Outcome", "class_mean_recall", "frame_map", "score_of", "top1"]


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


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], Outcome]] = {"top1": top1}
"""Every metric that a task card may name."""


def score_of(metric: str, labels: ArrayLike, probabilities: ArrayLike, failed: int) -> Score:
    """The score of a run: its metric with the Wilson 95 % interval, over the samples that could be read.

    `failed` is the number of test samples that could not be read; they are reported, not counted as wrong.
    Raises what the metric raises.
    """
    outcome = METRICS[metric](labels, probabilities)
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
