"""What was found in the boxes of the test key frames, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.data.key_frames import BoxSample
from bench.metrics.box_scores import BoxAnswers
from bench.metrics.detection import CORNERS
from bench.tasks.boxes.plan import BoxPlan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Detections:
    """What was found in the boxes of the test key frames that could be read."""

    samples: list[BoxSample]
    probabilities: NDArray[np.float32]
    """[boxes, C], of the boxes of all samples one after another."""
    actions: Mapping[int, str]
    """Number -> name, in label order."""

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


def box_table(samples: Sequence[BoxSample]) -> pd.DataFrame:
    """One row for each box that is looked at: video, timestamp, x1, y1, x2, y2."""
    import pandas as pd

    rows = [(sample.truth.video, sample.truth.timestamp, *box) for sample in samples for box in sample.looked_at]
    made: pd.DataFrame = pd.DataFrame(rows, columns=["video", "timestamp", *CORNERS])
    return made


def box_answers(plan: BoxPlan, detections: Detections) -> BoxAnswers:
    """The same as metrics and records know it."""
    return BoxAnswers(
        truth=detections.truth,
        boxes=box_table(detections.samples),
        probabilities=detections.probabilities,
        actions=plan.boxes.actions,
        action_groups=plan.boxes.groups(plan.task.boxes) if plan.task.boxes else {},
    )
