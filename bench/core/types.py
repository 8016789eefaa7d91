"""Words and numbers that many rooms name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field

Split = Literal["train", "test"]


FrameOrder = Literal["ordered", "shuffled", "static", "reversed"]
"""What a clip's frames are shown as: as filmed, in a random order, the middle one repeated, backwards."""


Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


Count = Annotated[int, Field(ge=0)]


Precision = Literal["fp32", "bf16", "fp16"]


Axis = Literal["motion", "appearance", "anticipation"]
"""What a task is about: its group on the leaderboard."""


AXES: tuple[Axis, ...] = get_args(Axis)
"""In the order in which they are shown; tasks without one come last."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    """What to do where it does not work."""


# Strict: YAML's `true` is no rate. An integer is a number all the same.
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False, strict=True)]
