"""The V-JEPA transformer gives the official answers."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import GOLDEN

from bench import BenchError
from bench.encoders import load_encoder, vjepa
from bench.encoders.checkpoints import load_vjepa, plain_names
from bench.encoders.untrained import vjepa_facts

TOLERANCE = 1e-4
ANSWERS = np.load(GOLDEN / "vjepa1_encoder.npz")
ANSWERS_2 = np.load(GOLDEN / "vjepa2_encoder.npz")
NANO = vjepa.SIZES["vit_nano"]


def clip(name: str) -> torch.Tensor:
    return scaled(ANSWERS[name])


def scaled(int8: NDArray[np.int8]) -> torch.Tensor:
    return torch.from_numpy(int8.astype(np.float32) / 32)


def nano(use_rope: bool) -> vjepa.VisionTransformer:
    model = vjepa.VisionTransformer(replace(NANO, use_rope=use_rope)).eval()
    vjepa.init_untrained(model, seed=0, std=0.1)
    return model


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


@pytest.mark.parametrize(
    ("clips", "tokens"),
    [("clip_i8", "tokens"), ("clip_16_frames_i8", "tokens_16_frames"), ("clip_96x64px_i8", "tokens_96x64px")],
)
def test_official_tokens_with_rotary_positions(clips: str, tokens: str) -> None:
    config = vjepa.VitConfig(
        embed_dim=48, depth=2, num_heads=2, mlp_dim=192, num_frames=8, resolution=64, use_rope=True
    )
    model = vjepa.VisionTransformer(config)
    file = GOLDEN / "vjepa2.pt"
    model.load_state_dict(plain_names(torch.load(file, weights_only=True)["target_encoder"], file), strict=True)
    with torch.inference_mode():
        ours = model(scaled(ANSWERS_2[clips]))
    assert (ours - torch.from_numpy(ANSWERS_2[tokens])).abs().max() < TOLERANCE


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
@pytest.mark.parametrize("use_rope", [False, True])
def test_official_parameter_counts(size: str, resolution: int, trainable: int, total: int, use_rope: bool) -> None:
    """With rotary positions nothing is stored: the trainable parameters are all (protocol.md 1.3)."""
    config = replace(vjepa.SIZES[size], resolution=resolution, use_rope=use_rope)
    with torch.device("meta"):
        model = vjepa.VisionTransformer(config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    assert sum(p.numel() for p in model.parameters()) == (trainable if use_rope else total)


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


def turned_slowly(x: NDArray[np.float64], place: tuple[int, ...]) -> list[float]:
    """One head vector of the token at (t, h, w), as protocol.md 1.3 defines it, one channel at a time."""
    width = 2 * (len(x) // 3 // 2)
    out = list(x)
    for axis, position in enumerate(place):
        for k in range(width):
            angle = position / 10000 ** ((k % (width // 2)) / (width / 2))
            channel = axis * width + k
            partner = -x[channel + 1] if k % 2 == 0 else x[channel - 1]
            out[channel] = x[channel] * np.cos(angle) + partner * np.sin(angle)
    return out


@pytest.mark.parametrize("head_dim", [6, 8, 24, 64])
def test_heads_turn_by_the_published_formula(head_dim: int) -> None:
    grid, heads = (2, 3, 4), 2
    x = torch.randn(1, heads, 24, head_dim)
    turned = vjepa.rotate(x, vjepa.rotation_at(vjepa.rotary_table(grid, head_dim)))
    for n, place in enumerate(np.ndindex(*grid)):
        for head in range(heads):
            expected = turned_slowly(x[0, head, n].double().numpy(), place)
            np.testing.assert_allclose(turned[0, head, n], expected, atol=1e-5)


def test_turning_keeps_the_precision_of_its_input() -> None:
    x = torch.randn(1, 2, 24, 16)
    rotation = vjepa.rotation_at(vjepa.rotary_table((2, 3, 4), 16))
    half = vjepa.rotate(x.bfloat16(), rotation)
    assert half.dtype == torch.bfloat16
    assert (half.float() - vjepa.rotate(x.bfloat16().float(), rotation)).abs().max() < 0.02


@pytest.mark.parametrize("num_heads", [32, 16])
def test_heads_without_room_for_three_axes_are_refused(num_heads: int) -> None:
    with pytest.raises(BenchError, match="no room for rotary positions"):
        vjepa.VisionTransformer(replace(NANO, num_heads=num_heads, use_rope=True))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotary_positions_tell_places_apart(axis: int) -> None:
    """Without positions, moved patches would give moved tokens."""
    clips = torch.randn(1, 3, 8, 16, 16)
    model = nano(use_rope=True)
    with torch.inference_mode():
        tokens = model(clips).view(4, 4, 4, 64)
        moved = model(clips.roll((2, 4, 4)[axis], dims=2 + axis)).view(4, 4, 4, 64)
    assert (moved - tokens.roll(1, dims=axis)).abs().max() > 0.01


def test_only_rotary_positions_enter_the_architecture() -> None:
    """Digests name caches and records: those of encoders with stored positions stay what they were."""
    facts = vjepa_facts("x", NANO).architecture
    before = {name: value for name, value in asdict(NANO).items() if name != "use_rope"}
    assert facts == {"kind": "vjepa1", **before}
    rotary = vjepa_facts("x", replace(NANO, use_rope=True)).architecture
    assert rotary == {"kind": "vjepa2", **before, "use_rope": True}


@pytest.mark.parametrize("use_rope", [False, True])
def test_the_last_layer_output_is_the_token_before_the_norm(use_rope: bool) -> None:
    model, clips = nano(use_rope), torch.randn(1, 3, 8, 16, 16)
    with torch.inference_mode():
        outputs, tokens = model.layer_outputs(clips), model(clips)
        first, last = model.norm(outputs[0]), model.norm(outputs[-1])
    assert len(outputs) == NANO.depth
    assert torch.allclose(last, tokens, atol=1e-6)
    assert not torch.allclose(first, tokens, atol=1e-2)


@pytest.mark.parametrize("use_rope", [False, True])
def test_a_mask_keeps_the_named_tokens(use_rope: bool) -> None:
    """Attention over kept tokens alone, each at its own place: with every token kept, in any order, nothing changes."""
    model = nano(use_rope)
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
