"""Intersection over union, against what the official evaluation gave."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from support import GOLDEN

from bench import BenchError
from bench.cards.load import MaskAnnotations
from bench.data.masks import class_map
from bench.metrics.iou import (
    METRICS,
    VOID,
    Confusions,
    MapAnswers,
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


IMAGES = [([0, 0, 1], [0, 1, 1]), ([2, 2, 2], [2, 2, 0]), ([0, 1, VOID], [1, 1, 2]), ([1, 1], [1, 0])]


def answers(*images: tuple[list[int], list[int]], groups: list[str] | None = None) -> MapAnswers:
    """Of images `0`, `1` and so on."""
    confusions = Confusions.of(confusion(*image, 3) for image in images)
    names = None if groups is None else np.array(groups, dtype=object)
    return MapAnswers(tuple(str(number) for number in range(len(images))), confusions, ("wall", "sky", "tree"), names)


@pytest.mark.parametrize(("name", "of_counts"), [("mIoU", mean_iou), ("pixel-accuracy", pixel_accuracy)])
def test_sums_of_groups_give_the_score_of_any_draw_of_them(name: str, of_counts: Callable[..., float]) -> None:
    sums = METRICS[name].sums(answers(*IMAGES[:3], groups=["film a", "film b", "film a"]))
    assert sums.groups == ("0", "1")
    drawn = sums.at(np.array([[1, 1], [2, 0], [0, 1], [0, 0]]))
    draws = (IMAGES[:3], [IMAGES[0], IMAGES[2]] * 2, [IMAGES[1]])
    np.testing.assert_allclose(drawn, [*(100 * of_counts(counts(*draw)) for draw in draws), np.nan])


def test_scores_have_intervals_over_images_or_the_videos_that_they_are_from() -> None:
    for groups, said in ((None, "4 images"), (["a", "a", "b", "c"], "3 videos")):
        for name, metric in METRICS.items():
            score = metric.score(answers(*IMAGES, groups=groups), failed=2)
            assert (score.metric, score.n, score.failed, score.correct) == (name, 4, 2, None)
            assert score.low < score.value < score.high and score.interval == f"bootstrap over {said}, 95 %"
    alone = METRICS["mIoU"].score(answers(IMAGES[0]), failed=0)
    assert (alone.low, alone.high, alone.interval) == (0, 100, "none: one of the images tells nothing")


def test_classes_are_scored_one_by_one() -> None:
    said = answers(([0, 0, 0, 1], [0, 0, 1, 2]))
    (broken,) = METRICS["mIoU"].breakdowns(answers(([0, 0, 0, 0], [0, 0, 1, 0])))
    assert (broken.metric, broken.by, broken.values) == ("IoU", "class", {"wall": 75, "sky": 0, "tree": None})
    expected = {"mIoU": {0: (66.7, 3), 1: (0, 1), 2: (0, 0)}, "pixel-accuracy": {0: (66.7, 3), 1: (0, 1)}}
    for name, parts in expected.items():
        assert {label: (round(part.value, 1), part.n) for label, part in METRICS[name].by_class(said).items()} == parts


def test_chance_is_the_most_frequent_class_everywhere() -> None:
    said = answers(([0, 0, 0, 1], [1, 1, 2, 0]))
    blind = METRICS["mIoU"].chance(said, {"class": np.array([5, 9, 1])})
    assert blind is not None and blind.sample_digest == said.sample_digest
    assert METRICS["mIoU"].score(blind, 0).value == pytest.approx(100 * (0 + 1 / 4) / 2)


def test_some_samples_in_another_order_are_the_same_answers() -> None:
    whole = answers(*IMAGES, groups=["a", "b", "c", "d"])
    some = whole.of(["3", "1"])
    assert some.groups is not None and some.groups.tolist() == ["d", "b"]
    again = answers(IMAGES[3], IMAGES[1])
    assert some.prediction_digest == again.prediction_digest != whole.prediction_digest
    assert (some.counts.true == again.counts.true).all() and some.sample_digest != again.sample_digest
    assert whole.of(whole.samples).sample_digest == whole.sample_digest
