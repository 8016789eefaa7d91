"""What all cards are made of: frozen models without unknown keys, numbers that are numbers, and choices of layers.

Every number has a bound far beyond what anyone measures with, and far below what fills a memory or a day: a card is
refused for what it says, before anything is made of that size.
"""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NotNegative = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)]
LearningRate = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
"""Any size is allowed: a training that diverges is reported, and costs no more than another."""
Rate = Annotated[float, Field(ge=1e-3, le=1e5, allow_inf_nan=False, strict=True)]
"""Frames per second."""
Seconds = Annotated[float, Field(ge=1e-3, le=1e6, allow_inf_nan=False, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, le=10**9, strict=True)]
Thousand = Annotated[int, Field(ge=1, le=1000, strict=True)]
"""Numbers of parts: blocks, heads, layers, segments, crops."""
Side = Annotated[int, Field(ge=1, le=10_000, strict=True)]
"""Pixels of a side, or frames of a clip."""
Million = Annotated[int, Field(ge=1, le=10**6, strict=True)]
"""Numbers that go into the thousands: classes, epochs, samples of a batch, frames between two."""


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


Layers = tuple[int, ...] | dict[int, tuple[int, ...]] | None
"""The same layers of every encoder, rising; or those of an encoder with so many layers; None for the last alone."""


def parse_layers(value: Any) -> Layers:
    """What a card or `--set clip.layers=` says: `23`, `17,19,21,23`, a list, or a mapping of depths to one of these.

    Raises ValueError for anything else, a layer named twice, and one that an encoder of that depth has not.
    """
    if value is None:
        return None
    if not isinstance(value, dict):
        return _numbers(value)
    choices = {_number(depth): _numbers(layers) for depth, layers in value.items()}
    if len({len(layers) for layers in choices.values()}) != 1:
        raise ValueError("name as many layers for every depth, and at least one depth")
    for depth, layers in choices.items():
        if layers[-1] >= depth:
            raise ValueError(f"an encoder of {depth} layers has no layer {layers[-1]}: they are counted from 0")
    return choices


def _numbers(value: Any) -> tuple[int, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    parts = [piece for part in parts for piece in (part.split(",") if isinstance(part, str) else [part])]
    numbers = sorted(map(_number, parts))
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"{'a layer is named twice' if numbers else 'no layer is named'}, in {value!r}")
    return tuple(numbers)


def _number(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no layer: give numbers from 0, such as 17,19,21,23")
    return value


def layers_name(layers: Layers) -> str:
    """The part of a protocol's name: `4 layers` of a choice by depth, `layers 17,19` of a list, empty for the last."""
    if isinstance(layers, dict):
        number = len(next(iter(layers.values())))
        return f"{number} layer{'s' if number > 1 else ''}"
    return f"layers {','.join(map(str, layers))}" if layers else ""
