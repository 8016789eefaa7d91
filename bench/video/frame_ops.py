"""The operations of RandAugment on whole clips: the bytes of Pillow, faster than frame by frame.

Only what the crop will show is computed: each operation says what it needs to know of a frame to give a region of it.
What changes every value by itself becomes a table of 256 bytes. A shear or a translation moves every line of pixels
along itself, so a value has four taps where Pillow takes sixteen. Rotations are left to Pillow.

Shapes: n frames of H x W pixels; h x w pixels of a region; m lines of a block, c pixels of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from bench.video.info import Frames


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
        """This region with so many more pixels on each side."""
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


_Table = npt.NDArray[np.uint8]
_Counts = npt.NDArray[np.int64]

_RAMP = np.arange(256, dtype=np.uint8)
_THIRTEENTHS = ((2 * np.arange(13 * 255 + 1) + 13) // 26).astype(np.uint8)  # rounded; a half cannot occur


@dataclass(frozen=True)
class Op:
    """An operation that was drawn for a clip."""

    name: str
    """As timm calls it, without the ending "Increasing" or "Rel"."""
    argument: float = 0.0
    """Degrees, bits kept, threshold, amount added, factor, shear, or share of the side; unused where it has none."""


def apply_ops(frames: Frames, ops: Sequence[Op], region: Region) -> Frames:
    """uint8 [n, H, W, 3] -> uint8 [n, h, w, 3]: `region` of what `ops`, one after another, make of every frame.

    Bytes are those of Pillow's functions as timm calls them, frame by frame (bicubic, 128 where there is no frame).
    """
    patch = whole_patch(frames)
    wanted = [region]
    for op in reversed(ops):
        wanted.append(_OPS[op.name].needs(wanted[-1], patch.whole))
    for op, here in zip(ops, reversed(wanted[:-1]), strict=True):
        patch = Patch(_OPS[op.name].function(patch, op.argument, here), here, patch.whole)
    return patch.cut(region)


def _invert(patch: Patch, _: float, region: Region) -> Frames:
    return ~patch.cut(region)


def _posterize(patch: Patch, bits_kept: float, region: Region) -> Frames:
    kept: Frames = patch.cut(region) & np.uint8(256 - (1 << (8 - int(bits_kept))))
    return kept


def _solarize(patch: Patch, threshold: float, region: Region) -> Frames:
    kept = int(threshold)
    return np.take(np.concatenate((_RAMP[:kept], ~_RAMP[kept:])), patch.cut(region))


def _solarize_add(patch: Patch, added: float, region: Region) -> Frames:
    brighter = np.minimum(_RAMP.astype(np.int64) + int(added), 255).astype(np.uint8)
    return np.take(np.where(_RAMP < 128, brighter, _RAMP), patch.cut(region))


def _brightness(patch: Patch, factor: float, region: Region) -> Frames:
    return np.take(_blend_table(0, factor), patch.cut(region))


def _color(patch: Patch, factor: float, region: Region) -> Frames:
    pixels = np.array(patch.cut(region))
    for place, frame in enumerate(pixels):
        pixels[place] = np.asarray(ImageEnhance.Color(Image.fromarray(frame)).enhance(factor))
    return pixels


def _contrast(patch: Patch, factor: float, region: Region) -> Frames:
    def tables(frame: Frames) -> list[_Table]:
        grey = np.asarray(Image.fromarray(frame).convert("L"))
        return [_blend_table(int(int(grey.sum(dtype=np.int64)) / grey.size + 0.5), factor)] * 3

    return _with_tables(patch, tables, region)


def _auto_contrast(patch: Patch, _: float, region: Region) -> Frames:
    return _with_tables(patch, lambda frame: [_stretch_table(counts) for counts in _histograms(frame)], region)


def _equalize(patch: Patch, _: float, region: Region) -> Frames:
    return _with_tables(patch, lambda frame: [_even_table(counts) for counts in _histograms(frame)], region)


def _sharpness(patch: Patch, factor: float, region: Region) -> Frames:
    """PIL.ImageEnhance.Sharpness: a blend with the frame smoothed by (1 1 1, 1 5 1, 1 1 1) / 13."""
    original = patch.cut(region)
    smooth = np.array(original)
    inner = region.within(patch.whole.grown(-1))  # Pillow leaves the border as it is
    if inner.height > 0 and inner.width > 0:
        around = patch.cut(inner.grown(1)).astype(np.uint16)
        sums = around[:, :-2] + around[:, 1:-1] + around[:, 2:]
        sums = sums[:, :, :-2] + sums[:, :, 1:-1] + sums[:, :, 2:]
        sums += 4 * around[:, 1:-1, 1:-1]
        Patch(smooth, region, patch.whole).cut(inner)[...] = np.take(_THIRTEENTHS, sums)
    for place, frame in enumerate(original):
        smooth[place] = np.asarray(Image.blend(Image.fromarray(smooth[place]), Image.fromarray(frame), factor))
    return smooth


def _shear_x(patch: Patch, shear: float, region: Region) -> Frames:
    return slide_rows(patch, shear, 0.0, region)


def _shear_y(patch: Patch, shear: float, region: Region) -> Frames:
    return slide_columns(patch, shear, 0.0, region)


def _translate_x(patch: Patch, share: float, region: Region) -> Frames:
    return slide_rows(patch, 0.0, share * patch.whole.width, region)


def _translate_y(patch: Patch, share: float, region: Region) -> Frames:
    return slide_columns(patch, 0.0, share * patch.whole.height, region)


def _with_tables(patch: Patch, tables: Callable[[Frames], Sequence[_Table]], region: Region) -> Frames:
    """`tables` makes one table for each channel of a whole frame."""
    output = np.empty((len(patch.pixels), region.height, region.width, 3), np.uint8)
    for changed, frame, part in zip(output, patch.pixels, patch.cut(region), strict=True):
        for channel, table in enumerate(tables(frame)):
            changed[..., channel] = np.take(table, part[..., channel])
    return output


def _blend_table(grey: int, factor: float) -> _Table:
    """From `grey` (factor 0) over the value itself (factor 1) to beyond it, as PIL.Image.blend."""
    ramp = Image.fromarray(_RAMP[None])
    return np.array(Image.blend(Image.new("L", ramp.size, grey), ramp, factor)).ravel()


def _stretch_table(counts: _Counts) -> _Table:
    """The lowest value becomes 0, the highest 255, as PIL.ImageOps.autocontrast."""
    found = np.flatnonzero(counts)
    low, high = int(found[0]), int(found[-1])
    if low == high:
        return _RAMP
    scale = 255.0 / (high - low)
    stretched: _Table = (_RAMP * scale + -low * scale).clip(0, 255).astype(np.uint8)
    return stretched


def _even_table(counts: _Counts) -> _Table:
    """Values become evenly frequent, as PIL.ImageOps.equalize."""
    step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    if step == 0:
        return _RAMP
    below = np.cumsum(counts) - counts
    return ((step // 2 + below) // step).clip(0, 255).astype(np.uint8)


def _histograms(frame: Frames) -> _Counts:
    """[3, 256]."""
    return np.array(Image.fromarray(frame).histogram(), dtype=np.int64).reshape(3, 256)


def _itself(region: Region, _: Region) -> Region:
    return region


def _neighbours_too(region: Region, whole: Region) -> Region:
    return region.grown(1).within(whole)


def _whole_rows(region: Region, whole: Region) -> Region:
    return Region(region.top, 0, region.height, whole.width)


def _whole_columns(region: Region, whole: Region) -> Region:
    return Region(0, region.left, whole.height, region.width)


def _all(_: Region, whole: Region) -> Region:
    return whole


class _Kind(NamedTuple):
    function: Callable[[Patch, float, Region], Frames]
    """From what it needs, its argument and a region to the pixels of the region."""
    needs: Callable[[Region, Region], Region]
    """From a region and the whole frame to what must be known of it."""


_OPS = {
    "AutoContrast": _Kind(_auto_contrast, _all),
    "Equalize": _Kind(_equalize, _all),
    "Invert": _Kind(_invert, _itself),
    "Rotate": _Kind(rotate, _all),
    "Posterize": _Kind(_posterize, _itself),
    "Solarize": _Kind(_solarize, _itself),
    "SolarizeAdd": _Kind(_solarize_add, _itself),
    "Color": _Kind(_color, _itself),
    "Contrast": _Kind(_contrast, _all),
    "Brightness": _Kind(_brightness, _itself),
    "Sharpness": _Kind(_sharpness, _neighbours_too),
    "ShearX": _Kind(_shear_x, _whole_rows),
    "ShearY": _Kind(_shear_y, _whole_columns),
    "TranslateX": _Kind(_translate_x, _whole_rows),
    "TranslateY": _Kind(_translate_y, _whole_columns),
}
