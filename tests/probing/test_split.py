"""The held-out split: stratified, exact, reproducible, possible for small classes; or of whole videos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.probing.source import split_videos, stratified_split


def test_shares_of_classes_are_kept() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    rest, held_out = stratified_split(labels, 0.2, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [10, 6, 4]
    assert sorted([*rest, *held_out]) == list(range(100))


def test_a_class_with_one_sample_stays_in_training() -> None:
    rest, held_out = stratified_split(np.array([0, 1, 1, 1, 1, 1, 2]), 0.5, seed=0)
    assert {0, 6} <= set(rest)
    assert len(held_out) == 3  # of 3.5: what single samples cannot give is not taken from other classes


def test_fewer_held_out_samples_than_classes() -> None:
    _, held_out = stratified_split(np.arange(20) % 10, 0.2, seed=0)
    assert len(held_out) == 4


def test_nothing_to_hold_out() -> None:
    with pytest.raises(BenchError, match="leave none to choose"):
        stratified_split(np.arange(8), 0.2, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_videos_are_held_out_as_wholes(seed: int) -> None:
    videos = [f"v{number}" for number in np.random.RandomState(seed).randint(0, 12, 200)]
    rest, held_out = split_videos(videos, 0.2, seed=seed)
    assert sorted([*rest, *held_out]) == list(range(200))
    assert not {videos[row] for row in rest} & {videos[row] for row in held_out}
    assert 40 <= len(held_out) <= 40 + max(map(videos.count, videos))


def test_one_video_leaves_nothing_to_choose_on() -> None:
    with pytest.raises(BenchError, match="of one video"):
        split_videos(["a"] * 5, 0.2, seed=0)
    rest, held_out = split_videos(["a", "b"], 0.9, seed=0)
    assert (len(rest), len(held_out)) == (1, 1)


@settings(max_examples=50, deadline=None)
@example(counts=[1, 10], share=0.5, seed=0)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=8).filter(lambda c: sum(c) > len(c)),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_any_split(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)) * 3, counts)
    wanted = min(round(share * len(labels)), len(labels) - len(counts))
    if wanted == 0:
        with pytest.raises(BenchError):
            stratified_split(labels, share, seed=seed)
        return
    rest, held_out = stratified_split(labels, share, seed=seed)
    again = stratified_split(labels, share, seed=seed)
    assert np.array_equal(held_out, again[1])
    assert sorted([*rest, *held_out]) == list(range(len(labels)))
    assert set(labels[rest]) == set(labels)
    assert 1 <= len(held_out) <= wanted
    taken = np.array([(labels[held_out] == label).sum() for label in np.unique(labels)])
    assert (taken <= np.ceil(share * np.array(counts))).all()
    assert (taken >= np.minimum(np.floor(share * np.array(counts)), np.array(counts) - 1)).all()
