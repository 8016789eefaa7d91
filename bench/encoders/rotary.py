"""Rotary positions on three axes: V-JEPA 2 with its tiled frequencies, V-JEPA 2.1 (protocol.md 1.3, 1.4).

Shapes: B clips, N = t*h*w tokens in (t, h, w) raster order, n kept tokens, d channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.core.errors import BenchError


def rotary_channels(head_dim: int, *, where: str = "rotary positions") -> int:
    """Channels of a head that turn with each of t, h and w (protocol.md 1.3). Raises BenchError where none."""
    width = 2 * (head_dim // 3 // 2)
    if width == 0 or head_dim % 2:
        raise BenchError(
            f"heads of {head_dim} channels have no room for rotary positions on three axes",
            where=where,
            fix="choose num_heads so that each head has an even number of channels, 6 or more",
        )
    return width


def rotary_table(
    grid: tuple[int, int, int],
    head_dim: int,
    device: torch.device | None = None,
    *,
    interleaved: bool = False,
    spatial_span: int | None = None,
) -> Tensor:
    """Cosines and signed sines that turn the heads of the tokens of a (t, h, w) grid: [2, N, d] float32.

    The channels of a head are [time | height | width | rest], the rest does not turn. Adjacent channels are partners.
    V-JEPA 2 tiles the frequencies of an axis all the same, so that the two of a pair turn by different angles: its
    weights were trained so (protocol.md 1.3). V-JEPA 2.1 repeats each frequency for its pair (`interleaved`), and
    stretches the rows and the columns of any input over `spatial_span` places (protocol.md 1.4). The sine's sign is
    the partner's in `rotate`.
    """
    width = rotary_channels(head_dim)
    places = [torch.arange(n, device=device, dtype=torch.float32) for n in grid]
    if spatial_span:
        # A single row or column stays at place 0.
        places[1:] = [place * (spatial_span - 1) / max(1, len(place) - 1) for place in places[1:]]
    axes = torch.meshgrid(*places, indexing="ij")
    omega = 10000.0 ** (-torch.arange(width // 2, device=device, dtype=torch.float32) / (width / 2))
    omega = omega.repeat_interleave(2) if interleaved else omega.repeat(2)
    angles = torch.cat([positions.reshape(-1, 1) * omega for positions in axes], dim=1)
    angles = F.pad(angles, (0, head_dim - 3 * width))
    sign = 2 * (torch.arange(head_dim, device=device) % 2) - 1
    return torch.stack([angles.cos(), angles.sin() * sign])


def rotation_at(table: Tensor, mask: Tensor | None = None) -> Tensor:
    """The rotation that attention takes: of all tokens of a `rotary_table` [2, 1, 1, N, d], or of those at `mask`
    [B, n], [2, B, 1, n, d]."""
    return table[:, None, None] if mask is None else table[:, mask].unsqueeze(2)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the heads [..., B, heads, n, d] by a `rotation` [2, 1 or B, 1, n, d], in float32; the type stays."""
    cosines, signed_sines = rotation.unbind(0)
    partners = x.view(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return (x * cosines + partners * signed_sines).to(x.dtype)
