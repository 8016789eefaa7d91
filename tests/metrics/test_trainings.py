"""Intervals and tests over seeds and samples keep their promises on simulated models, and say what formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from bench.metrics.resample import MeanSums
from bench.metrics.trainings import Trainings, difference, interval, p_values, share_interval, trainings

GROUPS = 200


class Encoder:
    """Makes answers of retrained probes: how easy each sample is, and how good each training turned out."""

    def __init__(self, rng: np.random.Generator, share: float, training_sd: float, noise: float = 0.6) -> None:
        self.rng, self.share, self.training_sd, self.noise = rng, share, training_sd, noise

    def samples(self, groups: int = GROUPS) -> np.ndarray:
        return self.rng.normal(size=groups)

    def hits(self, easy: np.ndarray, seeds: int) -> np.ndarray:
        # A threshold on a normal: a training shifts it by so much that the share moves by `training_sd`.
        from scipy.stats import norm

        own = norm.ppf(self.share) + self.rng.normal(0, self.training_sd / 100 / norm.pdf(norm.ppf(self.share)), seeds)
        noise = self.noise * self.rng.normal(size=(seeds, len(easy)))
        score = (easy + noise) / np.sqrt(1 + self.noise**2)
        hits: np.ndarray = (score < own[:, None]).astype(np.int64)
        return hits


def of_hits(hits: np.ndarray) -> Trainings:
    return trainings(100.0 * hits, 100 * hits.mean(axis=1))


@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("training_sd", [0.0, 1.5])
def test_an_interval_covers_the_mean_over_seeds_and_samples(seeds: int, training_sd: float) -> None:
    rng = np.random.default_rng(7)
    encoder = Encoder(rng, 0.7, training_sd if seeds > 1 else 0.0)
    found = [share_interval(of_hits(encoder.hits(encoder.samples(), seeds))) for _ in range(1000)]
    covered = np.mean([low <= 70 <= high for low, high in found])
    assert 0.93 <= covered <= 0.975


def test_an_interval_of_the_samples_alone_misses_what_trainings_move() -> None:
    rng = np.random.default_rng(1)
    encoder = Encoder(rng, 0.7, 6.0)
    alone = [interval(of_hits(encoder.hits(encoder.samples(), 1))) for _ in range(300)]
    both = [interval(of_hits(encoder.hits(encoder.samples(), 5))) for _ in range(300)]
    assert np.mean([low <= 70 <= high for low, high in alone]) < 0.8
    assert np.mean([low <= 70 <= high for low, high in both]) > 0.92


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (5, 5), (3, 5)])
@pytest.mark.parametrize("training_sd", [0.0, 1.0, 4.0])
def test_an_encoder_against_itself_retrained_differs_in_at_most_5_percent(
    seeds: tuple[int, int], training_sd: float
) -> None:
    rng = np.random.default_rng(2)
    encoder, alarms, drops = Encoder(rng, 0.7, training_sd), [], []
    for _ in range(500):
        easy = encoder.samples()
        a, b = (of_hits(encoder.hits(easy, number)) for number in seeds)
        found = difference(a, b)
        alarms.append(found.p_value <= 0.05)
        drops.append(found.p_lower <= 0.05)
    # 5 % and two standard errors of 500 trials.
    assert np.mean(alarms) <= 0.07
    assert np.mean(drops) <= 0.07


def test_the_power_is_about_what_the_detectable_difference_says() -> None:
    rng = np.random.default_rng(3)
    better, worse = Encoder(rng, 0.70, 1.0), Encoder(rng, 0.65, 1.0)
    found = []
    for _ in range(400):
        easy = better.samples()
        found.append(difference(of_hits(better.hits(easy, 5)), of_hits(worse.hits(easy, 5))))
    mde = np.mean([one.mde for one in found if one.mde])
    assert mde == pytest.approx(5, abs=0.5)
    assert np.mean([one.p_value <= 0.05 for one in found]) == pytest.approx(0.8, abs=0.08)


def test_the_variance_is_that_of_crossed_random_effects() -> None:
    y = np.array([[10.0, 20.0, 60.0], [20.0, 50.0, 80.0]])
    one = trainings(y, y.mean(axis=1))
    assert (one.value, one.seeds) == (40.0, 2)
    assert one.sampling_se == pytest.approx(np.sqrt(np.var([15, 35, 70], ddof=1) / 3))
    assert one.training_sd == pytest.approx(np.std([30, 50], ddof=1))
    # Interaction: [[5, -5, 0], [-5, 5, 0]] with two degrees of freedom.
    assert one.interaction == pytest.approx(100 / 2 / 6)
    assert one.standard_error**2 == pytest.approx(one.sampling_se**2 + 200 / 2 - 100 / 12)
    assert one.freedom == pytest.approx(one.standard_error**4 / (one.sampling_se**4 / 2 + 100**2 / 1))


def test_the_variance_is_never_below_that_of_the_samples() -> None:
    # Both seeds have one score, and all they differ in is interaction.
    y = np.array([[100.0, 0.0, 100.0, 0.0], [0.0, 100.0, 0.0, 100.0], [100.0, 100.0, 0.0, 0.0]])
    one = trainings(y, y.mean(axis=1))
    assert one.training_sd == 0
    assert one.standard_error == one.sampling_se


def test_one_seed_has_no_part_of_trainings() -> None:
    one = trainings([[0.0, 100.0, 100.0]], [66.0])
    assert one.training_sd is None
    assert one.standard_error == one.sampling_se == pytest.approx(100 / 3)
    assert one.freedom == 2
    low, high = interval(one)
    assert high - low == pytest.approx(2 * t.ppf(0.975, 2) * 100 / 3)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("right", [0, 1, 39, 40])
def test_a_share_near_an_end_keeps_a_width_within_0_to_100(seeds: int, right: int) -> None:
    hits = np.zeros((seeds, 40), np.int64)
    hits[:, :right] = 1
    low, high = share_interval(of_hits(hits))
    assert 0 <= low <= 100 * right / 40 <= high <= 100
    assert high - low > 5


def test_scores_that_are_no_means_of_their_groups_are_taken_as_they_are() -> None:
    sums = MeanSums.of([0, 100, 100], np.array(["a", "a", "b"]))
    one = trainings([sums.sums, sums.sums], [10.0, 14.0])
    assert one.value == 12
    assert one.training_sd == pytest.approx(np.sqrt(8))


def test_all_pairs_at_once_are_the_pairs_one_by_one() -> None:
    rng = np.random.default_rng(4)
    encoder = Encoder(rng, 0.6, 2.0)
    easy = encoder.samples(50)
    models = [of_hits(encoder.hits(easy, seeds)) for seeds in (2, 3, 3, 5)]
    models.append(models[0])
    one_by_one = [[difference(a, b).p_value for b in models] for a in models]
    assert p_values(models) == pytest.approx(np.array(one_by_one))
    assert p_values(models)[0, 4] == 1


@pytest.mark.parametrize(("changed", "least"), [(0, 1.0), (3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_few_groups_that_differ_show_no_more_than_their_signs(changed: int, least: float) -> None:
    worse = np.zeros((3, 400), np.int64)
    better = worse.copy()
    better[:, :changed] = 1
    found = difference(of_hits(better), of_hits(worse))
    assert found.p_value >= least
    assert (found.wins, found.losses) == (changed, 0)


@pytest.mark.parametrize(
    ("y", "values"),
    [([[1.0]], [1.0]), ([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [1.0, 2.0]), ([[np.nan, 2.0]], [1.0]), ([], [])],
)
def test_what_has_no_variance_is_refused(y: list[object], values: list[float]) -> None:
    with pytest.raises(ValueError):
        trainings(y, values)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        difference(of_hits(np.eye(3, dtype=np.int64)), of_hits(np.eye(4, dtype=np.int64)))
