"""Random erasing: a box of a normalised clip becomes noise (protocol.md 3.3, 3.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.video.regions import Region

PROBABILITY = 0.25
AREA = (0.02, 1 / 3)
"""Share of the frame that the box covers: lowest and highest."""
ASPECT = (0.3, 1 / 0.3)
"""Height over width of the box: lowest and highest; drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Erasing:
    """What was drawn for a clip."""

    box: Region
    seed: int
    """Of the noise."""
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
    if rng.uniform() >= PROBABILITY:
        return None
    for _ in range(attempts):
        area = size * size * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < size and width < size:
            top, left = rng.randint(0, size - height + 1), rng.randint(0, size - width + 1)
            return Erasing(Region(int(top), int(left), height, width), int(rng.randint(2**31)), still)
    return None
