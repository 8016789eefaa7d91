"""Intervals against closed forms, another implementation, and their own promise of coverage."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bench.metrics.intervals import bootstrap_interval, wilson_interval

counts = st.integers(1, 30_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 11), (18_500, 24_777)])
def test_wilson_agrees_with_scipy(correct: int, n: int, confidence: float) -> None:
    expected = binomtest(correct, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(correct, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(counts)
def test_wilson_holds_the_score_and_mirrors(count: tuple[int, int]) -> None:
    correct, n = count
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert (low == 0) == (correct == 0)
    assert (high == 1) == (correct == n)
    assert (1 - high, 1 - low) == pytest.approx(wilson_interval(n - correct, n), abs=1e-12)
    wide_low, wide_high = wilson_interval(correct, n, 0.99)
    assert wide_low <= low
    assert high <= wide_high


@pytest.mark.parametrize("accuracy", [0.05, 0.5, 0.9])
def test_wilson_covers_the_truth_as_often_as_it_says(accuracy: float) -> None:
    n = 400
    drawn = np.random.RandomState(0).binomial(n, accuracy, size=4000)
    intervals = [wilson_interval(int(correct), n) for correct in drawn]
    covered = np.mean([low <= accuracy <= high for low, high in intervals])
    assert 0.935 < covered < 0.97


@pytest.mark.parametrize(
    "arguments", [(0, 0), (-1, 5), (6, 5), (1, 5, 0.0), (1, 5, 1.0)], ids=lambda arguments: str(arguments)
)
def test_wilson_refuses_what_is_no_proportion(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"must be|at least one"):
        wilson_interval(*arguments)


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.RandomState(1).normal(3.0, 2.0, size=2000)
    reach = 1.96 * values.std() / sqrt(len(values))
    low, high = bootstrap_interval(values)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach), abs=0.1 * reach)


def test_samples_of_one_video_do_not_count_as_independent() -> None:
    videos = np.random.RandomState(2).randint(0, 2, size=300)
    copies = np.repeat(videos, 9)
    clustered = bootstrap_interval(copies, groups=np.repeat(np.arange(300), 9))
    assert clustered == pytest.approx(bootstrap_interval(videos), abs=0.01)
    naive = bootstrap_interval(copies)
    assert clustered.high - clustered.low == pytest.approx(3 * (naive.high - naive.low), rel=0.1)


def test_groups_of_unequal_size_weigh_by_their_samples() -> None:
    low, high = bootstrap_interval([1.0] * 99 + [0.0], groups=["long"] * 99 + ["short"])
    assert (low, high) == (0.0, 1.0)
    middle = bootstrap_interval([1.0] * 99 + [0.0], groups=["long"] * 99 + ["short"], confidence=0.2)
    assert middle == pytest.approx((0.99, 0.99))


def test_the_name_of_a_group_does_not_matter() -> None:
    values = [0, 1, 1, 0, 1, 1]
    assert bootstrap_interval(values, list("aabbcc")) == bootstrap_interval(values, [0, 0, 1, 1, 2, 2])


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.integers(0, 99))
def test_bootstrap_is_repeatable_and_stays_within_the_values(values: list[float], seed: int) -> None:
    interval = bootstrap_interval(values, draws=50, seed=seed)
    assert interval == bootstrap_interval(values, draws=50, seed=seed)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], None, "at least two"),
        ([1.0], None, "at least two"),
        ([1.0, 0.0], ["v", "v"], "at least two"),
        ([1.0, float("nan")], None, "finite"),
        ([[1.0, 0.0]], None, "per sample"),
        ([1.0, 0.0], ["v"], "per sample"),
    ],
)
def test_bootstrap_refuses_what_has_no_interval(values: list[float], groups: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, groups)
