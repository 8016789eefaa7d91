"""What RandAugment does to a clip, drawn as the papers train with it: rand-m7-n4-mstd0.5-inc1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.video.frame_ops import Op

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
