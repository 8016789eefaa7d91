"""Paired differences against published figures, other implementations, enumeration, and their own promises."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bench.metrics.intervals import detectable_difference, paired, power_of_test, sign_flip_tails, unpaired_interval

outcomes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_a, only_b, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def test_a_published_example_comes_out() -> None:
    # Cavo et al. 2012 in Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables, chapter 8.
    found = paired(*pairs(59, 6, 16, 80))
    assert (found.difference, found.low, found.high) == pytest.approx((-0.0621, -0.1240, -0.0054), abs=5e-5)
    assert found.p_value == pytest.approx(0.052479, abs=5e-7)
    assert (found.n, found.wins, found.losses, found.clusters) == (161, 6, 16, 161)


@given(outcomes)
def test_the_test_is_exact_mcnemar_and_the_interval_holds_the_difference(values: list[tuple[int, int]]) -> None:
    a, b = np.array(values).T
    found = paired(a, b)
    discordant = found.wins + found.losses
    assert found.p_value == pytest.approx(binomtest(found.wins, discordant).pvalue if discordant else 1.0)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert -1 <= found.low <= found.difference <= found.high <= 1
    mirrored = paired(b, a)
    assert (mirrored.low, mirrored.high, mirrored.p_value) == pytest.approx((-found.high, -found.low, found.p_value))


@given(outcomes)
def test_groups_of_one_sample_change_nothing(values: list[tuple[int, int]]) -> None:
    a, b = np.array(values).T
    if len(a) > 1:
        assert paired(a, b, groups=[f"video {i}" for i in range(len(a))]) == paired(a, b)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_sign_flips_are_all_enumerated(sums: list[int]) -> None:
    totals = np.array(list(product((-1, 1), repeat=len(sums)))) @ np.abs(sums)
    lower, upper = sign_flip_tails(np.array(sums))
    assert (lower, upper) == pytest.approx(((totals <= sum(sums)).mean(), (totals >= sum(sums)).mean()))


def test_copies_of_a_video_are_not_more_evidence() -> None:
    a, b = pairs(100, 30, 15, 55)
    alone, copied = paired(a, b), paired(np.repeat(a, 5), np.repeat(b, 5), groups=np.repeat(np.arange(200), 5))
    assert copied.p_value == pytest.approx(alone.p_value)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.002)
    assert copied.design_effect == pytest.approx(5, rel=0.02)
    assert copied.mde == pytest.approx(alone.mde, rel=0.02)
    assert (copied.n, copied.clusters) == (1000, 200)


def test_a_comparison_with_itself_says_nothing_and_promises_little() -> None:
    a, _ = pairs(500, 0, 0, 300)
    found = paired(a, a)
    assert (found.difference, found.p_value) == (0, 1)
    assert (-found.low, found.high) == pytest.approx((1.96**2 / (800 + 1.96**2),) * 2, rel=1e-3)
    # Eight discordant samples, all on one side, are found in four of five cases.
    assert found.mde == pytest.approx(7.9 / 800, rel=0.02)


@pytest.mark.parametrize(("n", "discordance"), [(320, 0.1), (1000, 0.2), (24777, 0.1)])
def test_the_detectable_difference_is_found_in_four_of_five_cases(n: int, discordance: float) -> None:
    least = detectable_difference(n, discordance)
    assert least is not None
    assert power_of_test(n, discordance, least, 0.025) == pytest.approx(0.8, abs=1e-3)
    only_a = np.random.RandomState(0).binomial(n, discordance, 4000)
    right = np.random.RandomState(1).binomial(only_a, (1 + least / discordance) / 2)
    found = [binomtest(k, m).pvalue < 0.05 for k, m in zip(right[:1000], only_a[:1000], strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("n", [1, 5])
def test_five_samples_can_show_nothing(n: int) -> None:
    assert paired([1] * n, [0] * n).mde is None
    assert paired([1] * n, [0] * n).p_value > 0.05


def test_intervals_cover_and_equal_models_raise_few_alarms() -> None:
    counts = np.random.RandomState(0).multinomial(500, [0.6, 0.06, 0.06, 0.28], size=1500)
    found = [paired(*pairs(*row)) for row in counts]
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.015)
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.05


def test_unpaired_scores_get_newcombes_interval() -> None:
    # Newcombe 1998, example (a): 56 of 70 against 48 of 80.
    assert unpaired_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "groups", "message"),
    [
        ([], [], None, "same samples"),
        ([1, 0], [1], None, "same samples"),
        ([2, 0], [1, 0], None, "0 or 1"),
        ([0.5, 0], [1, 0], None, "0 or 1"),
        ([[1]], [[1]], None, "0 or 1"),
        ([1, 0], [0, 1], ["v"], "one entry per sample"),
        ([1, 0], [0, 1], ["v", "v"], "at least two groups"),
    ],
)
def test_what_is_no_pair_of_outcomes_is_refused(a: list[int], b: list[int], groups: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired(a, b, groups)
