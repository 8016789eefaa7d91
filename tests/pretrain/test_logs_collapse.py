"""Feature health: what counts as collapsed, and what only looks like it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bench.pretrain.logs import Health, collapse_reason, effective_rank, feature_health


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def health(rank_pooled: float, rank_tokens: float, embed_dim: int, num_clips: int = 256) -> Health:
    return Health(0.5, 1.0, rank_pooled, rank_tokens, embed_dim, num_clips)


def test_the_effective_rank_counts_equal_directions() -> None:
    directions = torch.linalg.qr(draw(64, 5) - draw(64, 5).mean(0)).Q
    rows = 3 * directions @ torch.linalg.qr(draw(16, 5)).Q.T
    rank = effective_rank(rows, magnitude=3.0)
    assert rank == pytest.approx(5, abs=0.1)


def test_the_effective_rank_is_the_entropy_of_the_singular_values() -> None:
    rows = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    shares = torch.tensor([0.75, 0.25])
    assert effective_rank(rows, magnitude=3.0) == pytest.approx(math.exp(-(shares * shares.log()).sum()))
    assert effective_rank(rows + 100, magnitude=103.0) == pytest.approx(effective_rank(rows, magnitude=3.0), abs=1e-3)


def test_the_spread_is_over_clips_and_not_over_positions() -> None:
    tokens = draw(1, 6, 8) * 100 + torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    assert feature_health(tokens).std == pytest.approx(math.sqrt(2), rel=1e-4)


def test_free_features_are_healthy() -> None:
    found = feature_health(draw(128, 64, 64))
    assert collapse_reason(found) is None
    assert found.std == pytest.approx(1, abs=0.05) and found.size == pytest.approx(1, abs=0.05)
    assert found.rank_pooled > 50 and found.rank_tokens > 60


@pytest.mark.parametrize("num_clips", [1, 2, 3, 4, 8, 16, 32])
def test_few_clips_are_no_collapse(num_clips: int) -> None:
    found = feature_health(draw(num_clips, 64, 64))
    assert collapse_reason(found) is None
    assert found.rank_pooled <= max(1, num_clips - 1) + 1e-3


def test_two_clips_that_differ_in_brightness_alone_are_no_collapse() -> None:
    tokens = draw(1, 64, 64) + torch.tensor([-1.0, 1.0]).view(2, 1, 1) * draw(64)
    assert feature_health(tokens).rank_tokens < 1.1
    assert collapse_reason(feature_health(tokens)) is None


def test_the_same_features_for_every_clip_are_a_collapse() -> None:
    found = feature_health(draw(1, 64, 32).repeat(16, 1, 1))
    assert found.rank_pooled == found.rank_tokens == 1
    assert "hardly differ between clips" in str(collapse_reason(found))


def test_a_code_of_positions_alone_is_a_collapse_however_many_directions_it_fills() -> None:
    tokens = 10 * draw(1, 256, 64) + 0.05 * draw(32, 256, 64)
    assert "hardly differ between clips" in str(collapse_reason(feature_health(tokens)))
    clip_wide = 0.5 * draw(32, 1, 1) * draw(64)
    found = feature_health(draw(1, 256, 64) + clip_wide + 0.001 * draw(32, 256, 64))
    assert found.rank_tokens < 2
    assert "clip means fill" in str(collapse_reason(found))


def test_one_direction_in_all_tokens_is_a_collapse() -> None:
    tokens = draw(64, 32, 1) * draw(64) + 0.01 * draw(64, 32, 64)
    assert "of 63 directions" in str(collapse_reason(feature_health(tokens)))


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_verdict_does_not_depend_on_the_scale(scale: float) -> None:
    assert collapse_reason(feature_health(scale * draw(32, 16, 32))) is None
    assert collapse_reason(feature_health(scale * (draw(1, 16, 32) + 0.005 * draw(32, 16, 32))))


@pytest.mark.parametrize(("pooled", "tokens", "embed_dim"), [(36, 41, 64), (20, 33, 64), (7, 35, 128), (17, 30, 128)])
def test_runs_that_had_not_collapsed_pass(pooled: float, tokens: float, embed_dim: int) -> None:
    assert collapse_reason(health(pooled, tokens, embed_dim)) is None


@pytest.mark.parametrize(("pooled", "tokens", "embed_dim"), [(1.6, 2.9, 64), (2.3, 5.5, 128)])
def test_runs_that_collapsed_are_told_by_either_rank(pooled: float, tokens: float, embed_dim: int) -> None:
    assert "clip means fill" in str(collapse_reason(health(pooled, 60, embed_dim)))
    assert "tokens fill" in str(collapse_reason(health(60, tokens, embed_dim)))


def test_zeros_and_numbers_that_are_none() -> None:
    assert "hardly differ" in str(collapse_reason(feature_health(torch.zeros(16, 4, 8))))
    broken = draw(16, 4, 8)
    broken[3, 1, 2] = math.nan
    assert collapse_reason(feature_health(broken)) == "features are not finite"
    assert math.isnan(feature_health(broken).rank_tokens)


def test_half_precision_and_large_batches_give_the_same_figures_again() -> None:
    tokens = draw(80, 64, 16)
    full, half = feature_health(tokens), feature_health(tokens.bfloat16().requires_grad_())
    assert feature_health(tokens) == full
    assert half.rank_tokens == pytest.approx(full.rank_tokens, rel=0.01)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, N, D\], not \[4, 8\]"):
        feature_health(draw(4, 8))
