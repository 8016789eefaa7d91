"""The V-JEPA transformer gives the official answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import GOLDEN

from bench.encoders import load_encoder, vjepa
from bench.encoders.checkpoints import load_vjepa

TOLERANCE = 1e-4
ANSWERS = np.load(GOLDEN / "vjepa1_encoder.npz")


def clip(name: str) -> torch.Tensor:
    return torch.from_numpy(ANSWERS[name].astype(np.float32) / 32)


@pytest.mark.parametrize(
    ("key", "clips", "tokens"),
    [
        ("target_encoder", "clip_i8", "tokens"),
        ("target_encoder", "clip_16_frames_i8", "tokens_16_frames"),
        ("target_encoder", "clip_96px_i8", "tokens_96px"),
        ("encoder", "clip_i8", "tokens_online_encoder"),
    ],
)
def test_official_tokens(key: str, clips: str, tokens: str) -> None:
    model, _ = load_vjepa(GOLDEN / "vjepa1.pth.tar", key=key)
    with torch.inference_mode():
        ours = model(clip(clips))
    assert (ours - torch.from_numpy(ANSWERS[tokens])).abs().max() < TOLERANCE


def test_the_public_encoder_reads_the_target_encoder() -> None:
    encoder = load_encoder(str(GOLDEN / "vjepa1.pth.tar"))
    tokens = encoder(clip("clip_i8"))
    assert (tokens - torch.from_numpy(ANSWERS["tokens"])).abs().max() < TOLERANCE
    assert tokens.shape[-1] == encoder.embed_dim == 48


# Trainable parameters as protocol.md 1.1 states them; the fixed positions come on top.
@pytest.mark.parametrize(
    ("size", "resolution", "trainable", "total"),
    [
        ("vit_large", 224, 303_885_312, 305_490_944),
        ("vit_huge", 224, 631_648_000, 633_655_040),
        ("vit_huge", 384, 631_648_000, 637_546_240),
    ],
)
def test_official_parameter_counts(size: str, resolution: int, trainable: int, total: int) -> None:
    config = vjepa.replace(vjepa.SIZES[size], resolution=resolution)
    with torch.device("meta"):
        model = vjepa.VisionTransformer(config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    assert sum(p.numel() for p in model.parameters()) == total


@pytest.mark.parametrize("size", sorted(vjepa.SIZES))
def test_every_size_maps_clips_to_tokens(size: str) -> None:
    config = vjepa.SIZES[size]
    with torch.device("meta"):
        model = vjepa.VisionTransformer(config).to("meta")
        tokens = model(torch.empty(1, 3, config.num_frames, config.resolution, config.resolution))
    t, h, w = config.native_grid
    assert tokens.shape == (1, t * h * w, config.embed_dim)


def test_positions_follow_the_published_formula() -> None:
    """A slow reference: one token, one channel at a time."""
    D, grid = 16, (2, 3, 2)
    table = vjepa.sincos_positions(D, grid)[0]
    width = int(np.ceil(D / 6) * 2)
    for n, place in enumerate(np.ndindex(*grid)):
        channels = []
        for position in place:
            angles = [position / 10000 ** (k / (width / 2)) for k in range(width // 2)]
            channels += [np.sin(a) for a in angles] + [np.cos(a) for a in angles]
        np.testing.assert_allclose(table[n], channels[:D], atol=1e-6)


def test_a_mask_keeps_the_named_tokens() -> None:
    """Attention over kept tokens alone: with every token kept, in any order, nothing else changes."""
    model = vjepa.VisionTransformer(vjepa.SIZES["vit_nano"]).eval()
    vjepa.init_untrained(model, seed=0)
    clips = torch.randn(2, 3, 8, 16, 16)
    order = torch.stack([torch.randperm(64), torch.randperm(64)])
    with torch.inference_mode():
        full, shuffled, part = model(clips), model(clips, order), model(clips, order[:, :10])
    assert torch.allclose(vjepa.gather_tokens(full, order), shuffled, atol=1e-5)
    assert part.shape == (2, 10, 64)
    assert not torch.allclose(part, shuffled[:, :10], atol=1e-3)


def test_the_untrained_weights_follow_the_official_rule() -> None:
    model = vjepa.VisionTransformer(vjepa.SIZES["vit_tiny"])
    vjepa.init_untrained(model, seed=3)
    last = model.blocks[-1]
    assert last.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert last.mlp.fc2.weight.std().item() == pytest.approx(0.02 / np.sqrt(2 * 12), rel=0.02)
    assert last.mlp.fc2.bias.abs().max() == 0
