"""Which model stands above which, where not all have the same columns."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.scores.order import best_first

NO = np.nan


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([[50, 50], [90, 30], [10, 20]], [1, 0, 2], id="whole tables go by the mean"),
        pytest.param([[70, NO], [100, 25]], [1, 0], id="the easy task alone"),
        pytest.param([[NO, 30], [100, 25]], [0, 1], id="the hard task alone"),
        pytest.param([[70, NO, 10], [60, 99, NO], [65, 1, 9]], [0, 1, 2], id="winners of what is shared"),
        # Others make the hard column look easy for the first: it still beats the last where both were measured.
        pytest.param([[71, 5], [72, 90], [73, 95], [70, NO]], [2, 1, 0, 3], id="one task against two"),
        pytest.param([[60, 20, NO], [NO, 30, 40], [70, NO, 30]], [1, 2, 0], id="a column for each pair"),
        pytest.param([[NO, 10], [90, NO]], [1, 0], id="nothing shared: the plain mean"),
        pytest.param([[5, 5], [NO, NO], [1, 1]], [0, 2, 1], id="without a score, last"),
        pytest.param([[50, NO], [50, 80], [50, 20]], [1, 0, 2], id="equal where shared"),
    ],
)
def test_models_are_ordered_by_what_they_share(scores: list[list[float]], expected: list[int]) -> None:
    assert best_first(np.array(scores, float), ["top1"] * len(scores[0])) == expected


def test_equals_keep_their_order_whatever_their_other_columns_round_to() -> None:
    scores = np.array([[0.1, 0.7], [0.7, 0.1], [0.3, 0.5]])
    assert best_first(scores, ["top1", "top1"]) == [0, 1, 2]


def test_a_circle_goes_by_the_mean_difference_and_stays_above_what_it_beats() -> None:
    # 0 beats 1, 1 beats 2, 2 beats 0, each on a column of its own; all beat 3.
    scores = np.array([[60, NO, 40, 9], [50, 90, NO, 9], [NO, 80, 70, 9], [NO, NO, NO, 8]])
    found = best_first(scores, ["top1"] * 4)
    assert found == [2, 1, 0, 3]


def test_cells_of_different_metrics_are_not_averaged() -> None:
    scores = np.array([[60.0, 1.0], [59.0, 99.0], [58.0, NO], [57.0, NO], [NO, 0.5]])
    # Most cells are accuracies; only the last model has none.
    assert best_first(scores, ["top1", "frame-mAP@0.5"]) == [0, 1, 2, 3, 4]
    assert best_first(scores[:, ::-1], ["frame-mAP@0.5", "top1"]) == [0, 1, 2, 3, 4]


def test_a_thousand_models_take_a_moment() -> None:
    stream = np.random.RandomState(0)
    scores = stream.rand(1000, 20)
    scores[stream.rand(1000, 20) < 0.5] = NO
    started = time.process_time()
    assert sorted(best_first(scores, ["top1"] * 20)) == list(range(1000))
    assert time.process_time() - started < 5
