"""Which layers of an encoder a probe reads (protocol.md 4.3): what a clip protocol says, for encoders of every depth.

Layers are counted from 0. V-JEPA 2 gives its probes of Diving48 and Jester the tokens of four layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # cards are read where torch is not loaded
    pass


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
