"""Paired tests: SciPy's numbers, what they mean for ranks, and differences with honest intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.analysis.change import paired_seeds
from bench.analysis.ranks import difference, holm, mcnemar_p, ranks, shares, wins
from bench.metrics.intervals import paired
from bench.records.tables.outcomes import Outcomes


def outcomes(*seeds: list[int] | np.ndarray) -> list[Outcomes]:
    """A model with the 0/1 outcomes of each seed."""
    bits = [int("".join(str(int(one)) for one in seed[::-1]), 2) for seed in seeds]
    return [Outcomes("ids", len(seeds[0]), right, Path()) for right in bits]


def model(*seeds: list[int] | np.ndarray) -> np.ndarray:
    """The shares of a model with the 0/1 outcomes of each seed."""
    return shares(outcomes(*seeds))


@pytest.mark.parametrize(
    ("won", "lost"), [(0, 0), (5, 5), (1, 0), (9, 1), (0, 12), (40, 60), (700, 500), (20_000, 20_300)]
)
def test_the_exact_test_gives_the_p_value_of_scipy(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar_p(won, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(lost, won) == mcnemar_p(won, lost)


def test_many_pairs_are_tested_at_once() -> None:
    won, lost = np.array([9, 40, 9, 0]), np.array([1, 60, 1, 0])
    assert mcnemar_p(won, lost).tolist() == [mcnemar_p(w, v) for w, v in zip(won, lost, strict=True)]


def test_an_overwhelming_difference_is_no_error() -> None:
    assert mcnemar_p(30_000, 0) == 0


def test_wins_are_samples_that_only_one_model_gets_right() -> None:
    won = wins(np.stack([model([1, 1, 1, 0, 0]), model([1, 0, 0, 1, 0])]))
    assert won.tolist() == [[0, 2], [1, 0]]


def test_wins_are_counted_over_all_samples_of_a_large_set() -> None:
    stream = np.random.default_rng(0)
    a, b = stream.random((2, 10_000)) < [[0.6], [0.5]]
    won = wins(np.stack([model(a), model(b)]))
    assert (won[0, 1], won[1, 0]) == ((a & ~b).sum(), (b & ~a).sum())


@pytest.mark.parametrize(("seeds_a", "seeds_b"), [(1, 1), (3, 3), (3, 1), (2, 3), (1, 4)])
def test_with_seeds_a_sample_counts_for_the_higher_share_of_right_seeds(seeds_a: int, seeds_b: int) -> None:
    stream = np.random.default_rng(0)
    a, b = stream.random((seeds_a, 200)) < 0.6, stream.random((seeds_b, 200)) < 0.5
    won = wins(np.stack([model(*a), model(*b)]))
    assert model(*a).mean() == pytest.approx(a.mean())
    assert won[0, 1] == (a.mean(axis=0) > b.mean(axis=0) + 1e-9).sum()
    assert won[1, 0] == (b.mean(axis=0) > a.mean(axis=0) + 1e-9).sum()


def test_holm_stops_at_the_first_that_fails() -> None:
    assert holm([0.04, 0.001, 0.02, 0.02]).tolist() == [False, True, False, False]
    assert holm([0.0125, 0.016, 0.024, 0.05]).tolist() == [True, True, True, True]
    assert holm([0.0126, 0.016, 0.024, 0.05]).tolist() == [False] * 4
    assert holm([]).tolist() == []


def test_models_that_no_test_can_separate_share_a_rank() -> None:
    n = 400
    counts = {"best": 360, "close": 350, "far": 200, "last": 40}
    made = {name: model([1] * right + [0] * (n - right)) for name, right in counts.items()}
    assert ranks(list(made.values())) == [1, 2, 3, 4]
    # Ten wins and none lost is significant; ten wins and six lost is not.
    made["close"] = model([0] * 6 + [1] * 360 + [0] * (n - 366))
    made["best"] = model([1] * 364 + [0] * (n - 364))
    assert ranks(list(made.values())) == [1, 1, 3, 4]


def test_equal_models_are_first_together() -> None:
    assert ranks([model([1, 0, 1]), model([1, 0, 1])]) == [1, 1]


def test_false_separations_of_equal_models_are_rare() -> None:
    """Five models that are equally good, 300 boards: any separation at all in at most 5 % of them."""
    stream = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        alarms += max(ranks([model(stream.random(200) < 0.6) for _ in range(5)])) > 1
    assert alarms <= 0.05 * 300


def test_a_difference_is_the_one_of_a_comparison() -> None:
    a, b = [1, 1, 1, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 1, 1, 1]
    found = paired(a, b)
    assert difference(outcomes(a), outcomes(b)) == (12.5, 100 * found.low, 100 * found.high)
    found = paired_seeds(np.array([a, b]), np.array([b, b]))
    assert difference(outcomes(a, b), outcomes(b, b)) == (6.25, 100 * found.low, 100 * found.high)


def test_a_model_with_fewer_seeds_is_compared_with_each_seed_of_the_other() -> None:
    a, b, c = [1, 1, 1, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 1, 1, 1], [0, 0, 1, 1, 0, 1, 1, 0]
    assert difference(outcomes(a, b), outcomes(c)) == difference(outcomes(a, b), outcomes(c, c))
    assert difference(outcomes(a, b, c), outcomes(c, a))[0] == pytest.approx(100 * (15 / 24 - 10 / 16))


def test_models_that_never_differ_still_have_an_interval() -> None:
    value, low, high = difference(outcomes([1, 0] * 50), outcomes([1, 0] * 50))
    assert value == 0
    assert -5 < low < 0 < high < 5


def copies(count: int) -> tuple[list[np.ndarray], list[int]]:
    """Two models on 20 videos, 12 of which only the first gets right and 3 only the second, each cut `count` times."""
    a, b = np.array([1] * 12 + [0] * 3 + [1] * 5), np.array([0] * 12 + [1] * 3 + [1] * 5)
    return [np.repeat(a, count), np.repeat(b, count)], list(np.repeat(range(20), count))


def test_cutting_videos_into_more_samples_makes_nothing_more_certain() -> None:
    cut, videos = copies(10)
    pair, uncut = [model(one) for one in cut], [model(one) for one in copies(1)[0]]
    assert ranks(pair) == [1, 2]
    assert ranks(pair, videos=videos) == ranks(uncut) == [1, 2]
    weak = [pair[0][:160], pair[1][:160]]  # 12 videos against 3, then none where both are right
    assert ranks([*weak, weak[0]], videos=videos[:160])[:2] == [1, 1] != ranks([*weak, weak[0]])[:2]
    a, b = (outcomes(one) for one in cut)
    alone, together = difference(a, b), difference(a, b, videos)
    assert alone[0] == together[0] == pytest.approx(45)
    assert together[2] - together[1] > 3 * (alone[2] - alone[1])


def test_every_sample_alone_is_the_same_with_and_without_videos() -> None:
    stream = np.random.default_rng(0)
    right = [stream.random(300) < level for level in (0.7, 0.6)]
    a, b = (outcomes(one) for one in right)
    assert difference(a, b, range(300)) == pytest.approx(difference(a, b))
    pair = [model(one) for one in right]
    assert ranks(pair, videos=range(300)) == ranks(pair)


def test_intervals_of_differences_hold_the_truth_in_95_percent() -> None:
    stream = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        hard = stream.random(150)
        a, b = hard + 0.3 * stream.random(150) < 0.85, hard + 0.3 * stream.random(150) < 0.80
        _, low, high = difference(outcomes(a), outcomes(b))
        held += low <= 5.0 <= high
    assert 0.935 <= held / 2000 <= 0.975
