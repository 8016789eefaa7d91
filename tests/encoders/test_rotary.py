"""Rotary positions turn heads by the published formulas of V-JEPA 2 and 2.1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.encoders.rotary import rotary_table, rotate, rotation_at


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
