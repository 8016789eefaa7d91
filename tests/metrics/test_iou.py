"""Intersection over union, against what the official evaluation gave."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support import GOLDEN

from bench import BenchError
from bench.cards.load import MaskAnnotations
from bench.data.masks import class_map
from bench.metrics.iou import (
    VOID,
    Confusions,
    IouSums,
    PixelCounts,
    class_ious,
    confusion,
    mean_iou,
    pixel_accuracy,
)

EXPECTED = json.loads((GOLDEN / "dense" / "expected.json").read_text())["segmentation_metric"]


def counts(*pairs: tuple[object, object], num_classes: int = 3) -> PixelCounts:
    """Of images with these true and predicted maps."""
    return PixelCounts.of(Confusions.of(confusion(*pair, num_classes) for pair in pairs), len(pairs), num_classes)


@pytest.mark.parametrize("case", EXPECTED)
def test_every_number_is_the_official_one(case: str) -> None:
    maps, expected = np.load(GOLDEN / "dense" / "segmentation_metric.npz"), EXPECTED[case]
    folders = {"train": "a", "test": "b"}
    meaning = MaskAnnotations.model_validate(
        {"images": folders, "masks": folders, "zero": "void" if expected["reduce_zero_label"] else "class"}
    )
    C = expected["num_classes"]
    pairs = [
        (class_map(maps[f"{case}_gt{i}"].astype(np.int32), meaning, C, where="gt"), maps[f"{case}_pred{i}"])
        for i in range(expected["images"])
    ]
    found = counts(*pairs, num_classes=C)
    totals = {"intersect": found.right, "union": found.union, "pred": found.predicted, "label": found.true}
    assert {name: values.sum(axis=0).tolist() for name, values in totals.items()} == expected["totals"]
    ious = [None if np.isnan(value) else np.float32(value) for value in class_ious(found)]
    assert ious == [value if value is None else np.float32(value) for value in expected["per_class"]["mIoU"]]
    assert mean_iou(found) == pytest.approx(expected["metrics"]["mIoU"], abs=1e-7)
    assert pixel_accuracy(found) == pytest.approx(expected["metrics"]["aAcc"], abs=1e-7)


def test_a_class_in_no_map_is_left_out_and_one_only_predicted_counts_as_nothing() -> None:
    found = counts(([0, 0, 0, 0], [0, 0, 0, 1]))
    np.testing.assert_equal(class_ious(found), [0.75, 0, np.nan])
    assert mean_iou(found) == 0.375


def test_void_pixels_are_left_out_whatever_is_predicted_there() -> None:
    assert confusion([0, VOID, 1], [0, 2, 0], 3).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_masks_that_are_void_everywhere_have_no_score() -> None:
    for score in (mean_iou, pixel_accuracy):
        with pytest.raises(BenchError, match="no pixel to score"):
            score(counts(([VOID], [0])))


@pytest.mark.parametrize(
    ("truth", "predicted", "said"),
    [([0, 1], [0], "one shape"), ([0, 3], [0, 0], r"0 \.\. 2"), ([0, 1], [0, -1], r"0 \.\. 2"), ([-2], [0], r"0 \.\.")],
)
def test_maps_that_do_not_fit_are_refused(truth: list[int], predicted: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        confusion(truth, predicted, 3)


def test_sums_of_groups_give_the_score_of_any_draw_of_them() -> None:
    images = [([0, 0, 1], [0, 1, 1]), ([2, 2, 2], [2, 2, 0]), ([0, 1, VOID], [1, 1, 2])]
    sums = IouSums.of(counts(*images), ["film a", "film b", "film a"])
    assert sums.groups == ["film a", "film b"]
    drawn = sums.at(np.array([[1, 1], [2, 0], [0, 1]]))
    first_twice = mean_iou(counts(images[0], images[2], images[0], images[2]))
    np.testing.assert_allclose(drawn, [mean_iou(counts(*images)), first_twice, mean_iou(counts(images[1]))])
