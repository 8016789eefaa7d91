"""Motion shares: what they are on counts done by hand, chance, videos that samples share, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.types import FrameOrder
from bench.metrics.accuracy import class_answers
from bench.metrics.intervals import bootstrap_ratio_interval
from bench.metrics.metric import metric_of
from bench.metrics.motion_share import Reading, chance_hits, motion_shares, order_difference
from bench.metrics.score import MotionShare

CLASSES = 4


def reading(frames: FrameOrder, right: list[int], videos: list[str] | None = None, first: int = 0) -> Reading:
    """A probe of its own order that is right, 1, or wrong, 0, on samples whose labels run through four classes."""
    labels = [number % CLASSES for number in range(first, first + len(right))]
    said = [label if hit else (label + 1) % CLASSES for label, hit in zip(labels, right, strict=True)]
    names = [f"{number}" for number in range(first, first + len(right))]
    return Reading(frames, frames, class_answers(names, labels, np.eye(CLASSES)[said], videos), failed=0)


def shares(*readings: Reading, train: list[int] | None = None) -> dict[str, MotionShare]:
    return {s.without: s for s in motion_shares(readings, "top1", {"class": np.bincount(train or [0, 1, 2, 3])})}


def test_shares_of_a_count_done_by_hand() -> None:
    ordered, shuffled = reading("ordered", [1] * 90 + [0] * 10), reading("shuffled", [1] * 60 + [0] * 40)
    static = reading("static", [1] * 25 + [0] * 75)
    found = shares(ordered, shuffled, static)
    assert found["order"].value == pytest.approx((90 - 60) / (90 - 25))
    assert found["motion"].value == pytest.approx((90 - 25) / (90 - 25)) and found["motion"].chance == 25
    assert found["order"].low < found["order"].value < found["order"].high < found["motion"].low
    assert list(shares(ordered, shuffled)) == ["order"], "nothing is said of a control that was not run"


def test_only_samples_that_both_could_read_are_compared() -> None:
    ordered, static = reading("ordered", [0, *[1] * 40]), reading("static", [0] * 39 + [1], first=1)
    assert shares(ordered, static)["motion"].value == pytest.approx((40 - 1) / (40 - 10))


def test_chance_is_the_most_frequent_training_class_or_the_mean_of_several() -> None:
    labels = [0, 0, 0, 1, 2, 2]
    assert chance_hits(labels, np.bincount([0, 1, 1, 2])).mean() == pytest.approx(1 / 6)
    assert chance_hits(labels, np.bincount([0, 1, 1, 2, 2])).mean() == pytest.approx((1 / 6 + 2 / 6) / 2)
    assert chance_hits([0, 1, 2, 3] * 5, np.bincount([3, 2, 1, 0])).mean() == 0.25
    ordered, static = reading("ordered", [1] * 40), reading("static", [1, 0, 0, 0] * 10)
    assert shares(ordered, static, train=[0, 0, 1])["motion"].chance == 25


def test_a_score_near_chance_has_no_shares() -> None:
    assert shares(reading("ordered", [1, 0, 0, 1] * 10), reading("static", [1, 0, 0, 0] * 10)) == {}


def test_samples_of_one_video_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    by_video = rng.integers(0, 2, 30)
    right, lost = [1] * 150, np.repeat(by_video, 5).tolist()
    videos = [f"v{number // 5}" for number in range(150)]
    alone = shares(reading("ordered", right), reading("static", lost))["motion"]
    together = shares(reading("ordered", right, videos), reading("static", lost, videos))["motion"]
    assert together.value == alone.value
    assert together.high - together.low > 1.8 * (alone.high - alone.low)
    one = ["v"] * 150
    assert shares(reading("ordered", right, one), reading("static", lost, one)) == {}


def test_the_ratio_of_a_fixed_proportion_is_certain_and_an_empty_whole_has_none() -> None:
    wholes = np.random.default_rng(0).random(50) + 0.1
    assert bootstrap_ratio_interval(wholes / 4, wholes) == pytest.approx((0.25, 0.25))
    assert bootstrap_ratio_interval(wholes, np.zeros(50)) is None
    with pytest.raises(ValueError, match="one finite number per sample"):
        bootstrap_ratio_interval([1.0, 2.0], [1.0])


def seeds_of(frames: FrameOrder, trained_on: FrameOrder, rates: list[float], videos: int = 400) -> Reading:
    rng = np.random.default_rng(sum(map(ord, frames + trained_on)))
    answers = [reading(frames, (rng.random(videos) < rate).astype(int).tolist()).answers for rate in rates]
    return Reading(frames, trained_on, answers[0], failed=0, further=tuple(answers[1:]))


def test_the_difference_of_one_probe_is_that_of_paired_samples() -> None:
    found = order_difference(
        reading("ordered", [1] * 90 + [0] * 10), reading("static", [1] * 25 + [0] * 75), metric_of("top1")
    )
    assert found and found.value == 65 and found.n == 100 and 50 < found.low < 65 < found.high < 80
    ordered, late = reading("ordered", [1] * 40), reading("static", [0] * 40, first=39)
    assert order_difference(ordered, late, metric_of("top1")) is None, "one sample in common"


def test_differences_and_shares_hold_the_variance_of_trainings() -> None:
    ordered, steady = seeds_of("ordered", "ordered", [0.8] * 3), seeds_of("static", "static", [0.4] * 3)
    moving = seeds_of("static", "static", [0.2, 0.4, 0.6])
    small, large = (order_difference(ordered, other, metric_of("top1")) for other in (steady, moving))
    assert small and large and large.high - large.low > 3 * (small.high - small.low)
    assert small.value == pytest.approx(40, abs=5)
    sure, unsure = shares(ordered, steady)["motion"], shares(ordered, moving)["motion"]
    assert sure.low < sure.value < sure.high and unsure.high - unsure.low > 3 * (sure.high - sure.low)
    assert sure.chance == 25 and 0.6 < sure.value < 0.85
    tied = shares(ordered, steady, train=[0, 0, 1, 1, 2])["motion"]
    assert tied.chance == 25, "the mean of classes that are equally frequent"


def test_one_probe_on_other_clips_is_paired_seed_by_seed() -> None:
    ordered = seeds_of("ordered", "ordered", [0.5, 0.7, 0.9])
    other = [0.2, 0.4, 0.6]
    same, apart = (seeds_of("static", on, other) for on in ("ordered", "static"))
    paired, alone = (order_difference(ordered, one, metric_of("top1")) for one in (same, apart))
    assert paired and alone and paired.high - paired.low < (alone.high - alone.low) / 2
