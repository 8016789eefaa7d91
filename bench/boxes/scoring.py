"""Probabilities of boxes -> frame mAP with its interval, by class and by group of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.boxes.plan import BoxPlan, class_names
from bench.boxes.splits import BoxSample
from bench.scores.detection import CORNERS, match_frames
from bench.scores.records import Breakdown, Score

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000
"""Resamplings of the test videos that an interval is made from."""


@dataclass(frozen=True)
class Detections:
    """What was found in the boxes of the test key frames that could be read."""

    samples: list[BoxSample]
    probabilities: NDArray[np.float32]
    """[boxes, C], of the boxes of all samples one after another."""
    actions: Mapping[int, str]
    """Number -> name, in label order."""

    @property
    def table(self) -> pd.DataFrame:
        """One row for each box and action: video, timestamp, x1, y1, x2, y2, action, score."""
        import pandas as pd

        boxes = box_table(self.samples)
        columns = {name: boxes[name].to_numpy().repeat(len(self.actions)) for name in boxes.columns}
        columns["action"] = np.tile(list(self.actions), len(boxes))
        columns["score"] = self.probabilities.ravel().astype(np.float64)
        made: pd.DataFrame = pd.DataFrame(columns)
        return made

    @property
    def truth(self) -> pd.DataFrame:
        """What is true of the same frames: one row for each box and action, and one for a frame without."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = []
        for sample in self.samples:
            frame = sample.truth
            labelled: list[tuple[Any, ...]] = [
                (*box, action) for box, actions in frame.boxes.items() for action in sorted(actions)
            ]
            rows += [(frame.video, frame.timestamp, *row) for row in labelled or [(None,) * 5]]
        made: pd.DataFrame = pd.DataFrame(rows, columns=["video", "timestamp", *CORNERS, "action"])
        return made


@dataclass(frozen=True)
class Scored:
    """The score of a run on boxes, and its parts."""

    score: Score
    breakdowns: list[Breakdown]


def box_table(samples: Sequence[BoxSample]) -> pd.DataFrame:
    """One row for each box that is looked at: video, timestamp, x1, y1, x2, y2."""
    import pandas as pd

    rows = [(sample.truth.video, sample.truth.timestamp, *box) for sample in samples for box in sample.looked_at]
    made: pd.DataFrame = pd.DataFrame(rows, columns=["video", "timestamp", *CORNERS])
    return made


def score_detections(plan: BoxPlan, detections: Detections, failed: int) -> Scored:
    """Frame mAP at IoU 0.5 over the evaluated actions, in percent, over the key frames that could be read.

    The interval draws videos, which hold many key frames alike; there is none for a single video. Raises BenchError
    where no action occurs in the test frames.
    """
    matches = match_frames(detections.truth, detections.table, classes=plan.boxes.actions)
    found = matches.frame_map()
    value, low, high, interval = 100 * found.mean, 0.0, 100.0, "none: all key frames are of one video"
    if matches.num_videos > 1:
        low, high = (100 * end for end in matches.bootstrap_interval(draws=DRAWS))
        interval = f"bootstrap over {matches.num_videos} videos, 95 %"
    score = Score(
        metric=plan.task.metric,
        value=value,
        # The mean of precisions is no mean of samples, so that few videos may all be drawn on one side of it.
        low=min(low, value),
        high=max(high, value),
        correct=None,
        n=len(detections.samples),
        failed=failed,
        interval=interval,
    )
    names = dict(zip(plan.boxes.actions, class_names(plan.boxes), strict=True))
    by_class = {names[action]: 100 * found.per_class[action] if action in found.per_class else None for action in names}
    parts = [Breakdown(metric="AP@0.5", by="class", values=by_class)]
    groups = plan.boxes.groups(plan.task.boxes) if plan.task.boxes else {}
    if groups:
        means = {name: _mean([found.per_class[a] for a in ids if a in found.per_class]) for name, ids in groups.items()}
        parts.append(Breakdown(metric=plan.task.metric, by="group", values=means))
    return Scored(score, parts)


def _mean(precisions: Sequence[float]) -> float | None:
    return 100 * float(np.mean(precisions)) if precisions else None
