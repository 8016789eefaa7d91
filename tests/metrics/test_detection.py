"""Frame mAP: the official answers, cases by hand, a slow reference that is obviously right, properties."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import GOLDEN

from bench.core.errors import BenchError
from bench.metrics.accuracy import frame_map
from bench.metrics.detection import match_frames

COLUMNS = ["video", "timestamp", "x1", "y1", "x2", "y2", "action"]
EXPECTED = json.loads((GOLDEN / "ava" / "expected.json").read_text())
SIXTY = {int(n) for n in re.findall(r"id: (\d+)", (GOLDEN / "ava" / "classes.pbtxt").read_text())}


def truth(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame([row + (None,) * (7 - len(row)) for row in rows], columns=COLUMNS)


def found(*rows: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*COLUMNS, "score"])


def golden(case: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    def read(name: str, columns: list[str]) -> pd.DataFrame:
        path = GOLDEN / "ava" / f"{name}_{case}.csv"
        if not path.read_text().strip():
            return pd.DataFrame(columns=columns)
        return pd.read_csv(path, names=columns, usecols=range(len(columns)))

    excluded = set(read("excluded", COLUMNS[:2]).itertuples(index=False, name=None))
    tables = read("gt", COLUMNS), read("detections", [*COLUMNS, "score"])
    first, second = (
        table[[key not in excluded for key in zip(table["video"], table["timestamp"], strict=True)]] for table in tables
    )
    return first, second


@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_the_official_answers(case: str) -> None:
    result = frame_map(*golden(case), classes=SIXTY)
    assert result.mean == pytest.approx(EXPECTED[case]["mean"], abs=1e-9)
    assert set(result.per_class) == {int(action) for action in EXPECTED[case]["per_class"]}
    for action, value in EXPECTED[case]["per_class"].items():
        assert result.per_class[int(action)] == pytest.approx(value, abs=1e-9)


BOX, NEAR, FAR = (0.1, 0.1, 0.5, 0.5), (0.1, 0.1, 0.5, 0.45), (0.6, 0.6, 0.9, 0.9)


def test_a_box_found_once_is_all_that_can_be_found() -> None:
    assert frame_map(truth(("a", 902, *BOX, 1)), found(("a", 902, *NEAR, 1, 0.9))).mean == 1.0


def test_a_better_scored_false_box_halves_the_precision() -> None:
    rows = found(("a", 902, *FAR, 1, 0.9), ("a", 902, *BOX, 1, 0.8))
    assert frame_map(truth(("a", 902, *BOX, 1)), rows).mean == 0.5


def test_the_second_detection_of_a_box_is_false() -> None:
    two = truth(("a", 902, *BOX, 1), ("a", 902, *FAR, 1))
    rows = found(("a", 902, *BOX, 1, 0.9), ("a", 902, *NEAR, 1, 0.8), ("a", 902, *FAR, 1, 0.7))
    assert frame_map(two, rows).mean == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_detection_looks_only_at_the_box_it_overlaps_most() -> None:
    # Both overlap BOX most, and NEAR too by more than a half: the second does not move on to NEAR.
    two = truth(("a", 902, *BOX, 1), ("a", 902, *NEAR, 1))
    rows = found(("a", 902, *BOX, 1, 0.9), ("a", 902, 0.1, 0.1, 0.5, 0.49, 1, 0.8))
    assert frame_map(two, rows).mean == 0.5


def test_equal_scores_enter_together() -> None:
    rows = found(("a", 902, *BOX, 1, 0.9), ("a", 902, *FAR, 1, 0.9))
    assert frame_map(truth(("a", 902, *BOX, 1)), rows).mean == 0.5


def test_exactly_half_an_overlap_is_enough() -> None:
    rows = found(("a", 902, 0, 0, 1, 0.5, 1, 0.9))
    whole = truth(("a", 902, 0, 0, 1, 1, 1))
    assert frame_map(whole, rows).mean == 1.0
    assert frame_map(whole, rows, iou=0.51).mean == 0.0


def test_an_evaluated_frame_without_actions_makes_its_detections_false_and_an_unknown_frame_does_not() -> None:
    known = truth(("a", 902, *BOX, 1), ("a", 903))
    in_empty = found(("a", 902, *BOX, 1, 0.5), ("a", 903, *BOX, 1, 0.9))
    in_unknown = found(("a", 902, *BOX, 1, 0.5), ("a", 904, *BOX, 1, 0.9), ("b", 902, *BOX, 1, 0.9))
    assert frame_map(known, in_empty).mean == 0.5
    assert frame_map(known, in_unknown).mean == 1.0


def test_other_classes_are_dropped_before_the_best_of_a_frame_are_kept() -> None:
    two = truth(("a", 902, *BOX, 1), ("a", 902, *FAR, 2))
    rows = found(("a", 902, *FAR, 2, 0.9), ("a", 902, *BOX, 1, 0.8))
    assert frame_map(two, rows, max_per_frame=1).per_class == {1: 0.0, 2: 1.0}
    assert frame_map(two, rows, classes=[1], max_per_frame=1).per_class == {1: 1.0}


def test_nothing_found_scores_nothing() -> None:
    assert frame_map(truth(("a", 902, *BOX, 1)), found()).mean == 0.0


def test_timestamps_are_numbers_however_they_are_written() -> None:
    assert frame_map(truth(("a", "0902", *BOX, 1)), found(("a", 902.0, *BOX, 1, 0.5))).mean == 1.0


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (truth(("a", 902)), "no box has a class"),
        (truth(("a", 902, 0.5, 0.1, 0.1, 0.5, 1)), "inverted"),
        (truth(("a", 902, 0.1, 0.1, 0.5)), "missing"),
        (truth(("a", None, *BOX, 1)), "missing"),
        (truth((None, 902, *BOX, 1)), "no video"),
        (truth(("a", 902, 0.1, 0.1, 0.5, "wide", 1)), "y2 is no number"),
        (truth(("a", 902, *BOX, 1.5)), "whole number"),
        (truth(("a", 902, *BOX, 1)).drop(columns="x2"), "no column 'x2'"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(rows: pd.DataFrame, word: str) -> None:
    with pytest.raises(BenchError, match=word):
        frame_map(rows, found(("a", 902, *BOX, 1, 0.5)))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0.0) * max(high, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union else 0.0


def slow_frame_map(truths: list[tuple], detections: list[tuple], classes: set[int], most: int) -> dict[int, float]:
    """The rules one after another, with loops."""
    frames = {row[:2] for row in truths}
    kept = []
    for frame in frames:
        here = [row for row in detections if row[:2] == frame and row[6] in classes]
        kept += sorted(here, key=lambda row: -row[7])[:most]
    kept.sort(key=lambda row: -row[7])
    result = {}
    for action in sorted({row[6] for row in truths} & classes):
        boxes = [row for row in truths if row[6] == action]
        taken: set[int] = set()
        points = []
        for number, row in enumerate((row for row in kept if row[6] == action), start=1):
            same = [i for i, box in enumerate(boxes) if box[:2] == row[:2]]
            best = max(same, key=lambda i: overlap(row[2:6], boxes[i][2:6]), default=None)
            if best is not None and best not in taken and overlap(row[2:6], boxes[best][2:6]) >= 0.5:
                taken.add(best)
            points.append((len(taken) / len(boxes), len(taken) / number))
        area, reached = 0.0, 0.0
        for place, (recall, _) in enumerate(points):
            area += (recall - reached) * max(precision for _, precision in points[place:])
            reached = recall
        result[action] = area
    return result


def random_case(seed: int) -> tuple[list[tuple], list[tuple], int]:
    """A few frames of two videos; detections near the boxes, elsewhere, and in frames that are not evaluated."""
    stream = np.random.RandomState(seed)

    def box(near: tuple[float, ...] | None = None) -> tuple[float, ...]:
        if near is not None:
            x1, y1, x2, y2 = np.asarray(near) + stream.normal(0, 0.04, 4)
        else:
            (x1, y1), (x2, y2) = stream.uniform(0, 0.5, 2), stream.uniform(0.5, 1, 2)
        return (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))

    truths, detections = [], []
    for _ in range(stream.randint(1, 12)):
        frame = (f"v{stream.randint(2)}", int(stream.randint(902, 905)))
        row = (*frame, *box(), int(stream.randint(1, 5)))
        truths.append(row)
        for _ in range(stream.randint(0, 4)):
            action = row[6] if stream.rand() < 0.8 else int(stream.randint(1, 6))
            near = row[2:6] if stream.rand() < 0.8 else None
            at = frame if stream.rand() < 0.9 else ("v2", 902)
            detections.append((*at, *box(near), action, float(stream.rand())))
    return truths, detections, int(stream.randint(1, 8))


def test_a_thousand_random_cases_are_as_the_slow_reference_says() -> None:
    compared = 0
    for seed in range(1000):
        truths, detections, most = random_case(seed)
        classes = {1, 2, 3}
        expected = slow_frame_map(truths, detections, classes, most)
        if not expected:
            continue
        result = frame_map(truth(*truths), found(*detections), classes=classes, max_per_frame=most)
        assert result.per_class == pytest.approx(expected, abs=1e-12), seed
        assert result.mean == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
        compared += 1
    assert compared > 900


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_rows_means_nothing_even_with_equal_scores(seed: int) -> None:
    truths, detections, most = random_case(seed)
    detections = [(*row[:7], round(row[7], 1)) for row in detections]
    tables = truth(*truths), found(*detections)
    shuffled = tables[0].sample(frac=1, random_state=seed), tables[1].sample(frac=1, random_state=seed)
    assert frame_map(*shuffled, max_per_frame=most) == frame_map(*tables, max_per_frame=most)


@pytest.mark.parametrize("seed", range(20))
def test_a_false_detection_of_low_score_never_raises_a_precision(seed: int) -> None:
    truths, detections, _ = random_case(seed)
    before = frame_map(truth(*truths), found(*detections))
    added = [(*row[:2], 0.0, 0.0, 0.01, 0.01, row[6], -1.0) for row in truths[:2]]
    after = frame_map(truth(*truths), found(*detections, *added))
    assert all(after.per_class[action] <= value + 1e-12 for action, value in before.per_class.items())


def test_the_interval_draws_videos_as_wholes() -> None:
    """Two videos, one all right and one all wrong: whatever is drawn scores 0, 1, or what both give."""
    two = truth(("a", 902, *BOX, 1), ("b", 902, *BOX, 1))
    matches = match_frames(two, found(("a", 902, *BOX, 1, 0.9), ("b", 902, *FAR, 1, 0.8)))
    assert matches.frame_map().mean == 0.5
    assert matches.bootstrap_interval() == (0.0, 1.0)
    assert matches.bootstrap_interval(seed=3) == matches.bootstrap_interval(seed=3)


@pytest.mark.parametrize("seed", range(10))
def test_a_video_that_counts_twice_scores_as_two_copies_of_it(seed: int) -> None:
    truths, detections, _ = random_case(seed)
    # Ties included: the copies have equal scores.
    twice = [("copy", *row[1:]) for row in truths if row[0] == "v0"]
    found_twice = [("copy", *row[1:]) for row in detections if row[0] == "v0"]
    copied = frame_map(truth(*truths, *twice), found(*detections, *found_twice))
    matches = match_frames(truth(*truths), found(*detections))
    weights = np.ones(matches.num_videos)
    weights[[number for number, name in enumerate(matches.videos) if name == "v0"]] = 2
    for action, curve in matches.curves.items():
        assert curve.average_precision(weights) == pytest.approx(copied.per_class[action])


def test_the_golden_files_are_those_of_the_shared_folder() -> None:
    shared = Path(GOLDEN).parent.parent.parent / "shared" / "golden" / "ava"
    if not shared.is_dir():
        pytest.skip("no shared folder here")
    for path in shared.iterdir():
        assert (GOLDEN / "ava" / path.name).read_bytes() == path.read_bytes()
