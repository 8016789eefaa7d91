"""Frame mAP: how well actions are found in boxes, exactly as the official ActivityNet evaluation of AVA counts.

Every detection looks only at the ground-truth box of its class and frame that it overlaps most. So a detection is
true if that overlap is large enough and no detection with a higher score claims the same box, and the matches of a
whole data set are a few sorts. Detections with equal scores enter a curve together: their order means nothing.

Shapes: n detections, m ground-truth boxes, p pairs of both in one class and frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BenchError
from bench.metrics.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CORNERS = ("x1", "y1", "x2", "y2")
_MAX_NUMBERS = 1 << 22
"""Resampled counts held at once: 32 MiB."""


@dataclass(frozen=True)
class FrameMap:
    """Average precision of every class that the ground truth holds, and their mean; all 0 to 1."""

    per_class: Mapping[int, float]
    mean: float


def frame_map(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    classes: Iterable[int] | None = None,
    iou: float = 0.5,
    max_per_frame: int = 50,
) -> FrameMap:
    """Mean average precision of labelled boxes in key frames, by the rules of the official AVA evaluation.

    `ground_truth` has the columns video, timestamp, x1, y1, x2, y2, action, one row for each action of a box; a row
    with nothing but video and timestamp is an evaluated frame without actions. `detections` has a column `score` too.
    `classes` are the actions that count, all where None.

    Rows of other actions are dropped; then the `max_per_frame` labelled boxes of highest score are kept in each frame.
    Detections in frames that the ground truth does not hold are ignored. In each class and frame, in order of score, a
    detection is true if the ground-truth box that it overlaps most is overlapped by at least `iou` (intersection over
    union, 0 to 1) and is not taken yet. AP is the area under the precision envelope over all points of recall; the mean
    is over the classes in the ground truth. The order of rows changes nothing.

    Raises BenchError for missing columns, values that are no numbers, inverted boxes, and where no ground-truth box has
    a class that counts. Source: Evaluation/get_ava_performance.py of the ActivityNet challenge.
    """
    return match_frames(ground_truth, detections, classes, iou, max_per_frame).frame_map()


def match_frames(
    ground_truth: pd.DataFrame,
    detections: pd.DataFrame,
    classes: Iterable[int] | None = None,
    iou: float = 0.5,
    max_per_frame: int = 50,
) -> Matches:
    """Which detections are true, for curves, resampled ones included. Arguments, rules and errors: see `frame_map`."""
    if not 0 < iou <= 1 or max_per_frame < 1:
        raise ValueError(f"iou {iou} must be above 0 to 1, max_per_frame {max_per_frame} at least 1")
    truth = _read(ground_truth, "ground truth", scored=False)
    found = _read(detections, "detections", scored=True)
    video, videos = _numbered(truth.video, found.video)
    time, times = _numbered(truth.timestamp, found.timestamp)
    frame = video * len(times) + time
    truth_video, truth_frame = video[: len(truth.video)], frame[: len(truth.video)]
    found_video, found_frame = video[len(truth.video) :], frame[len(truth.video) :]

    counted = None if classes is None else np.array([int(action) for action in classes])
    rows = truth.rows_of(counted)
    if not len(rows):
        raise BenchError("no box has a class that counts", where="ground truth", fix="check the classes and the file")
    # In the order of their corners: where boxes are otherwise equal, the order of rows must not choose.
    rows = rows[np.lexsort(truth.boxes[rows].T)]
    kept = found.rows_of(counted)
    kept = kept[np.lexsort((*found.boxes[kept].T, found.action[kept], -found.score[kept]))]
    kept = kept[_place_in_group(found_frame[kept]) < max_per_frame]
    kept = kept[np.isin(found_frame[kept], truth_frame)]

    actions, _ = _numbered(truth.action[rows], found.action[kept])
    place = np.concatenate([truth_frame[rows], found_frame[kept]]) * (1 + actions.max()) + actions
    claimed = _claims(truth.boxes[rows], place[: len(rows)], found.boxes[kept], place[len(rows) :], iou)
    return Matches(
        truth_class=truth.action[rows].astype(np.int64),
        truth_video=truth_video[rows],
        found_class=found.action[kept].astype(np.int64),
        found_video=found_video[kept],
        score=found.score[kept],
        true=_first_claims(claimed, found.score[kept]),
        videos=tuple(videos[: 1 + truth_video.max()]),
    )


@dataclass(frozen=True)
class Matches:
    """Detections and the ground truth that they were compared with, class by class."""

    truth_class: Ints
    """[m]"""
    truth_video: Ints
    """[m], 0 .. num_videos - 1."""
    found_class: Ints
    """[n]"""
    found_video: Ints
    score: Floats
    """[n]"""
    true: NDArray[np.bool_]
    """[n]"""
    videos: tuple[str, ...]
    """Names by number of the videos that the ground truth holds."""

    @property
    def num_videos(self) -> int:
        """Independent units."""
        return len(self.videos)

    @cached_property
    def curves(self) -> dict[int, ClassCurve]:
        """What the curve of each class is made from, for the classes in the ground truth, in rising order."""
        order = np.lexsort((-self.score, self.found_class))
        found_class, score = self.found_class[order], self.score[order]
        curves = {}
        for action in np.unique(self.truth_class).tolist():
            start, stop = np.searchsorted(found_class, [action, action + 1])
            rows, scores = order[start:stop], score[start:stop]
            # The last detection of each score; scores[1:] of none is none.
            ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], len(scores) > 0))
            truth = np.bincount(self.truth_video[self.truth_class == action], minlength=self.num_videos)
            curves[action] = ClassCurve(self.true[rows], self.found_video[rows], ends, truth)
        return curves

    def frame_map(self) -> FrameMap:
        """Average precision of every class, and their mean."""
        once = np.ones(self.num_videos)
        per_class = {action: curve.average_precision(once) for action, curve in self.curves.items()}
        return FrameMap(per_class, float(np.mean(list(per_class.values()))))

    def bootstrap_interval(self, *, confidence: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval:
        """Percentile interval of the mean, 0 to 1: videos are drawn with replacement, each with all its boxes.

        A class that a draw has no ground truth of is left out of its mean, as a class that a data set lacks is.
        Raises ValueError for fewer than two videos.
        """
        if self.num_videos < 2:
            raise ValueError(f"the bootstrap needs at least two independent videos, got {self.num_videos}")
        stream, annotated = np.random.RandomState(seed), np.bincount(self.truth_video, minlength=self.num_videos)
        drawn: list[Ints] = []
        while len(drawn) < draws:
            weights = np.bincount(stream.randint(0, self.num_videos, self.num_videos), minlength=self.num_videos)
            if weights @ annotated:
                drawn.append(weights)
        means = self.resampled(np.array(drawn, np.float64))
        low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(float(low), float(high))

    def resampled(self, weights: Floats) -> Floats:
        """The mean [draws], 0 to 1, where each video counts `weights` [draws, videos] times: over the classes that a
        draw has ground truth of, NaN where it has of none."""
        precisions = np.stack([curve.resampled_precisions(weights) for curve in self.curves.values()])
        means, known = np.full(len(weights), np.nan), ~np.isnan(precisions).all(axis=0)
        means[known] = np.nanmean(precisions[:, known], axis=0)
        return means


class ClassCurve(NamedTuple):
    """Detections of one class from the highest score to the lowest."""

    true: NDArray[np.bool_]
    """[n of the class]"""
    video: Ints
    ends: Ints
    """Places of the last detection of each score."""
    truth: Ints
    """[videos]: ground-truth boxes."""

    def average_precision(self, weights: Floats) -> float:
        """Area under the precision envelope, 0 to 1, where each video counts `weights` [videos] times."""
        weight = weights[self.video]
        true = np.cumsum(weight * self.true)[self.ends]
        seen = np.cumsum(weight)[self.ends]
        precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(true, prepend=0.0) * envelope) / (weights @ self.truth))

    def resampled_precisions(self, weights: Floats) -> Floats:
        """The same [draws] for each row of `weights` [draws, videos]; NaN where no ground truth is left.

        Precision only falls between two true detections, so that the envelope is made of those alone.
        """
        from scipy.sparse import csr_array

        found = np.cumsum(self.true)[self.ends]
        ends = self.ends[np.diff(found, prepend=0) > 0]
        step = np.searchsorted(ends, np.arange(len(self.true)))
        within = step < len(ends)
        shape = (len(ends), weights.shape[1])
        seen, true = (
            csr_array((np.ones(rows.sum()), (step[rows], self.video[rows])), shape)
            for rows in (within, within & self.true)
        )
        made = []
        for block in np.array_split(weights, max(1, len(weights) * len(ends) // _MAX_NUMBERS)):
            gained = true @ block.T
            counts = np.cumsum(seen @ block.T, axis=0)
            precision = np.divide(np.cumsum(gained, axis=0), counts, out=np.zeros_like(counts), where=counts > 0)
            envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            whole = block @ self.truth
            made.append(
                np.divide((gained * envelope).sum(axis=0), whole, out=np.full(len(block), np.nan), where=whole > 0)
            )
        return np.concatenate(made)


def label_map(labels: NDArray[np.int64], scores: NDArray[Any]) -> float:
    """Mean average precision, 0 to 1, of labels [n, C] (0 or 1) that `scores` [n, C] rank, over the classes that occur.

    0 where none does. It is frame mAP where the boxes that are looked at are those of the ground truth.
    """
    once, nowhere = np.ones(1), np.zeros(len(labels), dtype=np.int64)
    precisions = []
    for truth, score in zip(labels.T, scores.T, strict=True):
        if truth.any():
            order = np.argsort(-score, kind="stable")
            ranked = score[order]
            ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
            curve = ClassCurve(truth[order] > 0, nowhere, ends, np.array([truth.sum()]))
            precisions.append(curve.average_precision(once))
    return float(np.mean(precisions)) if precisions else 0.0


def _claims(truth: Floats, truth_place: Ints, found: Floats, found_place: Ints, iou: float) -> Ints:
    """[n]: the ground-truth box [m, 4] that each detection [n, 4] overlaps most, the first of equals; -1 where none of
    its place (its class and frame) is overlapped enough."""
    order = np.argsort(truth_place, kind="stable")
    start = np.searchsorted(truth_place[order], found_place, side="left")
    count = np.searchsorted(truth_place[order], found_place, side="right") - start
    detection = np.repeat(np.arange(len(found)), count)
    within = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
    box = order[np.repeat(start, count) + within]
    overlap = _overlaps(found[detection], truth[box])
    best = np.lexsort((within, -overlap, detection))
    best = best[np.diff(detection[best], prepend=-1) != 0]
    best = best[overlap[best] >= iou]
    claimed = np.full(len(found), -1)
    claimed[detection[best]] = box[best]
    return claimed


def _first_claims(claimed: Ints, score: Floats) -> NDArray[np.bool_]:
    """[n]: whether a detection is the one of highest score that claims its box."""
    true = np.zeros(len(claimed), dtype=bool)
    order = np.lexsort((-score, claimed))
    order = order[claimed[order] >= 0]
    true[order[np.diff(claimed[order], prepend=-1) != 0]] = True
    return true


def _overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union [p] of boxes [p, 4]; 0 for two boxes without area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    intersection = np.prod(np.maximum(sides, 0.0), axis=1)
    union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - intersection
    shares: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return shares


@dataclass(frozen=True)
class _Table:
    """The columns of a table that count, [rows] and [rows, 4]."""

    video: NDArray[np.object_]
    timestamp: Floats
    boxes: Floats
    action: Floats
    """NaN in the row of a frame without actions."""
    score: Floats

    def rows_of(self, classes: Ints | None) -> Ints:
        """The rows of labelled boxes, of these classes where they are given."""
        counts = ~np.isnan(self.action) if classes is None else np.isin(self.action, classes)
        return np.flatnonzero(counts)


def _read(table: pd.DataFrame, name: str, *, scored: bool) -> _Table:
    """Raises BenchError naming the row (from 0) of what is no number, missing, or no box."""
    import pandas as pd

    columns = [*CORNERS, "action", *(["score"] if scored else [])]
    absent = [column for column in ("video", "timestamp", *columns) if column not in table.columns]
    if absent:
        raise BenchError(f"no column '{absent[0]}'", where=name, fix="give video, timestamp, " + ", ".join(columns))
    time = _numbers(table, "timestamp", name)
    values = np.stack([_numbers(table, column, name) for column in columns], axis=1)
    empty = np.isnan(values).all(axis=1) & (not scored)
    known = np.isfinite(values).all(axis=1)
    _refuse(~(known | empty) | ~np.isfinite(time), "a value is missing or infinite", name)
    boxes, action = values[:, :4], values[:, 4]
    _refuse(np.any(boxes[:, :2] > boxes[:, 2:], axis=1), "an inverted box", name)
    _refuse(np.logical_and(known, action != np.rint(action)), "an action that is no whole number", name)
    # Millions of rows name a few videos: each name is turned into text once.
    video, names = pd.factorize(table["video"])
    _refuse(np.asarray(video) < 0, "no video", name)
    return _Table(np.array([str(one) for one in names], dtype=object)[video], time, boxes, action, values[:, -1])


def _numbers(table: pd.DataFrame, column: str, name: str) -> Floats:
    import pandas as pd

    values: Floats = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not pd.api.types.is_numeric_dtype(table[column]):
        _refuse(np.isnan(values) & table[column].notna().to_numpy(), f"{column} is no number", name)
    return values


def _refuse(wrong: NDArray[np.bool_], what: str, name: str) -> None:
    if wrong.any():
        count = int(wrong.sum())
        more = f" (and in {count - 1} more)" if count > 1 else ""
        raise BenchError(f"{what}{more}", where=f"{name}, row {int(wrong.argmax())}", fix="mend the table")


def _numbered(first: NDArray[Any], second: NDArray[Any]) -> tuple[Ints, NDArray[Any]]:
    """Equal numbers for equal values of both, one after the other, from 0; and the values by number."""
    import pandas as pd

    numbers, names = pd.factorize(np.concatenate([first, second]))
    return numbers.astype(np.int64), names


def _place_in_group(groups: Ints) -> Ints:
    """[n]: how many members of its group come before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    place = np.empty(len(groups), dtype=np.int64)
    place[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return place
