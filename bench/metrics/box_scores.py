"""Boxes and what was said of them -> frame mAP with its interval, by class and by group of classes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.metrics.detection import CORNERS, Matches, match_frames
from bench.metrics.metric import Metric, PartScore
from bench.metrics.score import Breakdown, Score

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000
"""Resamplings of the test videos that an interval is made from."""


@dataclass(frozen=True)
class BoxAnswers:
    """How likely each action is in each box of the test key frames that could be read. A sample is a key frame."""

    form: ClassVar[str] = "boxes"
    truth: pd.DataFrame
    """video, timestamp (whole seconds), x1, y1, x2, y2, action: a row for each action of a box, and one without a box
    for a frame without actions."""
    boxes: pd.DataFrame
    """video, timestamp, x1, y1, x2, y2: a row for each box that was looked at."""
    probabilities: NDArray[np.float32]
    """[boxes, C], of `actions`, in their order."""
    actions: Mapping[int, str]
    """Evaluated actions: number -> name."""
    action_groups: Mapping[str, Sequence[int]]
    """Name of a group of actions -> their numbers, for means by group; empty where the task has none."""

    @cached_property
    def samples(self) -> tuple[str, ...]:
        """`video,second` of each key frame."""
        return tuple(dict.fromkeys(_frame_ids(self.truth)))

    @property
    def sample_digest(self) -> str:
        """SHA-256 of the evaluated actions, and of all key frames with their boxes and actions."""
        return _digest(self.truth, self.truth[["action"]].to_numpy(np.float64), list(self.actions))

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of all boxes with their probabilities."""
        return _digest(self.boxes, self.probabilities)

    @cached_property
    def matches(self) -> Matches:
        """Which boxes are found. Raises what `match_frames` raises."""
        found = labelled_boxes(self.boxes, self.probabilities, self.actions)
        return match_frames(self.truth, found, classes=self.actions)

    def of(self, samples: Sequence[str]) -> BoxAnswers:
        """Only these key frames; all of them must be there. Their order means nothing: all of them are the answers as
        they are, with the boxes that were matched already."""
        order = {sample: place for place, sample in enumerate(samples)}
        if order.keys() == set(self.samples):
            return self
        absent = order.keys() - set(self.samples)
        if absent:
            raise KeyError(f"no key frame {min(absent)}")
        truth, boxes = (
            np.array([order.get(frame, len(order)) for frame in _frame_ids(table)], dtype=np.int64)
            for table in (self.truth, self.boxes)
        )
        rows, box_rows = (np.argsort(p, kind="stable")[: int((p < len(order)).sum())] for p in (truth, boxes))
        return replace(
            self,
            truth=self.truth.iloc[rows].reset_index(drop=True),
            boxes=self.boxes.iloc[box_rows].reset_index(drop=True),
            probabilities=self.probabilities[box_rows],
        )


@dataclass(frozen=True)
class MapSums:
    """Frame mAP, made again with each video counted any number of times. A GroupSums."""

    matches: Matches

    @property
    def groups(self) -> tuple[str, ...]:
        """The videos."""
        return self.matches.videos

    def at(self, multiplicity: NDArray[Any]) -> NDArray[np.float64]:
        """Frame mAP, 0 to 100, of each draw [D]: a class that a draw has no box of is left out of its mean."""
        return 100 * self.matches.resampled(np.asarray(multiplicity, dtype=np.float64))


class FrameMapAt50:
    """Frame mAP at IoU 0.5. A Metric."""

    name = "frame-mAP@0.5"
    title = "frame mAP at IoU 0.5"
    higher_is_better = True

    def score(self, answers: BoxAnswers, failed: int) -> Score:
        """In percent, of the key frames that could be read.

        The interval draws videos, which hold many key frames alike; there is none for a single video. Raises BenchError
        where no action occurs in the frames, and what else `frame_map` raises.
        """
        matches = answers.matches
        value, low, high, interval = 100 * matches.frame_map().mean, 0.0, 100.0, "none: all key frames are of one video"
        if matches.num_videos > 1:
            low, high = (100 * end for end in matches.bootstrap_interval(draws=DRAWS))
            interval = f"bootstrap over {matches.num_videos} videos, 95 %"
        return Score(
            metric=self.name,
            value=value,
            # The mean of precisions is no mean of samples, so that few videos may all be drawn on one side of it.
            low=min(low, value),
            high=max(high, value),
            correct=None,
            n=len(answers.samples),
            failed=failed,
            interval=interval,
        )

    def breakdowns(self, answers: BoxAnswers) -> list[Breakdown]:
        """Average precision of every evaluated action, and means over groups of them."""
        precisions = answers.matches.frame_map().per_class
        names = dict(zip(answers.actions, unique_names(answers.actions), strict=True))
        by_class = {names[action]: 100 * precisions[action] if action in precisions else None for action in names}
        parts = [Breakdown(metric="AP@0.5", by="class", values=by_class)]
        if answers.action_groups:
            means = {
                name: _mean([precisions[action] for action in ids if action in precisions])
                for name, ids in answers.action_groups.items()
            }
            parts.append(Breakdown(metric=self.name, by="group", values=means))
        return parts

    def by_class(self, answers: BoxAnswers) -> dict[int, PartScore]:
        """Average precision of every action that occurs, and how many boxes have it."""
        matches = answers.matches
        precisions = matches.frame_map().per_class
        return {
            place: PartScore(100 * precisions[action], int((matches.truth_class == action).sum()))
            for place, action in enumerate(answers.actions)
            if action in precisions
        }

    def sums(self, answers: BoxAnswers) -> MapSums:
        """The curves of all classes, video by video."""
        return MapSums(answers.matches)

    def chance(self, answers: BoxAnswers, counts: Mapping[str, NDArray[Any]]) -> BoxAnswers:
        """Every action is as likely in every box as it is in the boxes of training: each class then scores the share of
        the boxes that are of it."""
        frequencies = (counts["class"] / max(1, counts["class"].max())).astype(np.float32)
        said = np.broadcast_to(frequencies, answers.probabilities.shape)
        return replace(answers, probabilities=said)


METRICS: dict[str, Metric[BoxAnswers]] = {"frame-mAP@0.5": FrameMapAt50()}


def labelled_boxes(boxes: pd.DataFrame, probabilities: NDArray[np.float32], actions: Collection[int]) -> pd.DataFrame:
    """One row for each box and action: the columns of `boxes`, action, score.

    `probabilities` [boxes, C] are of `actions`, in their order.
    """
    import pandas as pd

    columns = {name: boxes[name].to_numpy().repeat(len(actions)) for name in boxes.columns}
    columns["action"] = np.tile(list(actions), len(boxes))
    columns["score"] = probabilities.ravel().astype(np.float64)
    made: pd.DataFrame = pd.DataFrame(columns)
    return made


def action_groups(actions: Collection[int], ranges: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Name of each group -> its evaluated actions; `ranges` has the first and the last number of each."""
    named = {name: [action for action in actions if first <= action <= last] for name, (first, last) in ranges.items()}
    return {name: found for name, found in named.items() if found}


def unique_names(actions: Mapping[int, str]) -> tuple[str, ...]:
    """Names of the actions in their order, each once."""
    names = list(actions.values())
    return tuple(f"{name} ({action})" if names.count(name) > 1 else name for action, name in actions.items())


def _frame_ids(table: pd.DataFrame) -> list[str]:
    return [f"{video},{second:04d}" for video, second in zip(table["video"], table["timestamp"].tolist(), strict=True)]


def _digest(table: pd.DataFrame, values: NDArray[Any], more: Sequence[int] = ()) -> str:
    """SHA-256 of rows of boxes with values [rows, m], in whatever order they are."""
    corners = table[list(CORNERS)].to_numpy(np.float64)
    frames = _frame_ids(table)
    keys = [*values[:, :1].T, *corners.T, np.array(frames, dtype=np.str_)] if len(table) else []
    order = np.lexsort(keys) if keys else np.zeros(0, dtype=np.int64)
    digest = hashlib.sha256(repr([list(more), [frames[row] for row in order]]).encode())
    digest.update(np.ascontiguousarray(corners[order]).tobytes())
    digest.update(np.ascontiguousarray(values[order]).tobytes())
    return digest.hexdigest()


def _mean(precisions: Sequence[float]) -> float | None:
    return 100 * float(np.mean(precisions)) if precisions else None
