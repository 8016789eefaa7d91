"""Controls, scored: what a probe says of clips in another frame order, and how much of a score is owed to the order.

    share without order = (ordered - shuffled) / (ordered - chance)
    share without motion = (ordered - static) / (ordered - chance)

both of probes that were trained on what they are tested on. Chance is what always answering by the frequencies of the
training classes scores (`Metric.chance`). For accuracy that is the most frequent class, the mean of several that are
equally frequent: 100 / classes on a balanced task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.types import FrameOrder
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import bootstrap_ratio_interval
from bench.metrics.metric import Answers, Metric, metric_of, score_of_seeds
from bench.metrics.resample import percentiles, redrawn
from bench.metrics.score import Control, MotionShare

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

    def control(self, metric: str) -> Control:
        """Its score, for the record."""
        score = score_of_seeds(metric_of(metric), self.seeds, self.failed)
        return Control(frames=self.frames, trained_on=self.trained_on, score=score)


@dataclass(frozen=True)
class Controls:
    """What stands in a record beside the score, of readings in several frame orders."""

    controls: list[Control]
    shares: list[MotionShare]


def controls_of(readings: Sequence[Reading], metric: str, counts: ClassCounts) -> Controls:
    """The score of each reading and the motion shares; the first reading is of ordered clips, nothing follows of none.

    `metric` is the first of the run's; `counts` is empty where no probe was trained.
    """
    scored = [reading.control(metric) for reading in readings]
    return Controls(scored, motion_shares(readings, metric, counts) if readings else [])


def motion_shares(readings: Sequence[Reading], metric: str, counts: ClassCounts) -> list[MotionShare]:
    """The shares that these readings give; the first reading is of ordered clips.

    The interval is a paired bootstrap over the samples, or over their videos where some share one. There is no share
    where one of its resamples puts the ordered score at chance or below: nothing is then left to be shared out; and
    none for a metric without a level of chance.
    """
    shares = []
    for without, frames in WITHOUT:
        alike = [reading.seeds for reading in readings if reading.frames == reading.trained_on == frames]
        share = share_of(without, readings[0].seeds, alike[0], metric_of(metric), counts) if alike else None
        shares += [share] if share else []
    return shares


def share_of(
    without: Without, ordered: Sequence[Answers], other: Sequence[Answers], metric: Metric[Any], counts: ClassCounts
) -> MotionShare | None:
    """The share that is lost between two readings, means over their probes, over the samples that both could read."""
    there = set(other[0].samples)
    common = [sample for sample in ordered[0].samples if sample in there]
    if not common:
        return None
    first, second = ([probe.of(common) for probe in probes] for probes in (ordered, other))
    if isinstance(first[0], ClassAnswers):
        return _share_of_hits(without, first, second, counts["class"])
    chance = metric.chance(first[0], counts)
    if chance is None:
        return None
    values, draws, groups = zip(*(_redrawn(metric, probes) for probes in (first, second, [chance])), strict=True)
    above = draws[0] - draws[2]
    drawn, direction = np.isfinite(above), 1 if metric.higher_is_better else -1
    if len(groups[0]) < 2 or (direction * above[drawn] <= 0).any() or direction * (values[0] - values[2]) <= 0:
        return None
    low, high = percentiles((draws[0] - draws[1])[drawn] / above[drawn], len(groups[0]), 0.95)
    value = (values[0] - values[1]) / (values[0] - values[2])
    return MotionShare(without=without, value=value, low=min(low, value), high=max(high, value), chance=values[2])


def _redrawn(metric: Metric[Any], probes: Sequence[Answers]) -> tuple[float, NDArray[np.float64], list[str]]:
    """The mean score of the probes, its draws, and the groups that are drawn."""
    values, draws, groups = zip(*(redrawn(metric.sums(one)) for one in probes), strict=True)
    return float(np.mean(values)), np.mean(draws, axis=0), groups[0]


def _share_of_hits(
    without: Without, ordered: Sequence[Any], other: Sequence[Any], counts: NDArray[Any]
) -> MotionShare | None:
    first = ordered[0]
    chance = chance_hits(first.labels, counts)
    right, wrong_order = (np.mean([probe.hits for probe in probes], axis=0) for probes in (ordered, other))
    lost = right - wrong_order
    names = None if first.groups is None else first.groups.astype(np.str_)
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
