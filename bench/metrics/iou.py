"""Segmentation -> mean intersection over union and pixel accuracy, from the pixels of images by class.

Pixels are summed over the whole set first and divided once; the mean over images of each image's own values is another
number. A class that is neither true nor predicted anywhere is left out of the mean, one that is only predicted counts
as 0. Void pixels are nobody's: they are left out of everything. Source: dinov3 6876159 `dinov3/eval/segmentation`.

Shapes: n images, C classes, G groups of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.core.errors import BenchError
from bench.core.hashing import digest
from bench.metrics.metric import Metric, PartScore
from bench.metrics.resample import group_names, percentiles, redrawn
from bench.metrics.score import Breakdown, Score

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
        """Gather what `confusion` gives of images, in their order; they are looked at one after another."""
        parts = []
        for image, pixels in enumerate(confusions):
            true, predicted = np.nonzero(pixels)
            parts.append(np.stack([np.full(len(true), image), true, predicted, pixels[true, predicted]]))
        return cls(*(np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype=np.int64)))

    def take(self, rows: NDArray[np.int64]) -> Confusions:
        """The counts of some of the images [m], each once, in this order."""
        places = {image: place for place, image in enumerate(rows.tolist())}
        place = np.array([places.get(image, -1) for image in self.image.tolist()], dtype=np.int64)
        order = np.flatnonzero(place >= 0)
        order = order[np.argsort(place[order], kind="stable")]
        return Confusions(place[order], self.true[order], self.predicted[order], self.pixels[order])


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each image by class; all int64 [n, C]."""

    right: NDArray[np.int64]
    """Pixels of the class that are predicted to be of it: the intersection."""
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
        """Pixels that are of the class or predicted to be, [n, C]."""
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
class MapAnswers:
    """What was predicted for the pixels of images. n images, C classes."""

    form: ClassVar[str] = "maps"
    samples: tuple[str, ...]
    confusions: Confusions
    class_names: tuple[str, ...]
    """In label order, each once."""
    groups: NDArray[Any] | None = None
    """[n], equal where two images were cut from one video: they are not independent. None where each has its own."""

    @cached_property
    def counts(self) -> PixelCounts:
        """Pixels of each image by class."""
        return PixelCounts.of(self.confusions, len(self.samples), len(self.class_names))

    @property
    def sample_digest(self) -> str:
        """SHA-256 of all ids with the pixels of each true class."""
        return digest([list(self.samples), self.counts.true.tolist()])

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of the confusions."""
        one = self.confusions
        return digest([column.tolist() for column in (one.image, one.true, one.predicted, one.pixels)])

    def of(self, samples: Sequence[str]) -> MapAnswers:
        """Only these samples, in this order; all of them must be there."""
        places = {sample: place for place, sample in enumerate(self.samples)}
        rows = np.array([places[sample] for sample in samples], dtype=np.int64)
        groups = None if self.groups is None else self.groups[rows]
        return MapAnswers(tuple(samples), self.confusions.take(rows), self.class_names, groups)


@dataclass(frozen=True)
class PixelSums:
    """A share of pixels, made again with each group of images counted any number of times. A GroupSums."""

    groups: tuple[str, ...]
    right: NDArray[np.float64]
    """Pixels that are right, of each group and class, [G, C]."""
    of: NDArray[np.float64]
    """The pixels that it is a share of, [G, C]."""
    by_class: bool
    """Whether it is the mean of the shares of all classes that a draw holds, or the share of all pixels."""

    @staticmethod
    def grouped(names: NDArray[Any], right: NDArray[np.int64], of: NDArray[np.int64], *, by_class: bool) -> PixelSums:
        """Sum the pixels of images [n, C] by the group of each, named in `names` [n]."""
        groups, member = np.unique(names, return_inverse=True)
        sums = [np.zeros((len(groups), values.shape[1])) for values in (right, of)]
        for total, values in zip(sums, (right, of), strict=True):
            np.add.at(total, member, values)
        return PixelSums(tuple(groups.tolist()), sums[0], sums[1], by_class)

    def at(self, multiplicity: NDArray[Any]) -> NDArray[np.float64]:
        """The score, 0 to 100, of each draw [D]; NaN where it holds no pixel."""
        right, of = multiplicity @ self.right, multiplicity @ self.of
        if not self.by_class:
            right, of = right.sum(axis=1, keepdims=True), of.sum(axis=1, keepdims=True)
        drawn = of > 0
        total = np.divide(right, of, out=np.zeros_like(right), where=drawn).sum(axis=1)
        classes = drawn.sum(axis=1)
        means: NDArray[np.float64] = np.divide(100 * total, classes, out=np.full(len(total), np.nan), where=classes > 0)
        return means


class _OfPixels:
    """What both metrics share."""

    name: ClassVar[str]
    title: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    _by_class: ClassVar[bool]

    def score(self, answers: MapAnswers, failed: int) -> Score:
        """In percent. The interval draws images, or the videos that they were cut from; there is none for a single
        one. Raises BenchError where no pixel is counted."""
        mean_iou(answers.counts)
        value, draws, groups = redrawn(self.sums(answers))
        several, kind = len(groups) > 1, "images" if answers.groups is None else "videos"
        low, high = percentiles(draws[np.isfinite(draws)], len(groups), 0.95) if several else (0.0, 100.0)
        return Score(
            metric=self.name,
            value=value,
            low=min(low, value),
            high=max(high, value),
            correct=None,
            n=len(answers.samples),
            failed=failed,
            interval=f"bootstrap over {len(groups)} {kind}, 95 %"
            if several
            else f"none: one of the {kind} tells nothing",
        )

    def sums(self, answers: MapAnswers) -> PixelSums:
        """Pixels of each image or video and class."""
        counts, names = answers.counts, group_names(answers.samples, answers.groups)
        of = counts.union if self._by_class else counts.true
        return PixelSums.grouped(names, counts.right, of, by_class=self._by_class)

    def chance(self, answers: MapAnswers, counts: Mapping[str, NDArray[Any]]) -> MapAnswers:
        """Everywhere the class that most training pixels are of, the first of several."""
        true = answers.counts.true
        image, label = np.nonzero(true)
        said = np.full(len(image), int(counts["class"].argmax()))
        confusions = Confusions(image, label, said, true[image, label])
        return MapAnswers(answers.samples, confusions, answers.class_names, answers.groups)


class MeanIou(_OfPixels):
    """Mean intersection over union. A Metric."""

    name = "mIoU"
    title = "mean intersection over union"
    _by_class = True

    def by_class(self, answers: MapAnswers) -> dict[int, PartScore]:
        """The intersection over union of each class that is in a true or a predicted map."""
        ious, true = class_ious(answers.counts), answers.counts.true.sum(axis=0)
        return {
            label: PartScore(100 * float(ious[label]), int(true[label]))
            for label in np.flatnonzero(~np.isnan(ious)).tolist()
        }

    def breakdowns(self, answers: MapAnswers) -> list[Breakdown]:
        """The intersection over union of every class; None for a class in no map."""
        parts = self.by_class(answers)
        names = enumerate(answers.class_names)
        values = {name: parts[label].value if label in parts else None for label, name in names}
        return [Breakdown(metric="IoU", by="class", values=values)]


class PixelAccuracy(_OfPixels):
    """Share of the pixels whose class is right. A Metric."""

    name = "pixel-accuracy"
    title = "pixel accuracy"
    _by_class = False

    def by_class(self, answers: MapAnswers) -> dict[int, PartScore]:
        """The share of each class's own pixels."""
        right, true = answers.counts.right.sum(axis=0), answers.counts.true.sum(axis=0)
        return {
            label: PartScore(100 * float(right[label] / true[label]), int(true[label]))
            for label in np.flatnonzero(true).tolist()
        }

    def breakdowns(self, answers: MapAnswers) -> list[Breakdown]:
        """None: it is hardly more than that of the largest classes."""
        return []


METRICS: dict[str, Metric[MapAnswers]] = {"mIoU": MeanIou(), "pixel-accuracy": PixelAccuracy()}
