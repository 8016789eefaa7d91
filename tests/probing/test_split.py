"""The held-out split: stratified, exact, reproducible, possible for small classes; or of whole videos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.probing.objectives import OneLabel
from bench.probing.source import grouped_split, split_videos, stratified_split


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
    wanted = min(max(1, round(share * len(labels))), len(labels) - len(counts))
    rest, held_out = stratified_split(labels, share, seed=seed)
    again = stratified_split(labels, share, seed=seed)
    assert np.array_equal(held_out, again[1])
    assert sorted([*rest, *held_out]) == list(range(len(labels)))
    assert set(labels[rest]) == set(labels)
    assert 1 <= len(held_out) <= wanted
    taken = np.array([(labels[held_out] == label).sum() for label in np.unique(labels)])
    assert (taken <= np.ceil(share * np.array(counts))).all()
    assert (taken >= np.minimum(np.floor(share * np.array(counts)), np.array(counts) - 1)).all()


def made_groups(num_groups: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Labels of four classes, and groups of one to five samples across them."""
    random = np.random.RandomState(seed)
    groups = [f"g{number}" for number in range(num_groups) for _ in range(random.randint(1, 6))]
    return random.randint(0, 4, len(groups)), groups


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_what_was_made_of_one_thing_is_on_one_side(share: float, seed: int) -> None:
    labels, groups = made_groups(120, seed)
    rest, held = grouped_split(labels, groups, share, seed=seed)
    assert sorted([*rest, *held]) == list(range(len(labels)))
    assert not {groups[row] for row in rest} & {groups[row] for row in held}
    assert set(labels[rest]) == set(labels)
    assert 0.6 * share * len(labels) <= len(held) <= share * len(labels) + 4
    for label in range(4):
        assert (labels[held] == label).sum() <= np.ceil(share * (labels == label).sum())


def test_groups_of_one_sample_are_held_out_as_samples_are() -> None:
    labels = np.arange(40) % 4
    alone = OneLabel(labels, 4, tuple(map(str, range(40))))
    for made, plain in zip(alone.hold_out(0.2, seed=3), OneLabel(labels, 4).hold_out(0.2, seed=3), strict=True):
        assert (made == plain).all()
    assert alone.facts()[:2] == OneLabel(labels, 4).facts()


def test_large_groups_are_held_out_one_at_least_and_one_that_holds_everything_is_refused() -> None:
    labels, groups = np.arange(40) % 4, [f"g{row // 20}" for row in range(40)]
    assert [len(side) for side in grouped_split(labels, groups, 0.1, seed=0)] == [20, 20]
    with pytest.raises(BenchError, match="leave none to choose a setting on"):
        grouped_split(labels, ["all"] * 40, 0.1, seed=0)


def test_parts_of_the_labels_are_whole_groups() -> None:
    labels, groups = made_groups(60)
    rows = OneLabel(labels, 4, tuple(groups)).draw(0.3, seed=1)
    drawn = {groups[row] for row in rows}
    assert len(rows) == sum(group in drawn for group in groups)


def test_groups_that_are_split_in_another_way_have_another_key() -> None:
    """The split goes by the order of the groups' names."""
    labels, groups = made_groups(60)
    renamed = [f"{99 - int(name[1:])}" for name in groups]
    one, other = (OneLabel(labels, 4, tuple(names)) for names in (groups, renamed))
    alike = all((a == b).all() for a, b in zip(one.hold_out(0.2, seed=0), other.hold_out(0.2, seed=0), strict=True))
    assert alike == (one.facts() == other.facts())
