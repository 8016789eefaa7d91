"""Class-mean recall at k, each class weighing the same, and its scores for action, verb and noun.

A class is recalled as often as its samples have it among the k most likely ones.
Every sample counts once, and every class that the samples hold, as in the EPIC-KITCHENS-100 anticipation challenge
(protocol.md 6). Values are shares, 0 to 1.

Shapes: n samples, C classes, V videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.core.hashing import text_digest
from bench.metrics.intervals import Interval
from bench.metrics.metric import Metric, PartScore
from bench.metrics.resample import group_names
from bench.metrics.score import Breakdown, Score

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
    sums = RecallSums.of(labels, hits, np.asarray(videos))
    if len(sums.groups) < 2:
        raise ValueError(f"the bootstrap needs at least two videos, got {len(sums.groups)}")
    random = np.random.RandomState(seed)
    rows = max(1, _MAX_NUMBERS // sums.there.shape[1])
    means = []
    for start in range(0, draws, rows):
        chances = [1 / len(sums.groups)] * len(sums.groups)
        times = random.multinomial(len(sums.groups), chances, size=min(rows, draws - start))
        means.append(sums.shares(times))
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    value = recall_of_hits(labels, hits).mean
    return Interval(min(float(low), value), max(float(high), value))


@dataclass(frozen=True)
class RecallSums:
    """Class-mean recall, made again with each video counted any number of times. A GroupSums."""

    groups: tuple[str, ...]
    found: NDArray[np.float64]
    """Right samples of each video and class, [V, C]."""
    there: NDArray[np.float64]
    """Samples of each, [V, C]."""

    @staticmethod
    def of(labels: ArrayLike, hits: ArrayLike, videos: NDArray[Any]) -> RecallSums:
        """Count samples with `labels` [n], right where `hits` [n] is true, cut from `videos` [n]."""
        classes, member = np.unique(np.asarray(labels), return_inverse=True)
        names, video = np.unique(videos, return_inverse=True)
        shape = (len(names), len(classes))
        cells, size = video * len(classes) + member, len(names) * len(classes)
        right = np.asarray(hits, dtype=np.float64)
        found, there = (
            np.bincount(cells, weights=weights, minlength=size).astype(np.float64).reshape(shape)
            for weights in (right, np.ones(len(cells)))
        )
        return RecallSums(tuple(names.tolist()), found, there)

    def at(self, multiplicity: NDArray[Any]) -> NDArray[np.float64]:
        """Recall, 0 to 100, of each draw [D]."""
        return 100 * self.shares(multiplicity)

    def shares(self, multiplicity: NDArray[Any]) -> NDArray[np.float64]:
        """The same, 0 to 1: the mean over the classes that a draw holds, NaN where it holds none."""
        right, count = multiplicity @ self.found, multiplicity @ self.there
        drawn = count > 0
        total, classes = np.divide(right, count, out=np.zeros_like(right), where=drawn).sum(axis=1), drawn.sum(axis=1)
        means: NDArray[np.float64] = np.divide(total, classes, out=np.full(len(total), np.nan), where=classes > 0)
        return means


BEST = 5
"""Answers that count."""
HEADS = ("action", "verb", "noun")
"""What a score is of, in the order of a record."""


@dataclass(frozen=True)
class Ranking:
    """The best answers of one head. n samples."""

    labels: NDArray[np.int64]
    """[n]"""
    best: NDArray[np.int64]
    """[n, 5]: classes of highest score, best first; fewer where the head has fewer classes."""
    scores: NDArray[np.float32]
    """[n, 5]: theirs."""

    @property
    def hits(self) -> NDArray[np.bool_]:
        """[n]: whether the label is among them."""
        found: NDArray[np.bool_] = (self.best == self.labels[:, None]).any(axis=1)
        return found

    def take(self, rows: NDArray[np.int64]) -> Ranking:
        """The samples of these numbers."""
        return Ranking(self.labels[rows], self.best[rows], self.scores[rows])


@dataclass(frozen=True)
class RankedAnswers:
    """The five best answers of every head for each sample. n samples."""

    form: ClassVar[str] = "ranked"
    samples: tuple[str, ...]
    groups: NDArray[Any]
    """[n], equal where two samples were cut from one video."""
    heads: Mapping[str, Ranking]
    """The rankings of `action`, `verb` and `noun`, in any order."""

    @property
    def sample_digest(self) -> str:
        """SHA-256 of all ids with the labels of all heads."""
        columns = [self.heads[head].labels.tolist() for head in HEADS]
        return _digest(zip(self.samples, *columns, strict=True))

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of the best answers of all heads."""
        return _digest(zip(*(self.heads[head].best.tolist() for head in HEADS), strict=True))

    def of(self, samples: Sequence[str]) -> RankedAnswers:
        """Only these samples, in this order; all of them must be there."""
        places = {sample: place for place, sample in enumerate(self.samples)}
        rows = np.array([places[sample] for sample in samples], dtype=np.int64)
        heads = {head: ranking.take(rows) for head, ranking in self.heads.items()}
        return RankedAnswers(tuple(samples), self.groups[rows], heads)


def ranked_answers(
    samples: Sequence[str], groups: Sequence[str], heads: Mapping[str, tuple[ArrayLike, NDArray[np.float32]]]
) -> RankedAnswers:
    """The best answers among the scores [n, classes] of every head, given with its labels [n]; equal scores are
    ordered by class number, lowest first. Raises what `hits_at` raises."""
    rankings = {}
    for head, (labels, scores) in heads.items():
        hits_at(labels, scores, BEST)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
        rankings[head] = Ranking(np.asarray(labels), best, np.take_along_axis(scores, best, axis=1))
    return RankedAnswers(tuple(samples), np.array(groups, dtype=object), rankings)


@dataclass(frozen=True)
class HeadRecall:
    """Class-mean recall at 5 of one head. A Metric."""

    head: str
    higher_is_better: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Such as `verb-recall@5`."""
        return f"{self.head}-recall@{BEST}"

    @property
    def title(self) -> str:
        """Such as `class-mean recall at 5 of verbs`."""
        return f"class-mean recall at {BEST} of {self.head}s"

    def score(self, answers: RankedAnswers, failed: int) -> Score:
        """In percent. The interval draws videos, and there is none for a single one."""
        ranking, several = answers.heads[self.head], len(set(answers.groups.tolist())) > 1
        low, high = recall_interval(ranking.labels, ranking.hits, _in_order(answers.groups)) if several else (0.0, 1.0)
        return Score(
            metric=self.name,
            value=100 * recall_of_hits(ranking.labels, ranking.hits).mean,
            low=100 * low,
            high=100 * high,
            correct=None,
            n=len(answers.samples),
            failed=failed,
            interval="bootstrap over videos, 95 %" if several else "none: one video tells nothing of others",
        )

    def breakdowns(self, answers: RankedAnswers) -> list[Breakdown]:
        """None: thousands of actions have few samples each."""
        return []

    def by_class(self, answers: RankedAnswers) -> dict[int, PartScore]:
        """The recall of each action; records have no names of verbs and nouns."""
        if self.head != "action":
            return {}
        ranking = answers.heads[self.head]
        found = recall_of_hits(ranking.labels, ranking.hits).per_class
        return {label: PartScore(100 * value, int((ranking.labels == label).sum())) for label, value in found.items()}

    def sums(self, answers: RankedAnswers) -> RecallSums:
        """Right answers and samples of each video and class."""
        ranking = answers.heads[self.head]
        return RecallSums.of(ranking.labels, ranking.hits, group_names(answers.samples, answers.groups))

    def chance(self, answers: RankedAnswers, counts: Mapping[str, NDArray[Any]]) -> RankedAnswers:
        """Always the five most frequent verbs, nouns and actions of the training samples, equals by number."""
        heads = {}
        for head, ranking in answers.heads.items():
            often = np.argsort(-counts[head], kind="stable")[: ranking.best.shape[1]]
            shape = ranking.best.shape
            said = np.broadcast_to(often, shape), np.broadcast_to(counts[head][often].astype(np.float32), shape)
            heads[head] = Ranking(ranking.labels, *said)
        return replace(answers, heads=heads)


METRICS: dict[str, Metric[RankedAnswers]] = {metric.name: metric for metric in map(HeadRecall, HEADS)}


def _in_order(groups: NDArray[Any]) -> list[int]:
    """Numbers for the groups, in the order in which they come first: a draw is the same whatever they are called."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups.tolist()))}
    return [numbers[group] for group in groups.tolist()]


def _digest(rows: Any) -> str:
    return text_digest(repr(list(rows)))
