"""Bicubic shears, translations and rotations of clips: the bytes of Pillow, with less work.

A shear or a translation moves every line of pixels along itself, so a value has four taps where Pillow takes sixteen.
Rotations are left to Pillow.

Shapes: n frames of H x W pixels; h x w pixels of a region; m lines of a block, c pixels of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.video.regions import Frames, Patch, Region

FILL = 128
"""Where a moved frame shows nothing."""

_VALUES_AT_ONCE = 1 << 15  # a few arrays of them fit the second-level cache

_Floats = npt.NDArray[np.float64]


def slide_rows(patch: Patch, shear: float, offset: float, region: Region) -> Frames:
    """`region` of the frames whose pixel (x, y) shows (x + shear y + offset, y); `patch` holds its rows whole.

    uint8 [n, h, w, 3]. The arithmetic is that of `PIL.Image.transform` with BICUBIC: double precision, the centres of
    pixels at halves, edges repeated, values cut off and not rounded.
    """
    rows = patch.cut(Region(region.top, 0, region.height, patch.whole.width))
    return _slide(rows, region.top, region.left, region.width, shear, offset)


def slide_columns(patch: Patch, shear: float, offset: float, region: Region) -> Frames:
    """As `slide_rows`, for the pixel (x, y + shear x + offset); `patch` holds the columns of `region` whole."""
    columns = patch.cut(Region(0, region.left, patch.whole.height, region.width)).transpose(0, 2, 1, 3)
    slid = _slide(columns, region.left, region.top, region.height, shear, offset)
    return np.transpose(slid, (0, 2, 1, 3))


def rotate(patch: Patch, degrees: float, region: Region) -> Frames:
    """`region` of the frames turned anticlockwise, uint8 [n, h, w, 3]; `patch` holds whole frames."""
    matrix = _rotation(degrees, patch.whole.height, patch.whole.width)
    output = np.empty((len(patch.pixels), region.height, region.width, 3), np.uint8)
    for place, frame in enumerate(patch.pixels):
        turned = Image.fromarray(frame).transform(
            # What lies below the region and to its right can be left out without another rounding of coordinates.
            (region.right, region.bottom),
            Image.Transform.AFFINE,
            matrix,
            Image.Resampling.BICUBIC,
            fillcolor=(FILL, FILL, FILL),
        )
        output[place] = np.asarray(turned)[region.top :, region.left :]
    return output


def _rotation(degrees: float, height: int, width: int) -> tuple[float, float, float, float, float, float]:
    """The matrix of `PIL.Image.rotate`, rounded as there."""
    angle = -math.radians(degrees % 360.0)
    cos, sin, minus_sin = (round(value, 15) for value in (math.cos(angle), math.sin(angle), -math.sin(angle)))
    x, y = width / 2, height / 2
    return cos, sin, cos * -x + sin * -y + x, minus_sin, cos, minus_sin * -x + cos * -y + y


def _slide(lines: Frames, first_line: int, first_pixel: int, length: int, shear: float, offset: float) -> Frames:
    """Lines of pixels, each moved along itself: uint8 [n, lines, W, 3] -> uint8 [n, lines, `length`, 3].

    `first_line` is the number in the frame of the first line, `first_pixel` that of the first pixel wanted of each.
    """
    n, num_lines, width, _ = lines.shape
    along = np.arange(first_pixel, first_pixel + length) + 0.5
    across = np.arange(first_line, first_line + num_lines) + 0.5
    points = along + shear * across[:, None] + offset
    output: Frames = _like(lines, (n, num_lines, length, 3), np.uint8)
    output[...] = FILL
    for block, pixels, start in _blocks(points, width, _VALUES_AT_ONCE // (3 * n * length)):
        # Pixels of a line are one apart, so the first one's taps tell those of the others.
        places = points[block, pixels] - 0.5
        window = _window(lines[:, block], start - 1, places.shape[1] + 3)
        distance = _like(window, (*places.shape, 3), np.float64)
        distance[...] = (places - np.arange(start, start + places.shape[1]))[..., None]
        output[:, block, pixels] = _cubic(window, distance)
    return output


def _blocks(points: _Floats, width: int, at_once: int) -> Iterator[tuple[slice, slice, int]]:
    """Neighbouring lines that are alike: the lines, those of their pixels that lie in the frame, the first one's pixel.

    `points` [lines, length] are the places that the pixels show, on lines of `width` pixels.
    """
    inside = (points >= 0) & (points < width)
    begins, counts = inside.argmax(axis=1), inside.sum(axis=1)
    starts = np.floor(points[np.arange(len(points)), begins] - 0.5)
    kinds = [(int(begin), int(count), int(start)) for begin, count, start in zip(begins, counts, starts, strict=True)]
    number = 0
    while number < len(kinds):
        end = number + 1
        while end < len(kinds) and end < number + at_once and kinds[end] == kinds[number]:
            end += 1
        begin, count, start = kinds[number]
        if count:
            yield slice(number, end), slice(begin, begin + count), start
        number = end


def _window(lines: Frames, start: int, length: int) -> npt.NDArray[np.int16]:
    """Pixels of the lines from `start` on, beyond their ends the last one: [n, m, W, 3] -> [n, m, `length`, 3]."""
    low, high = max(start, 0), min(start + length, lines.shape[2])
    window = _like(lines, (*lines.shape[:2], length, 3), np.int16)
    window[:, :, : low - start] = lines[:, :, :1]
    window[:, :, low - start : high - start] = lines[:, :, low:high]
    window[:, :, high - start :] = lines[:, :, -1:]
    return window


def _cubic(window: npt.NDArray[np.int16], distance: _Floats) -> npt.NDArray[np.int16]:
    """Values `distance` beyond the second of every four neighbours: [n, m, c + 3, 3], [m, c, 3] -> [n, m, c, 3]."""
    v1, v2, v3, v4 = (window[:, :, tap : tap + distance.shape[1]] for tap in range(4))
    fall, rise = v1 - v2, v4 - v3
    values = (rise - fall) * distance
    values += 2 * fall - rise
    values *= distance
    values += v3 - v1
    values *= distance
    values += v2
    whole = values.astype(np.int16)
    np.maximum(whole, 0, out=whole)
    return np.minimum(whole, 255, out=whole)


def _like(lines: npt.NDArray[Any], shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """An empty array whose axes follow each other in memory as the last ones of `lines` do: columns stay columns."""
    return np.empty_like(lines[(0,) * (lines.ndim - len(shape))], dtype, shape=shape)
