"""Scores and what stands beside them, as records keep them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.core.types import Count, FrameOrder, Percent

OF_TRAININGS = "Wilson at an effective n"
"""How the name of an accuracy's interval begins where samples share groups, or several probes answered."""
Spread = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A standard error or deviation, in points."""


class RecordPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(RecordPart):
    """One metric of a run, the mean over its probes, with its 95 % interval."""

    metric: str
    value: Percent
    """0 to 100."""
    low: Percent
    """Low end of the interval: over test samples, and over trainings of the probe where there are several."""
    high: Percent
    correct: Count | None
    """Right answers of all probes together: value = 100 * correct / (n * seeds). None for metrics that are no share of
    samples."""
    n: Count
    """Samples that were scored, each once."""
    failed: Count
    """Test samples that could not be read; listed under `failures`, never replaced."""
    interval: str
    """How the interval was made."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Probes that were trained, each from a seed of its own; `value` is the mean of their scores."""
    sampling_se: Spread | None = None
    """Standard error over the test samples, or whole groups of them, of the mean over these probes, in points. None in
    records of older versions, and where nothing is independent."""
    training_sd: Spread | None = None
    """Standard deviation of the score over the probes, in points; None for one probe."""

    @model_validator(mode="after")
    def _adds_up(self) -> Score:
        right, answers = self.correct, self.n * self.seeds
        if right is not None and (right > answers or abs(self.value - 100 * right / max(1, answers)) > 1e-6):
            raise ValueError("value is not 100 * correct / (n * seeds)")
        if (self.training_sd is None) != (self.seeds == 1):
            raise ValueError("training_sd is that of several probes, and of no single one")
        if not self.low - 1e-6 <= self.value <= self.high + 1e-6:
            raise ValueError("value lies outside its interval")
        return self


class OrderDifference(RecordPart):
    """The score of ordered clips minus that of the same clips in another frame order, in points, with its paired 95 %
    interval."""

    value: float
    low: float
    high: float
    n: Count
    """Samples that could be read in both orders."""


class Control(RecordPart):
    """What a probe scores on the clips of another frame order."""

    frames: FrameOrder
    """Order of the test clips' frames."""
    trained_on: FrameOrder
    """Order of the training clips' frames: that of the test clips (what can be read of them), or `ordered` (what the
    probe of ordered clips leans on)."""
    score: Score
    difference: OrderDifference | None = None
    """None for the ordered score itself, where nothing can be paired, and in older records."""


class MotionShare(RecordPart):
    """How much of a score above chance is lost with one thing taken from the clips, 0 to 1, with its 95 % interval.

    The probe is trained on what it is tested on. May lie outside 0 .. 1 where a score is near chance.
    """

    without: Literal["order", "motion"]
    """`order`: clips of shuffled frames; `motion`: one frame repeated."""
    value: float
    low: float
    high: float
    chance: Percent | None = None
    """What always answering the most frequent class of the training samples scores, 0 to 100."""


LOST: dict[Literal["order", "motion"], str] = {"order": "lost without order", "motion": "lost with one frame"}
"""What each share is called."""
LEAST_ABOVE_CHANCE = 20.0
"""Points that a score must be above chance for its shares to be shown."""


def is_shown(share: MotionShare, score: float) -> bool:
    """Whether the ordered score, 0 to 100, is far enough above chance for a share of what is between to say much."""
    return share.chance is not None and abs(score - share.chance) >= LEAST_ABOVE_CHANCE


class FewerLabels(RecordPart):
    """The score of a probe that was trained on a part of the training samples."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Part of each class's training samples that was kept."""
    draw: Count
    """Which of the random parts."""
    num_train: Count
    score: Score


class Breakdown(RecordPart):
    """A metric by parts, such as the average precision of every class; 0 to 100."""

    metric: str
    by: str
    """What the parts are: `class`, `group`."""
    values: dict[str, Percent | None]
    """None for a part without samples."""
