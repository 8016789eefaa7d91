"""What all cards are made of: frozen models without unknown keys, and numbers that are numbers.

Every number has a bound far beyond what anyone measures with, and far below what fills a memory or a day: a card is
refused for what it says, before anything is made of that size.
"""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)]
LearningRate = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
"""As large as anyone likes: a training that diverges is told, and costs no more than another."""
Rate = Annotated[float, Field(ge=1e-3, le=1e5, allow_inf_nan=False, strict=True)]
"""Frames per second."""
Seconds = Annotated[float, Field(ge=1e-3, le=1e6, allow_inf_nan=False, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, le=10**9, strict=True)]
Thousand = Annotated[int, Field(ge=1, le=1000, strict=True)]
"""Of parts: blocks, heads, layers, segments, crops."""
Side = Annotated[int, Field(ge=1, le=10_000, strict=True)]
"""Pixels of a side, or frames of a clip."""
Million = Annotated[int, Field(ge=1, le=10**6, strict=True)]
"""Of what is counted in thousands: classes, epochs, samples of a batch, frames between two."""


def _inside(name: str) -> str:
    path = PureWindowsPath(name)  # it knows both kinds of slashes, and drives
    if not path.parts or path.anchor or ".." in path.parts or "\0" in name:
        raise ValueError("a card names files inside the data folder alone: give a relative path without '..'")
    if any("**" in part and part != "**" for part in PurePosixPath(name).parts):
        raise ValueError("** is a part of a path, such as **/train.csv")
    return name


DataPath = Annotated[str, AfterValidator(_inside)]
"""A file or folder in the data folder, wherever the card comes from; wildcards where the field allows them."""


class CardPart(BaseModel):
    """A card, or a section of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def without_usual(part: CardPart, content: dict[str, Any], *names: str) -> dict[str, Any]:
    """The content without these fields where they are as usual: marks, keys and records of cards that do not use a
    field are those of before there was one."""
    usual = {name: type(part).model_fields[name].default for name in names}
    return {key: value for key, value in content.items() if key not in usual or getattr(part, key) != usual[key]}
