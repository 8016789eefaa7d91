"""The code of time: what it adds, how much, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

from bench.encoders.frame_times import SHARE, add_frame_times, frame_code


@pytest.mark.parametrize(("num_frames", "embed_dim"), [(2, 8), (8, 64), (16, 768), (64, 385)])
def test_frames_have_codes_of_their_own_around_zero(num_frames: int, embed_dim: int) -> None:
    code = frame_code(num_frames, embed_dim)
    assert code.shape == (num_frames, embed_dim)
    assert code.mean(0).abs().max() < 1e-6 and code.square().mean() == pytest.approx(1, abs=1e-5)
    distances = torch.cdist(code[None], code[None])[0] + 1e9 * torch.eye(num_frames)
    assert distances.min() > 0.1 * code.norm(dim=1).mean(), "neighbours are told apart"


def test_a_single_frame_has_no_code() -> None:
    assert torch.equal(frame_code(1, 8), torch.zeros(1, 8))


def test_the_code_follows_the_scale_of_each_clip() -> None:
    tokens = torch.randn(3, 8, 5, 16, generator=torch.Generator().manual_seed(0))
    added = add_frame_times(tokens) - tokens
    spread = (tokens - tokens.mean(dim=(1, 2), keepdim=True)).square().mean(dim=(1, 2, 3)).sqrt()
    assert torch.allclose(added.square().mean(dim=(1, 2, 3)).sqrt(), SHARE * spread, rtol=1e-4)
    assert torch.allclose(added[:, :, :1].expand_as(added), added, atol=1e-6), "equal for all tokens of a frame"
    scaled = add_frame_times(100 * tokens + 7)
    assert torch.allclose(scaled, 100 * (tokens + added) + 7, rtol=1e-4, atol=1e-3)
    assert torch.allclose(add_frame_times(tokens[:1]), add_frame_times(tokens)[:1], atol=1e-6), "whatever the batch"
