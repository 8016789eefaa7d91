"""Predictions under another order of the classes are noticed, and weak predictions are not taken for that."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics.accuracy import suspicion


def predictions(num_classes: int, accuracy: float, n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.RandomState(seed)
    labels = stream.randint(0, num_classes, n)
    guesses = stream.randint(0, num_classes, n)
    return labels, np.where(stream.rand(n) < accuracy, labels, guesses)


@pytest.mark.parametrize(("num_classes", "n"), [(174, 3000), (10, 100)])
def test_another_order_is_noticed(num_classes: int, n: int) -> None:
    labels, right = predictions(num_classes, 0.7, n)
    assert suspicion(labels, right) is None
    doubt = suspicion(labels, np.random.RandomState(1).permutation(num_classes)[right])
    assert doubt and "class order is probably another one" in doubt


@pytest.mark.parametrize("accuracy", [0.0, 0.05, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_weak_predictions_are_not_suspected(accuracy: float, seed: int) -> None:
    for num_classes, n in ((174, 1000), (8, 200), (2, 30)):
        assert suspicion(*predictions(num_classes, accuracy, n, seed=seed)) is None


def test_always_naming_one_class_of_an_unbalanced_set_is_not_suspected() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    assert suspicion(labels, np.ones(100, dtype=int)) is None


def test_too_few_samples_say_nothing() -> None:
    assert suspicion([1], [0]) is None
    assert suspicion([1, 0], [0, 1]) is None
