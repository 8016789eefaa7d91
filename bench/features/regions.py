"""Tokens of a whole frame -> features of its boxes, by RoIAlign (protocol.md 3.7).

Shapes: L layers, B clips of N tokens on a grid t x h x w, D channels; n boxes read on c x c cells; M tokens of a box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bench.cards.load import BoxReading
from bench.encoders.contract import EncoderFacts


def chosen_layers(facts: EncoderFacts, count: int) -> tuple[int, ...]:
    """The layers that are read, counted from 0 and rising: the last and every second one before it, or the last ones
    where there are too few; none for an encoder without layers, whose tokens are read as they are."""
    every_second = facts.layer_indices[::-1][::2][:count]
    return every_second[::-1] if len(every_second) == count else facts.layer_indices[-count:]


def box_shape(facts: EncoderFacts, reading: BoxReading, num_frames: int, side: int) -> tuple[int, int]:
    """(M, channels) of the features of one box."""
    steps = facts.grid(num_frames, side, side)[0] if reading.over_time == "all" else 1
    cells = reading.cells**2 if reading.over_cells == "all" else 1
    return steps * cells, facts.embed_dim * max(1, len(chosen_layers(facts, reading.layers)))


def token_maps(layers: Sequence[Tensor], grid: tuple[int, int, int], special_tokens: int) -> Tensor:
    """Tokens of L layers, each [B, N, D] -> maps [B, t, L * D, h, w], without class tokens and registers."""
    t, h, w = grid
    joined = torch.cat(list(layers), dim=-1)
    B, _, channels = joined.shape
    patches = joined.view(B, t, special_tokens + h * w, channels)[:, :, special_tokens:]
    return patches.transpose(2, 3).reshape(B, t, channels, h, w)


def box_features(maps: Tensor, boxes: Tensor, reading: BoxReading) -> Tensor:
    """Maps [t, C, h, w] of one clip and boxes [n, 4] (x1, y1, x2, y2 as shares of the frame) -> [n, M, C].

    M is t * c * c, in (t, y, x) order, less what `reading` averages or takes the largest of. Channels are pooled by
    torchvision's RoIAlign with aligned corners, as many samples in a cell as it holds tokens.
    """
    from torchvision.ops import roi_align

    if reading.over_time == "mean":
        maps = maps.mean(dim=0, keepdim=True)
    t, C, h, w = maps.shape
    on_grid = boxes.to(maps) * torch.tensor([w, h, w, h], dtype=maps.dtype, device=maps.device)
    cells: Tensor = roi_align(maps, [on_grid] * t, output_size=reading.cells, sampling_ratio=0, aligned=True)
    values = cells.view(t, len(boxes), C, reading.cells**2)
    if reading.over_cells == "max":
        values = values.amax(dim=-1, keepdim=True)
    elif reading.over_cells == "mean":
        values = values.mean(dim=-1, keepdim=True)
    return values.permute(1, 0, 3, 2).flatten(1, 2)


def corners(boxes: Sequence[tuple[float, float, float, float]]) -> Tensor:
    """Boxes as float32 [n, 4]."""
    return torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4))
