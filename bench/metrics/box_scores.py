"""Boxes and what was said of them -> frame mAP with its interval, by class and by group of classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.metrics.detection import match_frames
from bench.metrics.score import Breakdown, Score

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000
"""Resamplings of the test videos that an interval is made from."""


@dataclass(frozen=True)
class BoxScore:
    """The score of a run on boxes, and its parts."""

    score: Score
    breakdowns: list[Breakdown]


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


def score_boxes(
    metric: str,
    truth: pd.DataFrame,
    detections: pd.DataFrame,
    actions: Mapping[int, str],
    groups: Mapping[str, Sequence[int]],
    *,
    num_frames: int,
    failed: int,
) -> BoxScore:
    """Frame mAP at IoU 0.5 over `actions` (number -> name), in percent, of `num_frames` key frames that could be read.

    The interval draws videos, which hold many key frames alike; there is none for a single video. Raises BenchError
    where no action occurs in the frames, and what else `frame_map` raises.
    """
    matches = match_frames(truth, detections, classes=actions)
    found = matches.frame_map()
    value, low, high, interval = 100 * found.mean, 0.0, 100.0, "none: all key frames are of one video"
    if matches.num_videos > 1:
        low, high = (100 * end for end in matches.bootstrap_interval(draws=DRAWS))
        interval = f"bootstrap over {matches.num_videos} videos, 95 %"
    score = Score(
        metric=metric,
        value=value,
        # The mean of precisions is no mean of samples, so that few videos may all be drawn on one side of it.
        low=min(low, value),
        high=max(high, value),
        correct=None,
        n=num_frames,
        failed=failed,
        interval=interval,
    )
    names = dict(zip(actions, unique_names(actions), strict=True))
    by_class = {names[action]: 100 * found.per_class[action] if action in found.per_class else None for action in names}
    parts = [Breakdown(metric="AP@0.5", by="class", values=by_class)]
    if groups:
        means = {name: _mean([found.per_class[a] for a in ids if a in found.per_class]) for name, ids in groups.items()}
        parts.append(Breakdown(metric=metric, by="group", values=means))
    return BoxScore(score, parts)


def action_groups(actions: Collection[int], ranges: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Name of each group -> its evaluated actions; `ranges` has the first and the last number of each."""
    named = {name: [action for action in actions if first <= action <= last] for name, (first, last) in ranges.items()}
    return {name: found for name, found in named.items() if found}


def unique_names(actions: Mapping[int, str]) -> tuple[str, ...]:
    """Names of the actions in their order, each once."""
    names = list(actions.values())
    return tuple(f"{name} ({action})" if names.count(name) > 1 else name for action, name in actions.items())


def _mean(precisions: Sequence[float]) -> float | None:
    return 100 * float(np.mean(precisions)) if precisions else None
