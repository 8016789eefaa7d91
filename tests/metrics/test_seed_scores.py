"""The score of several probes is their mean; its interval holds test samples, whole groups of them, and trainings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_answers import FORMS_MADE, MADE
from scipy.stats import norm

from bench.metrics.accuracy import ClassAnswers, class_answers
from bench.metrics.metric import metric_of
from bench.metrics.score import Score
from bench.metrics.seed_scores import score_all, score_of_seeds

TOP1 = metric_of("top1")
ACCURACY = 0.7


def said(hits: np.ndarray, groups: np.ndarray | None = None) -> ClassAnswers:
    """Answers that are right where `hits` says 1."""
    names = [f"clip_{place}" for place in range(len(hits))]
    answers = class_answers(names, np.zeros(len(hits), np.int64), np.stack([hits, 1 - hits], axis=1))
    return replace(answers, groups=groups)


def simulated(random: np.random.RandomState, seeds: int, groups: int, each: int, training_sd: float) -> Score:
    """A score of probes whose accuracy varies by `training_sd` points, on groups of samples that are alike."""
    member = np.repeat(np.arange(groups), each)
    alike = (random.randn(groups)[member] + random.randn(len(member))) / np.sqrt(2)
    cut, probes = norm.ppf(ACCURACY), []
    shift = training_sd / 100 / norm.pdf(cut)
    for _ in range(seeds):
        latent = np.sqrt(0.9) * alike + np.sqrt(0.1) * random.randn(len(member))
        hits = (latent < cut * np.sqrt(1 + shift**2) + shift * random.randn()).astype(np.int64)
        probes.append(said(hits, member if each > 1 else None))
    return score_of_seeds(TOP1, probes, failed=0)


def covered(seeds: int, groups: int, each: int, training_sd: float) -> float:
    """Share of simulated intervals that hold the true accuracy."""
    random = np.random.RandomState(0)
    scores = [simulated(random, seeds, groups, each, training_sd) for _ in range(500)]
    return float(np.mean([score.low <= 100 * ACCURACY <= score.high for score in scores]))


@pytest.mark.parametrize(
    ("seeds", "samples", "training_sd"), [(1, 300, 0.0), (3, 300, 0.0), (3, 300, 2.0), (5, 300, 2.0), (5, 300, 4.0)]
)
def test_intervals_hold_the_mean_over_samples_and_trainings(seeds, samples, training_sd) -> None:
    assert 0.93 <= covered(seeds, samples, 1, training_sd) <= 0.97


@pytest.mark.parametrize(("seeds", "training_sd"), [(1, 0.0), (3, 3.0), (5, 0.0)])
def test_intervals_over_few_groups_err_to_the_safe_side(seeds, training_sd) -> None:
    assert 0.95 <= covered(seeds, 60, 5, training_sd) <= 0.99


def test_intervals_that_ignored_groups_would_be_too_narrow() -> None:
    random = np.random.RandomState(0)
    hits = np.repeat(random.rand(60) < ACCURACY, 5).astype(np.int64)
    alone, grouped = (score_of_seeds(TOP1, [said(hits, groups)], 0) for groups in (None, np.arange(300) // 5))
    assert grouped.value == alone.value and grouped.sampling_se == pytest.approx(5**0.5 * alone.sampling_se, rel=0.02)
    assert (grouped.high - grouped.low) > 2 * (alone.high - alone.low)
    assert alone.interval == "Wilson, 95 %" and "60 groups of samples" in grouped.interval


def test_groups_of_one_sample_are_samples() -> None:
    hits = np.array([1, 1, 0, 1])
    assert score_of_seeds(TOP1, [said(hits, np.arange(4))], 0) == score_of_seeds(TOP1, [said(hits)], 0)


@pytest.mark.parametrize(("hits", "seeds"), [([1, 1, 0, 1], 1), ([1, 1, 0, 1], 3), ([1], 3)])
def test_nothing_is_known_of_samples_of_one_group(hits: list[int], seeds: int) -> None:
    score = score_of_seeds(TOP1, [said(np.array(hits), np.zeros(len(hits)))] * seeds, 0)
    assert (score.low, score.high, score.sampling_se) == (0, 100, None) and score.interval.startswith("none: ")


@pytest.mark.parametrize("name", MADE)
def test_one_probe_keeps_the_interval_of_its_metric(name: str) -> None:
    answers = MADE[name](0)
    own, score = metric_of(name).score(answers, 2), score_of_seeds(metric_of(name), [answers], 2)
    assert (score.seeds, score.training_sd, score.failed) == (1, None, 2) and score.sampling_se > 0
    if name != "top1":  # whose samples come in groups
        assert score == own.model_copy(update={"sampling_se": score.sampling_se})


@pytest.mark.parametrize("name", MADE)
def test_several_probes_score_their_mean_with_both_parts_of_its_variance(name: str) -> None:
    probes = [MADE[name](0, model) for model in (1, 2, 3)]
    each = [metric_of(name).score(answers, 0).value for answers in probes]
    score = score_of_seeds(metric_of(name), probes, 0)
    assert score.value == pytest.approx(np.mean(each)) and score.training_sd == pytest.approx(np.std(each, ddof=1))
    assert score.low < score.value - 1.96 * score.sampling_se < score.value < score.high and score.seeds == 3
    assert Score.model_validate(score.model_dump()) == score
    again = score_of_seeds(metric_of(name), [MADE[name].shuffled(answers) for answers in probes], 0)
    assert (again.value, again.low, again.sampling_se) == pytest.approx((score.value, score.low, score.sampling_se))


@pytest.mark.parametrize("form", FORMS_MADE)
def test_probes_that_agree_are_as_wide_as_samples_alone(form: str) -> None:
    answers = FORMS_MADE[form](0, 1, 1.0, 40)
    same, alone = score_all(answers, 0, [answers] * 2), score_all(answers, 0)
    for mean, part in zip(same.breakdowns, alone.breakdowns, strict=True):
        assert mean.values == pytest.approx(part.values)
    for three, one in zip(same.scores, alone.scores, strict=True):
        assert three.training_sd == 0 and three.sampling_se == pytest.approx(one.sampling_se)
        assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.35)
