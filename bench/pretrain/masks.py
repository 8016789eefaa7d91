"""Multi-block masks over the token grid: what the encoder sees, and what must be predicted (protocol.md 7.1).

Shapes: B clips, (t, h, w) token grid, N = t*h*w tokens in raster order, n kept or predicted tokens of every clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.errors import BenchError
from bench.pretrain.presets import MaskSpec

_ATTEMPTS = 100


SHORT_RANGE = MaskSpec(num_blocks=8, spatial_scale=(0.15, 0.15))
LONG_RANGE = MaskSpec(num_blocks=2, spatial_scale=(0.7, 0.7))


def sample_masks(
    specs: Sequence[MaskSpec],
    grid: tuple[int, int, int],
    batch_size: int,
    rng: np.random.RandomState,
    sizes: np.random.RandomState | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Context and target masks of a batch: two lists with one [B, n] tensor of rising token indices for each spec.

    The block size of a spec is drawn once for the batch (from `sizes`, where several batches share it) and the places
    of its blocks for each clip; a clip whose blocks leave no context is drawn again. Within a batch both masks are cut
    to the shortest clip's, from the end of the raster order, as the official code does. Raises BenchError where the
    blocks hardly ever leave any context.
    """
    contexts, targets = [], []
    for spec in specs:
        keep = _keep(spec, grid, batch_size, rng, _block_size(spec, grid, sizes or rng))
        contexts.append(_first_of_each(keep))
        targets.append(_first_of_each(~keep))
    return contexts, targets


def _keep(
    spec: MaskSpec,
    grid: tuple[int, int, int],
    batch_size: int,
    rng: np.random.RandomState,
    block: tuple[int, int, int],
) -> NDArray[np.bool_]:
    """[B, N]: the tokens that no block covers; at least one in every clip."""
    keep = np.zeros((batch_size, math.prod(grid)), dtype=bool)
    for _ in range(_ATTEMPTS):
        empty = np.flatnonzero(~keep.any(axis=1))
        if not len(empty):
            return keep
        covered = np.zeros((len(empty), *grid), dtype=bool)
        for _ in range(spec.num_blocks):
            inside = [
                _inside(length, size, rng.randint(0, length - size + 1, len(empty)))
                for length, size in zip(grid, block, strict=True)
            ]
            covered |= inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :]
        keep[empty] = ~covered.reshape(len(empty), -1)
    raise BenchError(
        f"{spec.num_blocks} blocks of {block[0]}x{block[1]}x{block[2]} tokens leave no context on a grid of "
        f"{grid[0]}x{grid[1]}x{grid[2]}",
        where="masks",
        fix="use fewer or smaller blocks, or larger clips",
    )


def _block_size(spec: MaskSpec, grid: tuple[int, int, int], rng: np.random.RandomState) -> tuple[int, int, int]:
    t, h, w = grid
    share, area, ratio = (
        rng.uniform(*bounds) for bounds in (spec.temporal_scale, spec.spatial_scale, spec.aspect_ratio)
    )
    tokens = int(h * w * area)
    return (
        max(1, int(t * share)),
        min(h, max(1, round(math.sqrt(tokens * ratio)))),
        min(w, max(1, round(math.sqrt(tokens / ratio)))),
    )


def _inside(length: int, size: int, first: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[B, length]: positions within the `size` positions from `first` [B] on."""
    positions = np.arange(length)
    return (positions >= first[:, None]) & (positions < first[:, None] + size)


def _first_of_each(chosen: NDArray[np.bool_]) -> Tensor:
    """Indices [B, n] of the first n chosen tokens of each clip, n being the smallest number of any clip."""
    count = int(chosen.sum(axis=1).min())
    order = np.argsort(~chosen, axis=1, kind="stable")
    return torch.from_numpy(np.ascontiguousarray(order[:, :count]))
