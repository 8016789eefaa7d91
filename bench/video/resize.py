"""The bytes of OpenCV's bilinear resize (`cv2.resize(..., INTER_LINEAR)` on 8 bits), of what crops show alone.

The official V-JEPA code calls it. Per value: a horizontal sum with 11-bit weights, 4 bits dropped; a vertical sum with
11-bit weights, 16 bits dropped from each term; the last 2 bits rounded. Every pixel that several crops share is
computed once: views along a long side overlap, those of a square video are the same.

Shapes: T frames, H x W pixels; R rows and C columns of the resized frame that any crop shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
_Ints = npt.NDArray[Any]


def resized_crops(
    video: Frames, resized: tuple[int, int], tops: Sequence[int], lefts: Sequence[int], size: int
) -> list[Frames]:
    """The squares of `size` pixels at (tops[i], lefts[i]) of the video [T, H, W, 3] resized to `resized`.

    Each is uint8 [T, size, size, 3]; those that overlap share memory.
    """
    if resized == video.shape[1:3]:
        return [video[:, top : top + size, left : left + size] for top, left in zip(tops, lefts, strict=True)]
    rows, columns = _shown(tops, size), _shown(lefts, size)
    shown = _resize(video, resized, rows, columns)
    corners = zip(np.searchsorted(rows, tops), np.searchsorted(columns, lefts), strict=True)
    return [shown[:, top : top + size, left : left + size] for top, left in corners]


def resized_whole(video: Frames, resized: tuple[int, int]) -> Frames:
    """The video [T, H, W, 3] resized to `resized`, height and width: uint8 [T, *resized, 3]."""
    if resized == video.shape[1:3]:
        return video
    return _resize(video, resized, np.arange(resized[0]), np.arange(resized[1]))


def _shown(starts: Sequence[int], size: int) -> _Ints:
    """The positions along one axis that any crop shows, rising."""
    return np.unique(np.add.outer(starts, np.arange(size)))


def _resize(video: Frames, resized: tuple[int, int], rows: _Ints, columns: _Ints) -> Frames:
    """Some rows and columns of the resized video: uint8 [T, R, C, 3]."""
    frames, height, width, _ = video.shape
    above, below, weight_above, weight_below = (x[rows] for x in taps(height, resized[0], flat_border=False))
    before, after, weight_before, weight_after = (x[columns] for x in taps(width, resized[1], flat_border=True))
    lines = np.union1d(above, below)  # source rows that are looked at; each is summed horizontally once
    above, below = np.searchsorted(lines, above), np.searchsorted(lines, below)
    # Pixels and channels share one axis: gathering bytes from it is much faster than gathering triples.
    before, after = ((3 * x[:, None] + np.arange(3)).ravel() for x in (before, after))
    weight_before, weight_after = (np.repeat(x, 3) for x in (weight_before, weight_after))
    weight_above, weight_below = weight_above[:, None], weight_below[:, None]

    output = np.empty((frames, len(rows), len(before)), dtype=np.uint8)
    # The same memory for all frames: fetching it anew would take longer than the sums.
    gathered = np.empty((len(lines), len(before)), dtype=np.uint8)
    across, second = np.empty((2, *gathered.shape), dtype=np.int32)
    total, lower = np.empty((2, *output.shape[1:]), dtype=np.int32)
    for frame, out in zip(video.reshape(frames, height, width * 3), output, strict=True):
        source = frame if len(lines) == height else frame[lines]
        for position, weight, term in ((before, weight_before, across), (after, weight_after, second)):
            np.take(source, position, axis=1, out=gathered, mode="clip")  # the mode that writes to `out` directly
            np.multiply(gathered, weight, out=term)
        across += second
        across >>= 4
        for position, weight, term in ((above, weight_above, total), (below, weight_below, lower)):
            np.take(across, position, axis=0, out=term, mode="clip")
            term *= weight
            term >>= 16
        total += lower
        total += 2
        total >>= 2
        out[:] = total
    return output.reshape(frames, len(rows), len(columns), 3)


def taps(length: int, resized: int, *, flat_border: bool) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Two source positions and their weights (of 2048) for each output position along one axis.

    `flat_border` puts all weight on one tap where the other lies outside, as OpenCV does for columns. For
    rows it splits the weight over the same row twice, which rounds differently.
    """
    scale = 1.0 / (resized / length)
    position = ((np.arange(resized) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    fraction = position - first.astype(np.float32)
    if flat_border:
        fraction = np.where((first < 0) | (first >= length - 1), np.float32(0), fraction)
    one = np.float32(2048)
    first_weight = np.rint((np.float32(1) - fraction) * one).astype(np.int32)
    second_weight = np.rint(fraction * one).astype(np.int32)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), first_weight, second_weight
