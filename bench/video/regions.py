"""Rectangles of frames, and clips of which only a rectangle is known.

Shapes: n frames of H x W pixels; h x w pixels of a region.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]


class Region(NamedTuple):
    """A rectangle of a frame, pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.left + self.width

    def within(self, other: Region) -> Region:
        """What both hold; height or width is 0 or less where that is nothing."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Region(top, left, min(self.bottom, other.bottom) - top, min(self.right, other.right) - left)

    def grown(self, margin: int) -> Region:
        """With so many pixels more on each side."""
        return Region(self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin)


class Patch(NamedTuple):
    """What is known of frames that have H x W pixels as a whole."""

    pixels: Frames
    """uint8 [n, h, w, 3]."""
    region: Region
    whole: Region
    """The frame: (0, 0, H, W)."""

    def cut(self, region: Region) -> Frames:
        """The pixels of a region inside this one, as a view: uint8 [n, h, w, 3]."""
        top, left = region.top - self.region.top, region.left - self.region.left
        return self.pixels[:, top : top + region.height, left : left + region.width]


def whole_patch(frames: Frames) -> Patch:
    """uint8 [n, H, W, 3], all of it known."""
    whole = Region(0, 0, *frames.shape[1:3])
    return Patch(frames, whole, whole)
