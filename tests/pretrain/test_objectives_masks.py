"""Masks hide what the official masks hide, and every batch can be trained on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import GOLDEN

from bench import BenchError
from bench.pretrain.objectives import sample_masks
from bench.pretrain.presets import MaskSpec

GRID = (8, 14, 14)
OFFICIAL = json.loads((GOLDEN / "mask_statistics.json").read_text())
DRAWS = 400
SHORT_RANGE = MaskSpec(num_blocks=8, spatial_scale=(0.15, 0.15))
LONG_RANGE = MaskSpec(num_blocks=2, spatial_scale=(0.7, 0.7))


def draw(spec: MaskSpec, grid: tuple[int, int, int], batch_size: int, seed: int) -> list[NDArray[np.int64]]:
    """Context and target of one spec, [B, n] each."""
    contexts, targets = sample_masks([spec], grid, batch_size, np.random.RandomState(seed))
    return [contexts[0].numpy(), targets[0].numpy()]


@pytest.mark.parametrize(("name", "spec"), [("short_range", SHORT_RANGE), ("long_range", LONG_RANGE)])
def test_the_shares_are_those_of_the_official_masks(name: str, spec: MaskSpec) -> None:
    """Both are means of 400 draws: they differ by at most four standard errors of their difference."""
    shares = np.array([[m.shape[1] / math.prod(GRID) for m in draw(spec, GRID, 1, seed)] for seed in range(DRAWS)])
    deviation = OFFICIAL[f"context_{name}_std"]
    bound = 4 * deviation * math.sqrt(2 / DRAWS)
    assert abs(shares[:, 0].mean() - OFFICIAL[f"context_{name}_mean"]) < bound
    assert abs(shares[:, 1].mean() - OFFICIAL[f"target_{name}_mean"]) < bound
    # The standard error of a standard deviation is near s / sqrt(2 n); the shares are not quite normal.
    assert shares[:, 0].std() == pytest.approx(deviation, abs=6 * deviation * math.sqrt(1 / DRAWS))


@pytest.mark.parametrize("spec", [SHORT_RANGE, LONG_RANGE])
def test_a_single_clip_is_split_into_context_and_target(spec: MaskSpec) -> None:
    context, target = draw(spec, GRID, 1, seed=0)
    assert sorted([*context[0], *target[0]]) == list(range(math.prod(GRID)))


def test_blocks_span_the_whole_clip() -> None:
    """A temporal scale of 1: a place in the frame is hidden in all frames or in none."""
    context, _ = draw(SHORT_RANGE, GRID, 1, seed=1)
    seen = np.zeros(math.prod(GRID), dtype=bool)
    seen[context[0]] = True
    frames = seen.reshape(GRID)
    assert (frames == frames[0]).all() and frames[0].any()


def test_half_the_time_hides_half_the_frames() -> None:
    spec = MaskSpec(num_blocks=1, spatial_scale=(1, 1), temporal_scale=(0.5, 0.5), aspect_ratio=(1, 1))
    _, target = draw(spec, GRID, 1, seed=0)
    hidden_frames = np.unique(target[0] // (14 * 14))
    assert len(hidden_frames) == 4 and np.ptp(hidden_frames) == 3
    assert target.shape[1] == 4 * 14 * 14


def test_a_batch_keeps_the_first_tokens_of_each_clip() -> None:
    """Cut to the shortest clip, from the end of the raster order: no token is left out before a kept one."""
    context, target = draw(SHORT_RANGE, GRID, 8, seed=2)
    assert len({tuple(row) for row in context}) > 1, "the clips share one mask"
    for seen, hidden in zip(context, target, strict=True):
        reached = set(range(min(seen[-1], hidden[-1])))
        assert reached <= {*seen, *hidden}


def test_each_spec_has_its_own_masks() -> None:
    contexts, targets = sample_masks([SHORT_RANGE, LONG_RANGE], GRID, 4, np.random.RandomState(0))
    assert [len(contexts), len(targets)] == [2, 2]
    assert contexts[0].shape[1] > contexts[1].shape[1], "the long range hides more"


def test_one_seed_gives_one_mask() -> None:
    first, again, other = (draw(SHORT_RANGE, GRID, 2, seed)[0] for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_batches_that_share_sizes_share_block_sizes_only() -> None:
    spec = MaskSpec(num_blocks=1, spatial_scale=(0.1, 0.9))
    masks = [
        sample_masks([spec], GRID, 1, np.random.RandomState(seed), np.random.RandomState(9))[1][0] for seed in range(6)
    ]
    assert len({mask.shape[1] for mask in masks}) == 1
    assert len({tuple(mask[0].tolist()) for mask in masks}) > 1


def test_blocks_that_cover_everything_are_refused() -> None:
    spec = MaskSpec(num_blocks=1, spatial_scale=(1, 1), aspect_ratio=(1, 1))
    with pytest.raises(BenchError, match="leave no context on a grid of 8x14x14"):
        draw(spec, GRID, 2, seed=0)


shares = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: (min(pair), max(pair)))
specs = st.builds(
    MaskSpec,
    num_blocks=st.integers(1, 10),
    spatial_scale=shares,
    temporal_scale=shares,
    aspect_ratio=st.tuples(st.floats(0.2, 1), st.floats(1, 5)),
)


@settings(max_examples=150, deadline=None)
@given(spec=specs, grid=st.tuples(*[st.integers(1, 9)] * 3), batch_size=st.integers(1, 4), seed=st.integers(0, 99))
def test_any_masks_can_be_trained_on_or_are_refused(
    spec: MaskSpec, grid: tuple[int, int, int], batch_size: int, seed: int
) -> None:
    try:
        context, target = draw(spec, grid, batch_size, seed)
    except BenchError as refusal:
        assert "leave no context" in str(refusal)
        return
    for mask in (context, target):
        assert mask.shape[0] == batch_size and mask.shape[1] >= 1
        assert mask.min() >= 0 and mask.max() < math.prod(grid)
        assert (np.diff(mask, axis=1) > 0).all(), "the indices do not rise"
    assert not any(set(seen) & set(hidden) for seen, hidden in zip(context, target, strict=True))
