"""Which model stands above which, where not all have the same columns."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence

import pytest

from bench.analysis.board import Cell, Column, Row, Run, best_first

NO = None


def column(task: str, metric: str = "top1", probe: str = "attentive", protocol: str = "") -> Column:
    return Column("motion", task, probe, protocol or f"{probe}/1", metric, 10, 10, "")


def board(make_record, scores: Sequence[Sequence[float | None]], columns: Sequence[Column]) -> list[Row]:
    """Rows called 0, 1, ... of these scores, `NO` where a model has none."""
    record = make_record()

    def cell(value: float) -> Cell:
        return Cell((Run(record, record.scores[0].model_copy(update={"value": value})),))

    return [
        Row(str(number), {c: cell(v) for c, v in zip(columns, values, strict=True) if v is not NO})
        for number, values in enumerate(scores)
    ]


def order(make_record, scores: Sequence[Sequence[float | None]], columns: Sequence[Column] = ()) -> list[int]:
    columns = columns or [column(f"task-{number}") for number in range(len(scores[0]))]
    return [int(row.label) for row in best_first(board(make_record, scores, columns), columns)[0]]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        pytest.param([[50, 50], [90, 30], [10, 20]], [1, 0, 2], id="whole tables go by the mean"),
        pytest.param([[70, NO], [100, 25]], [1, 0], id="the easy task alone"),
        pytest.param([[100, NO], [100, 25]], [1, 0], id="the easy task alone, as good"),
        pytest.param([[95, NO], [90, 25], [85, 40]], [1, 0, 2], id="the easy task alone, better"),
        pytest.param([[NO, 30], [100, 25]], [0, 1], id="the hard task alone"),
        pytest.param([[95, NO], [90, NO], [30, 10]], [0, 1, 2], id="one model ran a further task"),
        pytest.param([[90, NO], [30, 10]], [0, 1], id="a single other model makes no task an easy one"),
        # A circle of pairs: 0 before 1, 1 before 2, 2 before 0, each in columns of its own.
        pytest.param([[60, 20], [40, 80], [50, NO]], [0, 2, 1], id="the task that all share decides"),
        pytest.param([[71, 5], [72, 90], [73, 95], [70, NO]], [2, 1, 0, 3], id="one task against two"),
        pytest.param([[60, 20, NO], [NO, 30, 40], [70, NO, 30]], [1, 0, 2], id="no task of all: the hardest of most"),
        pytest.param([[95, NO], [90, 40], [NO, 50]], [2, 1, 0], id="no task of all: the easy one alone"),
        pytest.param([[NO, 10], [90, NO]], [0, 1], id="nothing shared: the harder task"),
        pytest.param([[5, 5], [NO, NO], [1, 1]], [0, 2, 1], id="without a score, last"),
        pytest.param([[50, NO], [50, 80], [50, 20]], [1, 2, 0], id="equal where shared: who has more"),
        pytest.param([[NO], [NO]], [0, 1], id="no score at all"),
    ],
)
def test_models_are_ordered_by_what_all_share(make_record, scores, expected: list[int]) -> None:
    assert order(make_record, scores) == expected


def test_equals_keep_their_order_whatever_their_other_columns_round_to(make_record) -> None:
    assert order(make_record, [[0.1, 0.7], [0.7, 0.1], [0.3, 0.5]]) == [0, 1, 2]


def test_the_order_of_two_models_does_not_depend_on_the_order_of_records(make_record) -> None:
    scores = [[60, 20, 5], [40, 80, NO], [50, NO, 70], [55, 10, NO]]
    found = {
        tuple(scores.index(list(shuffled[place])) for place in order(make_record, shuffled))
        for shuffled in map(list, itertools.permutations(scores))
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "second",
    [
        column("b", metric="frame-mAP@0.5"),
        column("b", probe="knn"),
        column("a", protocol="attentive/1 2x3"),
    ],
    ids=["metric", "probe", "protocol"],
)
def test_cells_of_different_metrics_probes_or_protocols_are_never_averaged(make_record, second: Column) -> None:
    scores = [[60.0, 1.0], [59.0, 99.0], [58.0, NO]]
    assert order(make_record, scores, [column("a"), second]) == [0, 1, 2]
    both = best_first(board(make_record, scores[:2], [column("a"), second]), [column("a"), second])
    assert [row.label for row in both[0]] in (["0", "1"], ["1", "0"])
    assert "mean" not in both[1]


def test_what_rows_are_sorted_by_is_said(make_record) -> None:
    columns = [column(name) for name in "abcdef"]

    def words(scores: Sequence[Sequence[float | None]]) -> str:
        used = columns[: len(scores[0])]
        return best_first(board(make_record, scores, used), used)[1]

    assert words([[1, 2], [3, 4]]) == "by the mean of a and b, which all models share, highest first"
    assert words([[1, 2], [3, NO]]) == "by the score in a (attentive/1), which all models share, highest first"
    assert "a, b, c and 3 others" in words([[1] * 6])
    assert "which 2 of 3 models share, highest first; others after them" in words([[1, 2], [3, 4], [NO, NO]])
    assert words([[95, NO], [90, 25], [85, 40]]).endswith("; 0 ran the easier tasks alone")


def test_a_thousand_models_take_a_moment(make_record) -> None:
    stream = random.Random(0)
    scores = [[stream.random() if stream.random() < 0.5 else NO for _ in range(20)] for _ in range(1000)]
    columns = [column(f"task-{number}") for number in range(20)]
    rows = board(make_record, scores, columns)
    started = time.process_time()
    assert len(best_first(rows, columns)[0]) == 1000
    assert time.process_time() - started < 5
