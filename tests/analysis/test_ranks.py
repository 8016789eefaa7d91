"""Paired tests: SciPy's numbers, what they mean for ranks, and differences with honest intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.analysis.change import change_of_hits
from bench.analysis.ranks import Ranks, hits_of, holm, mcnemar_p, p_of_hits, p_of_scores, rank_intervals, wins
from bench.metrics.resample import Resampled
from bench.metrics.trainings import difference, trainings
from bench.records.tables.outcomes import Outcomes


def outcomes(*seeds: list[int] | np.ndarray) -> list[Outcomes]:
    """A model with the 0/1 outcomes of each seed."""
    bits = [int("".join(str(int(one)) for one in seed[::-1]), 2) for seed in seeds]
    return [Outcomes("ids", len(seeds[0]), right, Path()) for right in bits]


def model(*seeds: list[int] | np.ndarray) -> np.ndarray:
    """The outcomes of a model, [K, n]."""
    return hits_of(outcomes(*seeds))


def ranks(models: list[np.ndarray], videos: list[int] | range | None = None) -> list[Ranks]:
    """The ranks of models with these outcomes."""
    return rank_intervals([one.mean() for one in models], p_of_hits(models, videos))


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
    won = wins(np.array([[1, 1, 1, 0, 0], [1, 0, 0, 1, 0]]))
    assert won.tolist() == [[0, 2], [1, 0]]


def test_wins_are_counted_over_all_samples_of_a_large_set() -> None:
    stream = np.random.default_rng(0)
    a, b = stream.random((2, 10_000)) < [[0.6], [0.5]]
    won = wins(np.stack([a, b]))
    assert (won[0, 1], won[1, 0]) == ((a & ~b).sum(), (b & ~a).sum())


@pytest.mark.parametrize(("seeds_a", "seeds_b"), [(3, 3), (2, 5), (3, 1)])
def test_with_seeds_models_are_tested_over_samples_and_trainings(seeds_a: int, seeds_b: int) -> None:
    stream = np.random.default_rng(0)
    a, b = stream.random((seeds_a, 200)) < 0.6, stream.random((seeds_b, 200)) < 0.5
    made = [trainings(100.0 * one, 100 * one.mean(axis=1)) for one in (a, b)]
    assert p_of_hits([model(*a), model(*b)])[0, 1] == pytest.approx(difference(*made).p_value)


def test_models_of_one_seed_keep_their_exact_test_beside_others_of_several() -> None:
    stream = np.random.default_rng(0)
    one, two, three = (model(*(stream.random((seeds, 200)) < 0.6)) for seeds in (1, 1, 3))
    assert (
        p_of_hits([one, three, two])[0, 2]
        == p_of_hits([one, two])[0, 1]
        == mcnemar_p(*(int((a > b).sum()) for a, b in ((one, two), (two, one))))
    )


def test_other_metrics_are_tested_by_what_each_video_adds() -> None:
    stream = np.random.default_rng(0)

    def scores(seeds: int, level: float) -> list[Resampled]:
        added = level + stream.normal(size=(seeds, 12))
        return [Resampled("s", float(one.mean()), one, np.zeros(1, np.float32)) for one in added]

    models = [scores(1, 1.0), scores(1, -1.0), scores(3, 1.0), scores(3, -1.0)]
    p = p_of_scores(models)
    assert p[0, 1] >= 2 / 2**12 and p[0, 1] < 0.01
    made = [trainings(np.stack([one.pseudo for one in seeds]), [one.value for one in seeds]) for seeds in models]
    assert p[2, 3] == pytest.approx(difference(made[2], made[3]).p_value) and p[2, 3] < 0.01
    assert rank_intervals([3.0, 1.0], np.array([[1, 0.01], [0.01, 1]]), higher_is_better=False)[0] == Ranks(2, 2)


def test_holm_stops_at_the_first_that_fails() -> None:
    assert holm([0.04, 0.001, 0.02, 0.02]).tolist() == [False, True, False, False]
    assert holm([0.0125, 0.016, 0.024, 0.05]).tolist() == [True, True, True, True]
    assert holm([0.0126, 0.016, 0.024, 0.05]).tolist() == [False] * 4
    assert holm([]).tolist() == []


def test_models_that_no_test_can_separate_may_have_the_same_ranks() -> None:
    n = 400
    counts = {"best": 360, "close": 350, "far": 200, "last": 40}
    made = {name: model([1] * right + [0] * (n - right)) for name, right in counts.items()}
    assert ranks(list(made.values())) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    # Ten wins and none lost is significant; ten wins and six lost is not.
    made["close"] = model([0] * 6 + [1] * 360 + [0] * (n - 366))
    made["best"] = model([1] * 364 + [0] * (n - 364))
    assert ranks(list(made.values())) == [(1, 2), (1, 2), (3, 3), (4, 4)]


def test_ranks_overlap_where_being_told_apart_goes_in_no_order() -> None:
    p = np.ones((3, 3))
    p[0, 2] = p[2, 0] = 0.001
    assert rank_intervals([62, 61, 60], p) == [(1, 2), (1, 3), (2, 3)]


def test_equal_models_have_all_ranks() -> None:
    assert ranks([model([1, 0, 1]), model([1, 0, 1])]) == [(1, 2), (1, 2)]


@pytest.mark.parametrize("seeds", [1, 3])
def test_false_separations_of_equal_models_are_rare(seeds: int) -> None:
    """Five models that are equally good, 300 boards: any separation at all in at most 5 % of them."""
    stream = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        # Trainings move the accuracy by 3 points.
        levels = 0.6 + 0.03 * stream.normal(size=(5, seeds, 1)) * (seeds > 1)
        alarms += max(ranks([model(*(stream.random((seeds, 200)) < level)) for level in levels])).low > 1
    assert alarms <= 0.05 * 300


def test_models_whose_answers_are_unsteady_are_not_separated_by_that_alone() -> None:
    """Equally good on average: one is right on the same samples in every training, another on others each time."""
    stream = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        easy = stream.random(400)
        steady = [(easy < 0.7) ^ (stream.random(400) < 0.02) for _ in range(3)]
        level = np.mean([one.mean() for one in steady])
        unsteady = [stream.random(400) < np.where(easy < 0.5, 0.9, (level - 0.45) / 0.5) for _ in range(3)]
        alarms += ranks([model(*steady), model(*unsteady)])[0] != (1, 2)
    assert alarms <= 0.07 * 300


def copies(count: int) -> tuple[list[np.ndarray], list[int]]:
    """Two models on 20 videos, 12 of which only the first gets right and 3 only the second, each cut `count` times."""
    a, b = np.array([1] * 12 + [0] * 3 + [1] * 5), np.array([0] * 12 + [1] * 3 + [1] * 5)
    return [np.repeat(a, count), np.repeat(b, count)], list(np.repeat(range(20), count))


def test_cutting_videos_into_more_samples_makes_nothing_more_certain() -> None:
    cut, videos = copies(10)
    pair, uncut = [model(one) for one in cut], [model(one) for one in copies(1)[0]]
    assert ranks(pair) == [(1, 1), (2, 2)]
    assert ranks(pair, videos) == ranks(uncut) == [(1, 1), (2, 2)]
    weak = [pair[0][:, :160], pair[1][:, :160]]  # 12 videos against 3, then none where both are right
    assert ranks([*weak, weak[0]], videos[:160])[:2] == [(1, 3), (1, 3)] != ranks([*weak, weak[0]])[:2]
    alone, together = change_of_hits(*pair), change_of_hits(*pair, np.array(videos))
    assert alone.difference == together.difference == pytest.approx(45)
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_intervals_of_differences_hold_the_truth_in_95_percent() -> None:
    stream = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        hard = stream.random(150)
        a, b = hard + 0.3 * stream.random(150) < 0.85, hard + 0.3 * stream.random(150) < 0.80
        found = change_of_hits(1 * a[None], 1 * b[None])
        held += found.low <= 5.0 <= found.high
    assert 0.935 <= held / 2000 <= 0.975
