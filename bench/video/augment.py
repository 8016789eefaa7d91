"""What training draws for a clip: RandAugment as the papers train with it (rand-m7-n4-mstd0.5-inc1), random erasing
(protocol.md 3.3, 3.4), and for images AutoAugment: timm's policy "original" and timm's operations.

timm's operations draw from the global state of `random` when they are called; here what they would draw is given.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.video.frame_ops import Op, Region
from bench.video.views import IMAGENET_MEAN

NUM_LAYERS = 4
PROBABILITY = 0.5
MAGNITUDE, MAGNITUDE_STD, MAGNITUDE_MAX = 7.0, 0.5, 10.0


def draw_randaugment(rng: np.random.RandomState) -> list[Op]:
    """The operations that all frames of a clip get, in order: at most four.

    Four times one of 15 is drawn, with replacement; it is applied with probability 0.5, at a magnitude of
    Normal(7, 0.5) clipped to [0, 10], and in one of two directions where it has them.
    Source: protocol.md 3.3 (jepa src/datasets/utils/video/randaugment.py:187-518).
    """
    names = [tuple(ARGUMENTS)[number] for number in rng.randint(len(ARGUMENTS), size=NUM_LAYERS)]
    applied = rng.uniform(size=NUM_LAYERS) < PROBABILITY
    levels = np.clip(rng.normal(MAGNITUDE, MAGNITUDE_STD, size=NUM_LAYERS), 0, MAGNITUDE_MAX) / MAGNITUDE_MAX
    signs = 2 * rng.randint(2, size=NUM_LAYERS) - 1
    return [
        Op(name, ARGUMENTS[name](float(level), int(sign)))
        for name, is_applied, level, sign in zip(names, applied, levels, signs, strict=True)
        if is_applied
    ]


def _none(_level: float, _sign: int) -> float:
    return 0.0


def _factor(level: float, sign: int) -> float:
    return 1.0 + sign * (level * 0.9)


def _shear(level: float, sign: int) -> float:
    return sign * (level * 0.3)


def _share(level: float, sign: int) -> float:
    return sign * (level * 0.45)


ARGUMENTS: dict[str, Callable[[float, int], float]] = {
    "AutoContrast": _none,
    "Equalize": _none,
    "Invert": _none,
    "Rotate": lambda level, sign: sign * (level * 30.0),
    "Posterize": lambda level, _: 4 - int(level * 4),
    "Solarize": lambda level, _: 256 - int(level * 256),
    "SolarizeAdd": lambda level, _: int(level * 110),
    "Color": _factor,
    "Contrast": _factor,
    "Brightness": _factor,
    "Sharpness": _factor,
    "ShearX": _shear,
    "ShearY": _shear,
    "TranslateX": _share,
    "TranslateY": _share,
}
"""The operations, and the argument of each for a level (magnitude / 10, in [0, 1]) and a direction (-1 or 1)."""


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


ERASED_SHARE = 0.25
ERASED_AREA = (0.02, 1 / 3)
"""Share of the frame that the box covers: lowest and highest."""
ERASED_ASPECT = (0.3, 1 / 0.3)
"""Height over width of the box: lowest and highest; drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Erasing:
    """What was drawn for a clip."""

    box: Region
    seed: int
    """Seed of the noise."""
    still: bool
    """Whether all frames get the same noise."""

    def apply(self, clip: Tensor) -> None:
        """Fill the box of a clip, float [3, T, H, W], with N(0, 1), in place: each value on its own.

        The noise depends on what was drawn, on T, and on the kind of device: CPUs and GPUs draw other numbers.
        """
        shape = (3, 1 if self.still else clip.shape[1], self.box.height, self.box.width)
        generator = torch.Generator(clip.device).manual_seed(self.seed)
        noise = torch.randn(shape, generator=generator, device=clip.device, dtype=clip.dtype)
        clip[:, :, self.box.top : self.box.bottom, self.box.left : self.box.right] = noise


def draw_erasing(size: int, rng: np.random.RandomState, *, attempts: int, still: bool) -> Erasing | None:
    """What is erased from frames of `size` x `size` pixels, with probability 0.25; else None.

    Area and aspect are drawn up to `attempts` times, until the box is smaller than the frame on both sides; where it
    never is, nothing is erased. Source: protocol.md 3.3 (jepa src/datasets/utils/video/randerase.py:116-156).
    """
    if rng.uniform() >= ERASED_SHARE:
        return None
    for _ in range(attempts):
        area = size * size * rng.uniform(*ERASED_AREA)
        aspect = math.exp(rng.uniform(math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < size and width < size:
            top, left = rng.randint(0, size - height + 1), rng.randint(0, size - width + 1)
            return Erasing(Region(int(top), int(left), height, width), int(rng.randint(2**31)), still)
    return None
