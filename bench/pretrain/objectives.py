"""What pretraining minimises: four targets for the same encoder, clips and schedule; and multi-block masks over the
token grid, what the encoder sees and what must be predicted (protocol.md 7.1).

Each objective is one function `objective(state, clips, context_masks, target_masks, options)` that returns a mapping
with `loss` (a scalar to minimise) and what it is made of. `features` predicts what an averaged copy of the encoder
makes of the hidden tokens, `pixels` predicts the hidden pixels; `contrast` and `slow` compare two clips of a video.

Shapes: B clips, (t, h, w) token grid, N = t*h*w tokens in raster order, n tokens of a mask, D channels, V videos, P
channels of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bench.core.errors import BenchError
from bench.encoders.vjepa import gather_tokens, tubelets
from bench.pretrain.presets import MaskSpec, ObjectiveName, ObjectiveOptions
from bench.pretrain.state import TrainState

_ATTEMPTS = 100


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


DEFAULTS = ObjectiveOptions()
Objective = Callable[..., Mapping[str, Any]]


def features(
    state: TrainState,
    clips: Tensor,
    context_masks: Sequence[Tensor],
    target_masks: Sequence[Tensor],
    options: ObjectiveOptions = DEFAULTS,
) -> dict[str, Any]:
    """Predict the features of hidden tokens: V-JEPA (arXiv 2404.08471 section 3; protocol.md 7.1).

    `clips` [B, 3, T, H, W] normalised; masks: one [B, n] tensor of token indices for each kind of mask. Returns
    `loss`, `loss_per_mask`, `predictions` and `targets` (lists of [B, n, D], one for each mask).
    """
    with torch.no_grad():
        everything = _feature_targets(state, clips, options)
        targets = [gather_tokens(everything, mask) for mask in target_masks]
    predictions = _predict(state, clips, context_masks, target_masks)
    p = options.loss_exponent
    losses = [(z - h).abs().pow(p).mean() / p for z, h in zip(predictions, targets, strict=True)]
    loss = torch.stack(losses).mean()
    if options.variance_weight:
        spread = torch.stack([_deviation(z) for z in predictions]).mean(dim=0)
        loss = loss + options.variance_weight * F.relu(1 - spread).mean()
    return {"loss": loss, "loss_per_mask": losses, "predictions": predictions, "targets": targets}


def pixels(
    state: TrainState,
    clips: Tensor,
    context_masks: Sequence[Tensor],
    target_masks: Sequence[Tensor],
    options: ObjectiveOptions = DEFAULTS,
) -> dict[str, Any]:
    """Predict the pixels of hidden tokens, squared error: the VideoMAE family (arXiv 2203.12602).

    Arguments and result as for `features`; predictions and targets are [B, n, 3 * tubelet * patch * patch].
    """
    config = state.encoder.config
    with torch.no_grad():
        patches = tubelets(clips.float(), config.tubelet_size, config.patch_size)
        if options.normalise_patches:
            colours = patches.view(*patches.shape[:2], 3, -1)
            deviation, mean = torch.std_mean(colours, dim=-1, keepdim=True)
            patches = ((colours - mean) / (deviation + 1e-6)).flatten(-2)
        targets = [gather_tokens(patches, mask) for mask in target_masks]
    predictions = _predict(state, clips, context_masks, target_masks)
    losses = [F.mse_loss(z, h) for z, h in zip(predictions, targets, strict=True)]
    return {
        "loss": torch.stack(losses).mean(),
        "loss_per_mask": losses,
        "predictions": predictions,
        "targets": targets,
    }


def contrast(
    state: TrainState,
    clips: Tensor,
    context_masks: Sequence[Tensor] = (),
    target_masks: Sequence[Tensor] = (),
    options: ObjectiveOptions = DEFAULTS,
) -> dict[str, Any]:
    """Find the other clip of a video among all clips of the other videos: InfoNCE (arXiv 1807.03748, 2002.05709).

    `clips` [2 V, 3, T, H, W]: clip i and clip V + i are of one video. Masks are not used. Returns `loss` and
    `accuracy`, the share of clips whose nearest neighbour is their partner.
    """
    projections = F.normalize(_project(state, clips).float(), dim=-1)  # [2V, P]
    count = len(clips)
    with torch.autocast(clips.device.type, enabled=False):  # the temperature magnifies rounding
        similar = projections @ projections.T / options.temperature
    similar = similar.masked_fill(torch.eye(count, dtype=torch.bool, device=similar.device), float("-inf"))
    partner = torch.arange(count, device=similar.device).roll(count // 2)
    accuracy = (similar.argmax(dim=1) == partner).float().mean()
    return {"loss": F.cross_entropy(similar, partner), "accuracy": accuracy}


def slow(
    state: TrainState,
    clips: Tensor,
    context_masks: Sequence[Tensor] = (),
    target_masks: Sequence[Tensor] = (),
    options: ObjectiveOptions = DEFAULTS,
) -> dict[str, Any]:
    """Let two clips of a video agree while channels vary and do not repeat each other (VICReg, arXiv 2105.04906).

    `clips` as for `contrast`. Returns `loss` and its parts `invariance`, `spread`, `decorrelation` (unweighted).
    """
    first, second = _project(state, clips).float().chunk(2)  # [V, P] each
    invariance = F.mse_loss(first, second)
    spread = torch.stack([F.relu(1 - _deviation(z)).mean() for z in (first, second)]).mean()
    with torch.autocast(clips.device.type, enabled=False):  # small differences of squares
        decorrelation = _covariance(first) + _covariance(second)
    loss = options.invariance * invariance + options.spread * spread + options.decorrelation * decorrelation
    return {"loss": loss, "invariance": invariance, "spread": spread, "decorrelation": decorrelation}


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "features": features,
    "pixels": pixels,
    "contrast": contrast,
    "slow": slow,
}


def _feature_targets(state: TrainState, clips: Tensor, options: ObjectiveOptions) -> Tensor:
    """Layer-normed tokens [B, N, D] of the target encoder, from its last layer or the mean of several."""
    encoder = state.target_encoder
    if options.target_layers == 1:
        tokens = encoder(clips)
    else:
        outputs = encoder.layer_outputs(clips)[-options.target_layers :]
        tokens = torch.stack([F.layer_norm(x.float(), x.shape[-1:]) for x in outputs]).mean(dim=0)
    return F.layer_norm(tokens.float(), tokens.shape[-1:])


def _predict(
    state: TrainState, clips: Tensor, context_masks: Sequence[Tensor], target_masks: Sequence[Tensor]
) -> list[Tensor]:
    pairs = enumerate(zip(context_masks, target_masks, strict=True))
    return [state.predictor(state.encoder(clips, seen), seen, hidden, index).float() for index, (seen, hidden) in pairs]


def _project(state: TrainState, clips: Tensor) -> Tensor:
    """One vector [B, P] for each clip: the mean token through the projection head."""
    projections: Tensor = state.predictor(state.encoder(clips).mean(dim=1))
    return projections


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over dimension -2, smoothed where it is near zero."""
    return torch.sqrt(x.var(dim=-2) + 1e-4)


def _covariance(z: Tensor) -> Tensor:
    """Mean over channels of the squared covariances with other channels, for z [V, P]."""
    centred = z - z.mean(dim=0)
    matrix = centred.T @ centred / max(1, len(z) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
