"""Class-mean recall at k: how often the true class is among the k most likely ones, each class weighing the same.

Every sample counts once, and every class that the samples hold, as in the EPIC-KITCHENS-100 anticipation challenge
(protocol.md 6). Values are shares, 0 to 1.

Shapes: n samples, C classes, V videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.metrics.intervals import Interval

_MAX_NUMBERS = 1 << 22
"""Resampled counts held at once: 32 MiB."""


@dataclass(frozen=True)
class ClassRecall:
    """Recall of every class that the samples hold, and the mean over those classes; all 0 to 1."""

    per_class: Mapping[int, float]
    mean: float


def class_mean_recall(labels: ArrayLike, scores: ArrayLike, k: int = 5) -> ClassRecall:
    """Recall at k of every class in `labels`, and their mean.

    labels: integers [n] in 0 .. C - 1; scores: [n, C], any numbers that order classes. A class without a sample has no
    recall and is not counted, whatever its scores. Equal scores are ordered by class number, lowest first.
    Raises BenchError where there is no sample or a score is NaN or infinite, ValueError where shapes, labels or k do
    not fit. Source: protocol.md 6.
    """
    truth = np.asarray(labels)
    return recall_of_hits(truth, hits_at(truth, scores, k))


def hits_at(labels: ArrayLike, scores: ArrayLike, k: int = 5) -> NDArray[np.bool_]:
    """Whether the label of each sample [n] is among its k classes of highest score. Raises as `class_mean_recall`."""
    truth, values = np.asarray(labels), np.asarray(scores)
    if not truth.size:
        raise BenchError("no sample to score", fix="the failures of the run say why each one could not be read")
    if truth.ndim != 1 or values.ndim != 2 or len(truth) != len(values) or k < 1:
        raise ValueError(f"labels {truth.shape} and scores {values.shape} must be [n] and [n, C], k = {k} at least 1")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= values.shape[1]:
        raise ValueError(f"labels must be integers in 0 .. {values.shape[1] - 1}")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise BenchError(
            f"scores of {len(broken)} of {len(truth)} samples are NaN or infinite",
            where=f"sample {broken[0]}",
            fix="the encoder or the probe overflowed; run it in fp32",
        )
    own = values[np.arange(len(truth)), truth][:, None]
    before = np.arange(values.shape[1]) < truth[:, None]
    rank = (values > own).sum(axis=1) + ((values == own) & before).sum(axis=1)
    hits: NDArray[np.bool_] = rank < k
    return hits


def recall_of_hits(labels: ArrayLike, hits: ArrayLike) -> ClassRecall:
    """The recall of each class, and the mean, of samples with `labels` [n] of which `hits` [n] are right."""
    classes, member = np.unique(np.asarray(labels), return_inverse=True)
    shares = np.bincount(member, weights=np.asarray(hits, dtype=np.float64)) / np.bincount(member)
    return ClassRecall(dict(zip(classes.tolist(), shares.tolist(), strict=True)), float(shares.mean()))


def recall_interval(
    labels: ArrayLike,
    hits: ArrayLike,
    videos: ArrayLike,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the class-mean recall; the same for the same seed.

    `videos` [n] names what each sample was cut from: a draw takes whole videos, because actions of one video are not
    independent. A class that a draw does not hold is not counted in it. Where the classes have few samples a draw
    drops many of them, and the percentiles may miss the recall itself: the interval is then widened to hold it.
    Raises ValueError for fewer than two videos, which tell nothing of how recall varies.
    """
    truth, right = np.asarray(labels), np.asarray(hits, dtype=np.float64)
    classes, member = np.unique(truth, return_inverse=True)
    names, video = np.unique(np.asarray(videos), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"the bootstrap needs at least two videos, got {len(names)}")
    shape = (len(names), len(classes))
    cells, size = video * len(classes) + member, len(names) * len(classes)
    found, there = (np.bincount(cells, weights=weights, minlength=size) for weights in (right, np.ones(len(cells))))
    means = _resampled_recalls(found.reshape(shape), there.reshape(shape), draws, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = recall_of_hits(truth, right).mean
    return Interval(min(float(low), value), max(float(high), value))


def _resampled_recalls(found: NDArray[Any], there: NDArray[Any], draws: int, seed: int) -> NDArray[np.float64]:
    """Class-mean recall of `draws` sets of videos, of right samples and samples [V, C] in each video and class."""
    num_videos, num_classes = found.shape
    random = np.random.RandomState(seed)
    rows = max(1, _MAX_NUMBERS // num_classes)
    means = []
    for start in range(0, draws, rows):
        times = random.multinomial(num_videos, [1 / num_videos] * num_videos, size=min(rows, draws - start))
        right, count = times @ found, times @ there
        drawn = count > 0
        means.append(np.divide(right, count, out=np.zeros_like(right), where=drawn).sum(axis=1) / drawn.sum(axis=1))
    return np.concatenate(means)
