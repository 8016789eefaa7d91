"""The operations of RandAugment on whole clips: the bytes of Pillow, faster than frame by frame.

Only what the crop will show is computed: each operation says what it needs to know of a frame to give a region of it.
What changes every value by itself becomes a table of 256 bytes.

Shapes: n frames of H x W pixels; h x w pixels of a region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from bench.video.affine import rotate, slide_columns, slide_rows
from bench.video.regions import Frames, Patch, Region, whole_patch

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
