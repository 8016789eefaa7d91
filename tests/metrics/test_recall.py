"""Class-mean recall at 5: by hand, against a slow reference, and its interval over videos."""

from __future__ import annotations

import numpy as np
import pytest

from bench import BenchError
from bench.metrics.accuracy import class_mean_recall as offered
from bench.metrics.recall import class_mean_recall, hits_at, recall_interval, recall_of_hits


def slow_recall(labels: list[int], scores: np.ndarray, k: int) -> tuple[dict[int, float], float]:
    """Sample by sample: sort the classes, look for the label among the first k, then average class by class."""
    outcomes: dict[int, list[bool]] = {}
    for label, row in zip(labels, scores.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda c: (-row[c], c))
        outcomes.setdefault(label, []).append(label in order[:k])
    recalls = {label: sum(found) / len(found) for label, found in outcomes.items()}
    return recalls, sum(recalls.values()) / len(recalls)


def test_classes_weigh_the_same_whatever_their_samples() -> None:
    # Class 0 has three samples, all found; class 7 one, missed: 1/2, where a share of samples is 3/4.
    scores = np.tile(np.arange(8.0)[::-1], (4, 1))
    recall = class_mean_recall([0, 0, 0, 7], scores)
    assert recall.per_class == {0: 1.0, 7: 0.0} and recall.mean == 0.5


def test_classes_without_a_sample_are_not_counted() -> None:
    scores = np.zeros((1, 1000))
    scores[0, 999] = 1
    assert class_mean_recall([999], scores).mean == 1.0


def test_the_fifth_is_found_and_the_sixth_is_not() -> None:
    scores = np.array([[6.0, 5, 4, 3, 2, 1]])
    assert [class_mean_recall([label], scores).mean for label in range(6)] == [1, 1, 1, 1, 1, 0]


def test_equal_scores_find_the_lowest_classes() -> None:
    assert hits_at([4, 5], np.zeros((2, 9))).tolist() == [True, False]


@pytest.mark.parametrize("seed", range(50))
def test_it_agrees_with_the_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, classes, k = int(rng.integers(1, 60)), int(rng.integers(2, 30)), int(rng.integers(1, 8))
    labels = rng.integers(0, classes, n).tolist()
    scores = rng.integers(0, 6, (n, classes)) / 4 if seed % 2 else rng.normal(size=(n, classes))
    recall, (per_class, mean) = class_mean_recall(labels, scores, k), slow_recall(labels, scores, k)
    assert recall.per_class == per_class and recall.mean == pytest.approx(mean, abs=1e-12)
    order = rng.permutation(n)
    assert class_mean_recall(np.array(labels)[order], scores[order], k).mean == pytest.approx(mean, abs=1e-12)


def test_doubling_a_class_changes_nothing_and_a_sample_counted_twice_does() -> None:
    """What an iterator that starts again does to the score: every sample is to be counted once."""
    labels, hits = np.array([0, 0, 1]), np.array([True, False, True])
    twice = np.repeat([0, 1, 2], 2)
    assert recall_of_hits(labels[twice], hits[twice]).mean == recall_of_hits(labels, hits).mean == 0.75
    assert recall_of_hits([0, 0, 0, 1], [True, True, False, True]).mean != 0.75


def test_unusable_scores_are_refused() -> None:
    with pytest.raises(BenchError, match="NaN or infinite"):
        class_mean_recall([0], [[float("nan"), 1.0]])
    with pytest.raises(BenchError, match="no sample"):
        class_mean_recall([], np.zeros((0, 3)))
    for labels, scores in (([3], [[0.0, 1.0, 2.0]]), ([0, 1], [[0.0, 1.0]]), ([0.5], [[0.0, 1.0]])):
        with pytest.raises(ValueError, match="labels"):
            class_mean_recall(labels, scores)


def slow_interval(labels: np.ndarray, hits: np.ndarray, videos: np.ndarray, draws: int) -> tuple[float, float]:
    """Draw videos with replacement, put their samples together, take the recall."""
    random = np.random.RandomState(1)
    names = np.unique(videos)
    means = []
    for _ in range(draws):
        rows = np.concatenate([np.flatnonzero(videos == name) for name in random.choice(names, len(names))])
        means.append(recall_of_hits(labels[rows], hits[rows]).mean)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def test_the_interval_is_that_of_drawing_whole_videos() -> None:
    rng = np.random.default_rng(0)
    videos = np.repeat(np.arange(30), 10)
    labels = rng.integers(0, 5, 300)
    hits = rng.random(300) < np.repeat(rng.random(30), 10)  # videos differ more than samples do
    interval = recall_interval(labels, hits, videos)
    assert np.allclose(interval, slow_interval(labels, hits, videos, 2000), atol=0.015)
    assert interval == recall_interval(labels, hits, videos)
    as_if_independent = recall_interval(labels, hits, np.arange(300))
    assert interval.high - interval.low > 1.3 * (as_if_independent.high - as_if_independent.low)


def test_the_interval_holds_the_recall_and_needs_two_videos() -> None:
    labels, hits = np.arange(12), np.arange(12) % 5 == 0
    low, high = recall_interval(labels, hits, np.arange(12) // 3)
    assert low <= recall_of_hits(labels, hits).mean <= high
    with pytest.raises(ValueError, match="two videos"):
        recall_interval(labels, hits, np.zeros(12))


def test_the_metric_is_offered_with_the_others() -> None:
    assert offered is class_mean_recall
