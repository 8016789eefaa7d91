"""The predictor sees context tokens and places, and says what stands at the places.

Parity with the official predictor of V-JEPA 1 is in test_objectives.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bench import BenchError
from bench.encoders.predictor import Predictor, PredictorConfig

CONFIG = PredictorConfig(
    encoder_dim=10, out_dim=7, embed_dim=32, depth=2, num_heads=2, grid=(2, 3, 4), num_mask_tokens=3
)


def predictor(use_rope: bool) -> Predictor:
    torch.manual_seed(0)
    model = Predictor(replace(CONFIG, use_rope=use_rope))
    for token in model.mask_tokens:
        torch.nn.init.normal_(token)
    return model.eval().requires_grad_(False)


def masks(clips: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Context [B, 9] and target [B, 11] of 24 tokens, different in each clip."""
    order = torch.stack([torch.from_numpy(np.random.RandomState(i).permutation(24)) for i in range(clips)])
    return order[:, :9], order[:, 9:20]


# Parameters as protocol.md 1.2 and 1.3 state them: V-JEPA 1 stores positions and has 2 mask tokens, V-JEPA 2 has 10.
@pytest.mark.parametrize(
    ("encoder_dim", "grid", "trainable", "total", "trainable_2"),
    [
        (1024, (8, 14, 14), 22_082_944, 22_685_056, 22_086_016),
        (1280, (8, 14, 14), 22_279_808, 22_881_920, 22_282_880),
        (1280, (8, 24, 24), 22_279_808, 24_049_280, 22_282_880),
        (1408, (32, 16, 16), None, None, 22_381_312),
    ],
)
def test_official_parameter_counts(
    encoder_dim: int, grid: tuple[int, int, int], trainable: int | None, total: int | None, trainable_2: int
) -> None:
    with torch.device("meta"):
        first = Predictor(PredictorConfig(encoder_dim=encoder_dim, out_dim=encoder_dim, grid=grid))
        second = Predictor(
            PredictorConfig(
                encoder_dim=encoder_dim,
                out_dim=encoder_dim,
                num_heads=12,
                grid=grid,
                num_mask_tokens=10,
                use_rope=True,
            )
        )
    if total:
        assert sum(p.numel() for p in first.parameters() if p.requires_grad) == trainable
        assert sum(p.numel() for p in first.parameters()) == total
    assert sum(p.numel() for p in second.parameters()) == trainable_2


def turning(place: tuple[int, ...], head_dim: int) -> NDArray[np.float64]:
    """The matrix [d, d] that turns one head of the token at (t, h, w), entry by entry from protocol.md 1.3."""
    matrix = np.eye(head_dim)
    width = 2 * (head_dim // 3 // 2)
    for axis, position in enumerate(place):
        for k in range(width):
            angle = position * 10000 ** (-(k % (width // 2)) / (width / 2))
            row, partner = axis * width + k, axis * width + (k ^ 1)
            matrix[row, row] = np.cos(angle)
            matrix[row, partner] = np.sin(angle) * (1 if k % 2 else -1)
    return matrix


def predicted_slowly(model: Predictor, context: torch.Tensor, seen: list[int], hidden: list[int]) -> torch.Tensor:
    """One clip: tokens [n, D] -> [m, out_dim], one query at a time."""
    heads, width = model.config.num_heads, model.config.embed_dim
    d = width // heads
    places = [tuple(int(i) for i in np.unravel_index(n, model.config.grid)) for n in seen + hidden]
    turns = [torch.from_numpy(turning(place, d)).float() for place in places]
    x = torch.cat([model.predictor_embed(context), model.mask_tokens[1][0].expand(len(hidden), -1)])
    for block in model.predictor_blocks:
        normed = block.norm1(x)
        mixed = torch.zeros_like(x)
        for head in range(heads):
            rows = [slice(part * width + head * d, part * width + (head + 1) * d) for part in range(3)]
            q, k, v = (F.linear(normed, block.attn.qkv.weight[r], block.attn.qkv.bias[r]) for r in rows)
            keys = torch.stack([turn @ key for turn, key in zip(turns, k, strict=True)])
            for n, turn in enumerate(turns):
                weights = torch.softmax(keys @ (turn @ q[n]) / d**0.5, dim=0)
                mixed[n, head * d : (head + 1) * d] = weights @ v
        x = x + block.attn.proj(mixed)
        x = x + block.mlp(block.norm2(x))
    out: torch.Tensor = model.predictor_proj(model.predictor_norm(x[len(seen) :]))
    return out


def test_rotary_positions_follow_the_published_formula() -> None:
    model = predictor(use_rope=True)
    seen, hidden = masks()
    context = torch.randn(2, 9, 10)
    ours = model(context, seen, hidden, mask_index=1)
    for b in range(2):
        expected = predicted_slowly(model, context[b], seen[b].tolist(), hidden[b].tolist())
        torch.testing.assert_close(ours[b], expected, atol=1e-5, rtol=1e-4)


def test_rotary_positions_are_not_stored() -> None:
    assert set(predictor(False).state_dict()) - set(predictor(True).state_dict()) == {"predictor_pos_embed"}
    assert set(predictor(True).state_dict()) <= set(predictor(False).state_dict())


@pytest.mark.parametrize("use_rope", [False, True])
def test_places_count_and_their_order_does_not(use_rope: bool) -> None:
    model = predictor(use_rope)
    seen, hidden = masks()
    context = torch.randn(2, 9, 10)
    plain = model(context, seen, hidden)
    assert plain.shape == (2, 11, 7)
    turned = model(context.flip(1), seen.flip(1), hidden.flip(1))
    torch.testing.assert_close(turned.flip(1), plain, atol=1e-5, rtol=1e-4)
    elsewhere = model(context, seen, hidden.flip(1))
    assert (elsewhere - plain).abs().max() > 1e-3
    assert (model(context, seen.flip(1), hidden) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("use_rope", [False, True])
def test_each_kind_of_mask_has_its_token(use_rope: bool) -> None:
    model = predictor(use_rope)
    context, (seen, hidden) = torch.randn(2, 9, 10), masks()
    answers = [model(context, seen, hidden, mask_index=index) for index in range(4)]
    assert (answers[0] - answers[1]).abs().max() > 1e-3
    assert torch.equal(answers[0], answers[3]), "the fourth kind shares the first of three tokens"


@pytest.mark.parametrize("use_rope", [False, True])
def test_half_precision_stays_near_fp32(use_rope: bool) -> None:
    model = predictor(use_rope)
    context, (seen, hidden) = torch.randn(2, 9, 10), masks()
    exact = model(context, seen, hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(context, seen, hidden)
    assert 0 < (rounded.float() - exact).abs().max() < 0.1


def test_heads_without_room_for_three_axes_are_refused() -> None:
    with pytest.raises(BenchError, match="no room for rotary positions"):
        Predictor(replace(CONFIG, num_heads=8, use_rope=True))
