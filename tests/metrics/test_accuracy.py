"""Metrics count each sample once, and never score what is not a number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.core.errors import BenchError
from bench.metrics.accuracy import score_of, top1

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
score_tables = st.integers(1, 40).flatmap(
    lambda n: arrays(np.float64, (n, 4), elements=st.floats(-5, 5, allow_subnormal=False))
)


@pytest.mark.parametrize(("labels", "hits"), [([0, 1, 2], [1, 1, 1]), ([1, 1, 0], [0, 1, 0]), ([2, 0, 1], [0, 0, 0])])
def test_top1_says_which_samples_are_right(labels: list[int], hits: list[int]) -> None:
    outcome = top1(labels, PROBABILITIES)
    assert outcome.hits.tolist() == hits
    assert outcome.value == pytest.approx(100 * sum(hits) / 3)


@pytest.mark.parametrize(("label", "hit"), [(0, 0), (1, 1), (2, 0)])
def test_a_tie_goes_to_the_lowest_class(label: int, hit: int) -> None:
    assert top1([label], [[0.2, 0.4, 0.4]]).correct == hit


@given(score_tables, st.randoms())
def test_the_order_of_samples_and_the_split_into_batches_change_nothing(scores, random) -> None:
    labels = np.array([random.randrange(4) for _ in scores])
    whole = top1(labels, scores)
    order = np.array(random.sample(range(len(scores)), len(scores)))
    assert top1(labels[order], scores[order]).correct == whole.correct
    cut = random.randint(1, len(scores))
    parts = [top1(labels[part], scores[part]) for part in (slice(cut), slice(cut, None)) if len(scores[part])]
    assert sum(part.correct for part in parts) == whole.correct
    assert sum(part.n for part in parts) == whole.n


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_score_is_never_made_of_numbers_that_are_none(broken: float) -> None:
    probabilities = PROBABILITIES.copy()
    probabilities[1, 2] = broken
    with pytest.raises(BenchError, match=r"test sample 1: probabilities of 1 of 3 samples are NaN or infinite"):
        top1([0, 1, 2], probabilities)


def test_no_sample_is_an_error_a_user_can_read() -> None:
    with pytest.raises(BenchError, match="no test sample could be scored"):
        score_of("top1", [], np.zeros((0, 3)), failed=7)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], "must be"), ([0, 1, 3], "0 .. 2"), ([-1, 1, 2], "0 .. 2"), ([0.0, 1.0, 2.0], "integers")],
)
def test_labels_must_fit_the_probabilities(labels: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        top1(labels, PROBABILITIES)


def test_failed_samples_are_reported_and_not_counted() -> None:
    score = score_of("top1", [0, 1, 0], PROBABILITIES, failed=2)
    assert (score.correct, score.n, score.failed) == (2, 3, 2)
    assert score.value == pytest.approx(100 * score.correct / score.n)
    assert 0 < score.low < score.value < score.high < 100
    assert score.interval == "Wilson, 95 %"
