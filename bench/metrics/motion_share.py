"""Controls, scored: what a probe says of clips in another frame order, and how much of a score is owed to the order.

    share without order = (ordered - shuffled) / (ordered - chance)
    share without motion = (ordered - static) / (ordered - chance)

both of probes that were trained on what they are tested on. Chance is what always answering the most frequent class of
the training samples scores, the mean of several that are equally frequent: 100 / classes on a balanced task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.core.types import FrameOrder
from bench.metrics.accuracy import METRICS, score_of
from bench.metrics.intervals import bootstrap_ratio_interval
from bench.metrics.score import Control, MotionShare, Predictions

_WITHOUT: tuple[tuple[Literal["order", "motion"], FrameOrder], ...] = (("order", "shuffled"), ("motion", "static"))


@dataclass(frozen=True)
class Reading:
    """What one probe said of the test clips in one frame order."""

    frames: FrameOrder
    trained_on: FrameOrder
    predictions: Predictions
    failed: int
    """Test samples that could not be read."""

    @property
    def name(self) -> str:
        """Of its column in controls.parquet, such as `reversed_by_ordered`."""
        return f"{self.frames}_by_{self.trained_on}"

    def control(self, metric: str) -> Control:
        """Its score, for the record."""
        said = self.predictions
        score = score_of(metric, said.labels, said.probabilities, self.failed)
        return Control(frames=self.frames, trained_on=self.trained_on, score=score)


def motion_shares(readings: Sequence[Reading], metric: str, train_labels: Sequence[int]) -> list[MotionShare]:
    """The shares that these readings tell; the first one is of ordered clips.

    The interval is a paired bootstrap over the samples, or over their videos where some share one. There is no share
    where one of its 2000 resamples puts the ordered score at chance or below: nothing is then left to be shared out.
    """
    ordered, shares = readings[0], []
    for without, frames in _WITHOUT:
        alike = [reading for reading in readings if reading.frames == reading.trained_on == frames]
        share = _share(without, ordered, alike[0], metric, train_labels) if alike else None
        shares += [share] if share else []
    return shares


def _share(
    without: Literal["order", "motion"], ordered: Reading, other: Reading, metric: str, train_labels: Sequence[int]
) -> MotionShare | None:
    hits, other_hits = _hits(ordered, metric), _hits(other, metric)
    rows = [row for row, sample in enumerate(ordered.predictions.samples) if sample in hits and sample in other_hits]
    samples = [ordered.predictions.samples[row] for row in rows]
    videos = ordered.predictions.videos
    chance = chance_hits([ordered.predictions.labels[row] for row in rows], train_labels)
    right = np.array([hits[sample] for sample in samples], dtype=np.float64)
    lost = right - np.array([other_hits[sample] for sample in samples])
    groups = np.unique([videos[row] for row in rows], return_inverse=True)[1] if videos else np.arange(len(rows))
    if len(set(groups.tolist())) < 2:
        return None
    interval = bootstrap_ratio_interval(lost, right - chance, groups)
    if interval is None:
        return None
    value = float(lost.sum() / (right - chance).sum())
    low, high = min(interval.low, value), max(interval.high, value)
    return MotionShare(without=without, value=value, low=low, high=high, chance=100 * float(chance.mean()))


def _hits(reading: Reading, metric: str) -> dict[str, int]:
    said = reading.predictions
    return dict(zip(said.samples, METRICS[metric](said.labels, said.probabilities).hits.tolist(), strict=True))


def chance_hits(labels: Sequence[int], train_labels: Sequence[int]) -> NDArray[np.float64]:
    """How often, 0 to 1, each sample [n] is right where a most frequent class of the training samples is answered."""
    counts = Counter(train_labels)
    most = [label for label, count in counts.items() if count == max(counts.values())]
    return np.isin(labels, most) / len(most)


def write_answers(path: Path, readings: Sequence[Reading]) -> None:
    """The predicted classes: columns sample and label, and one for each reading, such as `reversed_by_ordered`.

    Rows are those of predictions.parquet; a cell is empty where a sample could not be read in that order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = readings[0].predictions
    columns = {"sample": pa.array(said.samples, pa.string()), "label": pa.array(said.labels, pa.int32())}
    for reading in readings:
        answers = dict(
            zip(reading.predictions.samples, reading.predictions.probabilities.argmax(1).tolist(), strict=True)
        )
        columns[reading.name] = pa.array([answers.get(sample) for sample in said.samples], pa.int32())
    pq.write_table(pa.table(columns), path)
