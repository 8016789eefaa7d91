"""The V-JEPA transformer: sizes, positions, masks, layers, and the weights of untrained encoders."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench import BenchError
from bench.encoders import vjepa
from bench.encoders.untrained import vjepa_facts
from bench.encoders.vjepa import rotary_table, rotate, rotation_at

NANO = vjepa.SIZES["vit_nano"]


def nano(use_rope: bool) -> vjepa.VisionTransformer:
    model = vjepa.VisionTransformer(replace(NANO, use_rope=use_rope)).eval()
    vjepa.init_untrained(model, seed=0, std=0.1)
    return model


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
    before = {name: value for name, value in asdict(NANO).items() if name not in ("use_rope", "multilevel")}
    assert facts == {"kind": "vjepa1", **before}
    rotary = vjepa_facts("x", replace(NANO, use_rope=True)).architecture
    assert rotary == {"kind": "vjepa2", **before, "use_rope": True}
    multilevel = vjepa_facts("x", replace(NANO, use_rope=True, multilevel=True)).architecture
    assert multilevel == {"kind": "vjepa2_1", **before, "use_rope": True, "multilevel": True}


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


def turned_slowly(x: NDArray[np.float64], place: tuple[float, ...], *, interleaved: bool = False) -> list[float]:
    """One head vector of the token at (t, h, w), as protocol.md 1.3 and 1.4 define it, one channel at a time."""
    width = 2 * (len(x) // 3 // 2)
    out = list(x)
    for axis, position in enumerate(place):
        for k in range(width):
            frequency = k // 2 if interleaved else k % (width // 2)
            angle = position / 10000 ** (frequency / (width / 2))
            channel = axis * width + k
            partner = -x[channel + 1] if k % 2 == 0 else x[channel - 1]
            out[channel] = x[channel] * np.cos(angle) + partner * np.sin(angle)
    return out


@pytest.mark.parametrize("head_dim", [6, 8, 24, 64])
def test_heads_turn_by_the_published_formula(head_dim: int) -> None:
    grid, heads = (2, 3, 4), 2
    x = torch.randn(1, heads, 24, head_dim)
    turned = rotate(x, rotation_at(rotary_table(grid, head_dim)))
    for n, place in enumerate(np.ndindex(*grid)):
        for head in range(heads):
            expected = turned_slowly(x[0, head, n].double().numpy(), place)
            np.testing.assert_allclose(turned[0, head, n], expected, atol=1e-5)


def test_turning_keeps_the_precision_of_its_input() -> None:
    x = torch.randn(1, 2, 24, 16)
    rotation = rotation_at(rotary_table((2, 3, 4), 16))
    half = rotate(x.bfloat16(), rotation)
    assert half.dtype == torch.bfloat16
    assert (half.float() - rotate(x.bfloat16().float(), rotation)).abs().max() < 0.02


@pytest.mark.parametrize("head_dim", [6, 12, 64])
def test_heads_of_2_1_turn_by_the_corrected_formula(head_dim: int) -> None:
    """Pairs turn by one angle; 4 rows and 1 column stand for the 16 places of 256 pixels."""
    grid, heads = (2, 4, 1), 2
    x = torch.randn(1, heads, 8, head_dim)
    table = rotary_table(grid, head_dim, interleaved=True, spatial_span=16)
    turned = rotate(x, rotation_at(table))
    for n, (t, h, _) in enumerate(np.ndindex(*grid)):
        for head in range(heads):
            expected = turned_slowly(x[0, head, n].double().numpy(), (t, h * 15 / 3, 0), interleaved=True)
            np.testing.assert_allclose(turned[0, head, n], expected, atol=1e-5)


def test_the_corrected_rotation_keeps_lengths_and_the_tiled_one_does_not() -> None:
    x = torch.randn(1, 1, 24, 16)
    for interleaved in (True, False):
        turned = rotate(x, rotation_at(rotary_table((2, 3, 4), 16, interleaved=interleaved)))
        assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5) is interleaved
