"""Which actions, verbs and nouns were foreseen -> class-mean recall at 5 with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.hashing import text_digest
from bench.metrics.metric import Metric, PartScore
from bench.metrics.recall import RecallSums, hits_at, recall_interval, recall_of_hits
from bench.metrics.resample import group_names
from bench.metrics.score import Breakdown, Score

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
    """Of `action`, `verb` and `noun`, in any order."""

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
