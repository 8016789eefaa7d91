"""Segmentation: intersection over union of classes, from the pixels of every image by true and by predicted class.

Pixels are summed over the whole set first and divided once; the mean over images of each image's own values is another
number. A class that is neither true nor predicted anywhere is left out of the mean, one that is only predicted counts
as 0. Void pixels are nobody's: they are left out of everything. Source: dinov3 6876159 `dinov3/eval/segmentation`.

Shapes: n images, C classes, G groups of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError

VOID = -1
"""What a map of true classes has where no class is meant."""


def confusion(truth: ArrayLike, predicted: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Pixels [C, C] of one image by true class (rows) and predicted class (columns).

    truth, predicted: maps of classes of one shape, 0 .. C - 1; VOID in the truth leaves a pixel out. Raises ValueError
    for other shapes and values.
    """
    true, found = np.asarray(truth), np.asarray(predicted)
    if true.shape != found.shape:
        raise ValueError(f"the true map {true.shape} and the predicted one {found.shape} must have one shape")
    counted = true != VOID
    pairs = [values[counted].astype(np.int64) for values in (true, found)]
    for values in pairs:
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"classes must be in 0 .. {num_classes - 1}, got {values.min()} .. {values.max()}")
    flat = np.bincount(pairs[0] * num_classes + pairs[1], minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


@dataclass(frozen=True)
class Confusions:
    """The confusions of many images, without the pairs of classes that an image does not have: all int64 [k]."""

    image: NDArray[np.int64]
    """Which of the images, rising."""
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, confusions: Iterable[NDArray[np.int64]]) -> Confusions:
        """Of images with these `confusion`s, in their order; one is looked at after another."""
        parts = []
        for image, pixels in enumerate(confusions):
            true, predicted = np.nonzero(pixels)
            parts.append(np.stack([np.full(len(true), image), true, predicted, pixels[true, predicted]]))
        return cls(*(np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype=np.int64)))


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each image by class; all int64 [n, C]."""

    right: NDArray[np.int64]
    """Of the class, and predicted to be: the intersection."""
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @classmethod
    def of(cls, confusions: Confusions, num_images: int, num_classes: int) -> PixelCounts:
        """The margins of the confusions of so many images."""
        right, true, predicted = (np.zeros((num_images, num_classes), dtype=np.int64) for _ in range(3))
        np.add.at(true, (confusions.image, confusions.true), confusions.pixels)
        np.add.at(predicted, (confusions.image, confusions.predicted), confusions.pixels)
        same = confusions.true == confusions.predicted
        np.add.at(right, (confusions.image[same], confusions.true[same]), confusions.pixels[same])
        return cls(right, true, predicted)

    @property
    def union(self) -> NDArray[np.int64]:
        """Of the class or predicted to be, [n, C]."""
        return self.true + self.predicted - self.right


def class_ious(counts: PixelCounts) -> NDArray[np.float64]:
    """Intersection over union [C] of each class over all images, 0 to 1; NaN for a class in no map."""
    right, union = counts.right.sum(axis=0), counts.union.sum(axis=0)
    ious: NDArray[np.float64] = np.divide(right, union, out=np.full(len(union), np.nan), where=union > 0)
    return ious


def mean_iou(counts: PixelCounts) -> float:
    """Mean of `class_ious` without the classes in no map, 0 to 1. Raises BenchError where no pixel is counted."""
    ious = class_ious(counts)
    if np.isnan(ious).all():
        raise BenchError(
            "no pixel to score", fix="the masks of the scored images are void everywhere, or there are none"
        )
    return float(np.nanmean(ious))


def pixel_accuracy(counts: PixelCounts) -> float:
    """Share of the pixels that are not void whose class is right, 0 to 1. Raises as `mean_iou`."""
    mean_iou(counts)
    return int(counts.right.sum()) / int(counts.true.sum())


@dataclass(frozen=True)
class IouSums:
    """What the groups of images add to the mean intersection over union of a set: the mean of any draw of them."""

    groups: Sequence[str]
    right: NDArray[np.int64]
    """[G, C]."""
    union: NDArray[np.int64]

    @classmethod
    def of(cls, counts: PixelCounts, groups: Sequence[str]) -> IouSums:
        """Of images [n] that belong to `groups` [n], such as the video that each was cut from."""
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        totals = []
        for values in (counts.right, counts.union):
            total = np.zeros((len(names), values.shape[1]), dtype=np.int64)
            np.add.at(total, member, values)
            totals.append(total)
        return cls(names.tolist(), *totals)

    def at(self, multiplicity: NDArray[Any]) -> NDArray[np.float64]:
        """Mean intersection over union [draws] of sets in which each group is drawn so many times [draws, G]; 0 for a
        set without a pixel."""
        right, union = (multiplicity @ values for values in (self.right, self.union))
        there = union > 0
        ious = np.divide(right, union, out=np.zeros(right.shape), where=there)
        means: NDArray[np.float64] = ious.sum(axis=1) / np.maximum(1, there.sum(axis=1))
        return means
