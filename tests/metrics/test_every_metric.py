"""What holds for every metric: its sums give the score again, differences have intervals and tests of a level."""

from __future__ import annotations

import numpy as np
import pytest
from made_answers import COUNTS, FORMS_MADE, MADE, Made

from bench.core.errors import BenchError
from bench.metrics.metric import FORMS, form_of, metric_of, title_of
from bench.metrics.resample import Resampled, multiplicities, paired_scores, redrawn, resampled
from bench.metrics.seed_scores import score_all

METRICS = [name for form in FORMS.values() for name in form.metrics]


def test_every_form_is_tried_here() -> None:
    assert FORMS_MADE.keys() == FORMS.keys()


@pytest.fixture(params=METRICS)
def made(request: pytest.FixtureRequest) -> Made:
    return MADE[request.param]


def test_sums_at_ones_are_the_score(made: Made) -> None:
    answers = made(seed=1)
    sums, score = made.metric.sums(answers), made.metric.score(answers, failed=2)
    assert sums.at(np.ones((1, len(sums.groups))))[0] == pytest.approx(score.value, abs=1e-9)
    assert (score.metric, score.failed, score.n) == (made.metric.name, 2, len(answers.samples))
    assert score.low <= score.value <= score.high


def test_a_draw_is_the_score_of_the_groups_that_it_holds(made: Made) -> None:
    answers = made(seed=2)
    sums = made.metric.sums(answers)
    kept = sums.groups[: len(sums.groups) // 2]
    half = made.metric.score(made.only(answers, kept), failed=0)
    weights = np.array([[3.0 * (group in kept) for group in sums.groups]])
    assert sums.at(weights)[0] == pytest.approx(half.value, abs=1e-9)
    assert np.isnan(sums.at(np.zeros((1, len(sums.groups)))))[0]


def test_the_order_of_samples_and_the_numbers_of_videos_mean_nothing(made: Made) -> None:
    answers = made(seed=3)
    other = made.shuffled(answers)
    one, two = resampled(made.metric, answers), resampled(made.metric, other)
    assert one.samples == two.samples and one.value == pytest.approx(two.value, abs=1e-9)
    assert np.allclose(one.pseudo, two.pseudo) and np.allclose(one.draws, two.draws)


def test_what_is_kept_of_a_score_is_read_back(made: Made) -> None:
    one = resampled(made.metric, made(seed=4))
    again = Resampled.from_text(one.to_text(), one.samples, one.value)
    assert again.pseudo.tolist() == one.pseudo.tolist() and again.draws.tolist() == one.draws.tolist()
    with pytest.raises(ValueError, match="not the numbers"):
        Resampled.from_text(one.to_text()[:8], "", 0.0)


def test_a_model_is_not_told_from_itself_and_is_from_a_far_better_one(made: Made) -> None:
    good, same, bad = (resampled(made.metric, made(seed=5, skill=skill)) for skill in (3.0, 3.0, -2.0))
    none = paired_scores([good], [same])
    assert (none.difference, none.low, none.high, none.p_value, none.wins, none.losses) == (0, 0, 0, 1, 0, 0)
    found = paired_scores([good], [bad])
    assert found.low > 0 and found.p_value < 0.01 < 0.99 < found.p_lower
    assert found.difference == pytest.approx(good.value - bad.value)
    turned = paired_scores([bad], [good])
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-5)


def test_other_samples_are_not_paired_and_one_video_is_no_evidence(made: Made) -> None:
    answers = made(seed=6)
    one = resampled(made.metric, answers)
    sums = made.metric.sums(answers)
    fewer = resampled(made.metric, made.only(answers, sums.groups[1:]))
    with pytest.raises(BenchError, match="same samples"):
        paired_scores([one], [fewer])
    alone = resampled(made.metric, made.only(answers, sums.groups[:1]))
    with pytest.raises(BenchError, match="nothing is independent"):
        paired_scores([alone], [alone])


def test_chance_is_what_the_frequencies_of_training_score(made: Made) -> None:
    answers = made(seed=7, skill=3.0)
    said = made.metric.chance(answers, COUNTS)
    assert said is not None and said.sample_digest == answers.sample_digest
    assert made.metric.score(said, failed=0).value < made.metric.score(answers, failed=0).value


def test_classes_are_parts_of_the_score(made: Made) -> None:
    answers = made(seed=8)
    parts = made.metric.by_class(answers)
    if made.metric.name in ("verb-recall@5", "noun-recall@5"):
        assert not parts
        return
    values = [part.value for part in parts.values()]
    weights = [part.n if made.metric.name in ("top1", "pixel-accuracy") else 1 for part in parts.values()]
    assert np.average(values, weights=weights) == pytest.approx(made.metric.score(answers, 0).value)


def test_a_run_has_every_score_of_its_form(made: Made) -> None:
    answers = made(seed=9)
    assert [score.metric for score in score_all(answers, 0).scores] == list(FORMS[answers.form].metrics)
    assert form_of(made.metric.name) == answers.form and title_of(made.metric.name) == made.metric.title
    assert title_of("psnr") == "psnr"
    with pytest.raises(BenchError, match="no metric 'psnr'"):
        metric_of("psnr")


@pytest.mark.parametrize("name", ["frame-mAP@0.5", "action-recall@5"])
def test_the_test_holds_its_level_and_the_interval_the_truth_with_few_videos(name: str) -> None:
    """Two models of equal skill, which differ from video to video. The bounds are four standard errors."""
    made, trials, rejected, held = MADE[name], 60, 0, 0
    for trial in range(trials):
        pair = [resampled(made.metric, made(seed=trial, model=model, videos=8)) for model in (1, 2)]
        found = paired_scores(pair[:1], pair[1:])
        rejected += found.p_value < 0.05
        held += found.low <= 0 <= found.high
    assert rejected <= trials * 0.05 + 4 * np.sqrt(trials * 0.05 * 0.95)
    assert held >= trials * 0.95 - 4 * np.sqrt(trials * 0.05 * 0.95)


def test_draws_hold_as_many_groups_as_there_are_and_are_always_the_same() -> None:
    drawn = multiplicities(7)
    assert drawn.shape == (1000, 7) and (drawn.sum(axis=1) == 7).all()
    assert (drawn == multiplicities(7)).all() and len(np.unique(drawn, axis=0)) > 500


def test_groups_are_drawn_in_the_order_of_their_names(made: Made) -> None:
    _, draws, groups = redrawn(made.metric.sums(made(seed=1)))
    assert groups == sorted(groups) and len(draws) == 1000 and np.isfinite(draws).all()
