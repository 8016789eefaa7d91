"""Controls, scored: what a probe says of clips in another frame order, and what is lost against ordered ones.

The loss is a difference in points, paired on the samples that could be read in both orders. Beside it there are shares,

    lost without order = (ordered - shuffled) / (ordered - chance)
    lost with one frame = (ordered - static) / (ordered - chance)

both of probes that were trained on what they are tested on. The two overlap, and need not lie in 0
to 1. Chance is what always answering by the frequencies of the training classes scores (`Metric.chance`). For accuracy
that is the most frequent class, the mean of several that are equally frequent: 100 / classes on a balanced task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.types import FrameOrder
from bench.metrics import trainings
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import bootstrap_ratio_interval, paired
from bench.metrics.metric import Answers, Metric, metric_of
from bench.metrics.resample import (
    MeanSums,
    added_by_groups,
    group_names,
    is_paired,
    paired_scores,
    percentiles,
    redrawn,
    resampled,
)
from bench.metrics.score import Control, MotionShare, OrderDifference
from bench.metrics.seed_scores import score_of_seeds

ClassCounts = Mapping[str, NDArray[Any]]
"""Training examples of each class [C], by output of the probe: `class`, or `verb`, `noun`, `action`."""
Without = Literal["order", "motion"]
WITHOUT: tuple[tuple[Without, FrameOrder], ...] = (("order", "shuffled"), ("motion", "static"))


@dataclass(frozen=True)
class Reading:
    """What one probe said of the test samples in one frame order."""

    frames: FrameOrder
    trained_on: FrameOrder
    answers: Any
    """Answers, in any form."""
    failed: int
    """Test samples that could not be read."""
    further: tuple[Any, ...] = ()
    """Answers of the other probes of the run to the same samples, in the same order."""

    @property
    def seeds(self) -> tuple[Any, ...]:
        """The answers of every probe."""
        return (self.answers, *self.further)

    @property
    def name(self) -> str:
        """Name of its column or folder among the tables of a run, such as `reversed_by_ordered`."""
        return f"{self.frames}_by_{self.trained_on}"

    def control(self, metric: str, difference: OrderDifference | None = None) -> Control:
        """Its score and how far the ordered one is above it, for the record."""
        score = score_of_seeds(metric_of(metric), self.seeds, self.failed)
        return Control(frames=self.frames, trained_on=self.trained_on, score=score, difference=difference)


@dataclass(frozen=True)
class Controls:
    """What stands in a record beside the score, of readings in several frame orders."""

    controls: list[Control]
    shares: list[MotionShare]


def controls_of(readings: Sequence[Reading], metric: str, counts: ClassCounts) -> Controls:
    """The score of each reading and the motion shares; the first reading is of ordered clips, nothing follows of none.

    `metric` is the first of the run's; `counts` is empty where no probe was trained.
    """
    lost = [order_difference(readings[0], reading, metric_of(metric)) for reading in readings[1:]]
    scored = [reading.control(metric, one) for reading, one in zip(readings, [None, *lost], strict=False)]
    return Controls(scored, motion_shares(readings, metric, counts) if readings else [])


def order_difference(ordered: Reading, other: Reading, metric: Metric[Any]) -> OrderDifference | None:
    """What is lost between ordered clips and others; None where no two independent samples could be read in both.

    Probes of other clips are other trainings, whose variances add up. The probe of ordered clips on other clips is the
    same one, seed by seed.
    """
    common = _common(ordered.answers, other.answers)
    if not common:
        return None
    first, second = ([seed.of(common) for seed in reading.seeds] for reading in (ordered, other))
    made, compared = ([resampled(metric, seed) for seed in side] for side in (first, second))
    if not all(is_paired(seed) for seed in (*made, *compared)):
        return None
    value = float(np.mean([seed.value for seed in made]) - np.mean([seed.value for seed in compared]))
    if len(made) > 1:
        own, theirs = (np.stack([seed.pseudo for seed in side]) for side in (made, compared))
        values = _values(made, compared)
        if other.trained_on == ordered.trained_on:
            low, high = trainings.interval(trainings.trainings(own - theirs, values[0] - values[1]))
        else:
            found = trainings.difference(trainings.trainings(own, values[0]), trainings.trainings(theirs, values[1]))
            low, high = found.low, found.high
    elif isinstance(first[0], ClassAnswers):
        hits = paired(first[0].hits, second[0].hits, first[0].groups)
        low, high = 100 * hits.low, 100 * hits.high
    else:
        scores = paired_scores(made, compared)
        low, high = scores.low, scores.high
    return OrderDifference(value=value, low=min(low, value), high=max(high, value), n=len(common))


def _values(*sides: Sequence[Any]) -> tuple[NDArray[np.float64], ...]:
    """The scores of the seeds of each side."""
    return tuple(np.array([seed.value for seed in side]) for side in sides)


def _common(ordered: Answers, other: Answers) -> list[str]:
    """The samples that could be read in both orders."""
    there = set(other.samples)
    return [sample for sample in ordered.samples if sample in there]


def motion_shares(readings: Sequence[Reading], metric: str, counts: ClassCounts) -> list[MotionShare]:
    """The shares that these readings give; the first reading is of ordered clips.

    The interval is a paired bootstrap over the samples, or over their videos where some share one. There is no share
    where one of its resamples puts the ordered score at chance or below: nothing is then left to be shared out; and
    none for a metric without a level of chance.
    """
    shares = []
    for without, frames in WITHOUT:
        alike = [reading for reading in readings if reading.frames == reading.trained_on == frames]
        share = share_of(without, readings[0].seeds, alike[0].seeds, metric_of(metric), counts) if alike else None
        shares += [share] if share else []
    return shares


def share_of(
    without: Without, ordered: Sequence[Any], other: Sequence[Any], metric: Metric[Any], counts: ClassCounts
) -> MotionShare | None:
    """The share that is lost between the answers of all seeds in two orders, over the samples that both could read."""
    common = _common(ordered[0], other[0])
    if not common:
        return None
    if len(ordered) > 1:
        sides = [[seed.of(common) for seed in side] for side in (ordered, other)]
        return _share_of_seeds(without, sides[0], sides[1], metric, counts)
    first, second = ordered[0].of(common), other[0].of(common)
    if isinstance(first, ClassAnswers) and isinstance(second, ClassAnswers):
        return _share_of_hits(without, first, second, counts["class"])
    chance = metric.chance(first, counts)
    if chance is None:
        return None
    values, draws, groups = zip(*(redrawn(metric.sums(one)) for one in (first, second, chance)), strict=True)
    above = draws[0] - draws[2]
    drawn, direction = np.isfinite(above), 1 if metric.higher_is_better else -1
    if len(groups[0]) < 2 or (direction * above[drawn] <= 0).any() or direction * (values[0] - values[2]) <= 0:
        return None
    low, high = percentiles((draws[0] - draws[1])[drawn] / above[drawn], len(groups[0]), 0.95)
    value = (values[0] - values[1]) / (values[0] - values[2])
    return MotionShare(without=without, value=value, low=min(low, value), high=max(high, value), chance=values[2])


def _share_of_seeds(
    without: Without, ordered: Sequence[Any], other: Sequence[Any], metric: Metric[Any], counts: ClassCounts
) -> MotionShare | None:
    """The share of means over seeds. Its variance is that of its first derivatives in the three scores, over samples
    and the trainings of both probes (ratio estimates: Cochran, Sampling Techniques, 1977, chapter 6)."""
    guessing = _guessing(ordered[0], metric, counts)
    if guessing is None:
        return None
    chance, guessed = guessing
    sides = [[resampled(metric, seed) for seed in side] for side in (ordered, other)]
    if not all(is_paired(seed) for side in sides for seed in side) or not np.isfinite(guessed).all():
        return None
    (own, theirs), values = ([np.stack([seed.pseudo for seed in side]) for side in sides], _values(*sides))
    above = float(values[0].mean()) - chance
    direction = 1 if metric.higher_is_better else -1
    whole = trainings.trainings(own - guessed, values[0] - chance)
    if direction * above <= 0 or min(direction * end for end in trainings.interval(whole)) <= 0:
        return None
    share = float(values[0].mean() - values[1].mean()) / above
    kept = trainings.trainings(
        ((1 - share) * own + share * guessed) / above, ((1 - share) * values[0] + share * chance) / above
    )
    found = trainings.difference(kept, trainings.trainings(theirs / above, values[1] / above))
    low, high = (share + min(0.0, found.low), share + max(0.0, found.high))
    return MotionShare(without=without, value=share, low=low, high=high, chance=chance)


def _guessing(answers: Answers, metric: Metric[Any], counts: ClassCounts) -> tuple[float, NDArray[np.float64]] | None:
    """The level of chance, 0 to 100, and what each group adds to it, [G]; None for a metric that has none."""
    if isinstance(answers, ClassAnswers):
        hits = 100 * chance_hits(answers.labels, counts["class"])
        return float(hits.mean()), added_by_groups(MeanSums.of(hits, group_names(answers.samples, answers.groups)))
    guesses = metric.chance(answers, counts)
    if guesses is None:
        return None
    made = resampled(metric, guesses)
    return made.value, made.pseudo


def _share_of_hits(
    without: Without, ordered: ClassAnswers, other: ClassAnswers, counts: NDArray[Any]
) -> MotionShare | None:
    chance = chance_hits(ordered.labels, counts)
    right = ordered.hits.astype(np.float64)
    lost = right - other.hits
    names = None if ordered.groups is None else ordered.groups.astype(np.str_)
    groups = np.arange(len(right)) if names is None else np.unique(names, return_inverse=True)[1]
    if len(set(groups.tolist())) < 2:
        return None
    interval = bootstrap_ratio_interval(lost, right - chance, groups)
    if interval is None:
        return None
    value = float(lost.sum() / (right - chance).sum())
    low, high = min(interval.low, value), max(interval.high, value)
    return MotionShare(without=without, value=value, low=low, high=high, chance=100 * float(chance.mean()))


def chance_hits(labels: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """How often, 0 to 1, each sample [n] is right where a most frequent class of the training samples is answered.

    `counts` are the training samples of each class [C].
    """
    often = np.asarray(counts)
    most = np.flatnonzero(often == often.max())
    hits: NDArray[np.float64] = np.isin(np.asarray(labels), most) / len(most)
    return hits
