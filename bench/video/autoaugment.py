"""What AutoAugment does to an image, drawn: timm's policy "original" and timm's operations, with a stream of our own.

timm's operations draw from the global state of `random` when they are called; here what they would draw is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from bench.video.randaugment import ARGUMENTS, MAGNITUDE_MAX
from bench.video.views import IMAGENET_MEAN

_TWO_DIRECTIONS = ("Rotate", "ShearX")
"""The operations of the policy that draw a direction."""


@dataclass(frozen=True)
class ImageOp:
    """An operation that was drawn for an image."""

    name: str
    """As timm calls it."""
    function: Callable[..., Image.Image]
    arguments: tuple[float, ...]
    options: dict[str, Any]

    def apply(self, image: Image.Image) -> Image.Image:
        """The changed image, as large as before."""
        return self.function(image, *self.arguments, **self.options)


def draw_autoaugment(rng: np.random.RandomState) -> list[ImageOp]:
    """At most two operations: one of 25 pairs, each of the two with its own probability.

    Source: protocol.md 3.4; timm.data.create_transform(auto_augment="original", interpolation="bicubic").
    """
    policy = _policy()
    drawn = []
    for op in policy[rng.randint(len(policy))]:
        applied, sign = rng.uniform() < op.prob, 2 * int(rng.randint(2)) - 1
        if applied:
            drawn.append(_drawn(op, sign))
    return drawn


def _drawn(op: Any, sign: int) -> ImageOp:
    """timm's AugmentOp in one of its two directions, if it has them."""
    if op.name in _TWO_DIRECTIONS:
        arguments: tuple[float, ...] = (ARGUMENTS[op.name](op.magnitude / MAGNITUDE_MAX, sign),)
    else:
        arguments = () if op.level_fn is None else op.level_fn(op.magnitude, op.hparams)
    return ImageOp(op.name, op.aug_fn, arguments, op.kwargs)


@functools.cache
def _policy() -> list[list[Any]]:
    """Pairs of timm's AugmentOp, with the fill and the interpolation that its create_transform gives them."""
    from timm.data.auto_augment import auto_augment_policy  # seconds, which only image tasks need

    fill = tuple(round(255 * value) for value in IMAGENET_MEAN)
    pairs: list[list[Any]] = auto_augment_policy(
        "original", {"img_mean": fill, "interpolation": Image.Resampling.BICUBIC}
    )
    return pairs
