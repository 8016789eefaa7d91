"""The calibration error that a reliability diagram states, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics.accuracy import ClassAnswers
from bench.report.plots.classes import calibration


def answers(confidence: np.ndarray, hits: np.ndarray, videos: np.ndarray | None = None) -> ClassAnswers:
    probabilities = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    names = tuple(f"{i:05d}" for i in range(len(hits)))
    return ClassAnswers(names, 1 - hits, probabilities, videos)


def test_calibration_error_is_the_mean_gap_of_bins_of_equal_size() -> None:
    hits = np.tile([1, 0, 0, 1], 75)
    found = calibration(answers(np.full(300, 0.75), hits))
    assert found.error == pytest.approx(0.25, abs=1e-6)
    assert set(found.counts) == {20} and len(found.counts) == 15
    assert found.interval.low < 0.25 <= found.interval.high
    few = calibration(answers(np.array([0.6, 0.9]), np.array([0, 1])))
    assert list(few.counts) == [1, 1] and few.error == pytest.approx((0.6 + 0.1) / 2)


def test_probabilities_that_are_right_have_an_interval_from_zero() -> None:
    random = np.random.RandomState(0)
    confidence = 0.5 + 0.49 * random.rand(1000)
    found = calibration(answers(confidence, (random.rand(1000) < confidence).astype(int)))
    assert found.error > 0 and found.interval.low == 0


def test_the_interval_is_wider_where_samples_share_videos() -> None:
    hits = np.repeat(np.random.RandomState(0).rand(40) < 0.5, 10).astype(int)
    confidence = np.full(400, 0.9)
    alone = calibration(answers(confidence, hits)).interval
    shared = calibration(answers(confidence, hits, np.repeat(np.arange(40), 10))).interval
    assert shared.high - shared.low > 2 * (alone.high - alone.low)
