"""What pretraining minimises: four targets for the same encoder, clips and schedule.

Each objective is one function `objective(state, clips, context_masks, target_masks, options)` that returns a mapping
with `loss` (a scalar to minimise) and what it is made of. `features` predicts what an averaged copy of the encoder
makes of the hidden tokens, `pixels` predicts the hidden pixels; `contrast` and `slow` compare two clips of a video.

Shapes: B clips, N tokens, n tokens of a mask, D channels, V videos, P channels of a projection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.encoders.vjepa import gather_tokens, tubelets
from bench.pretrain.presets import ObjectiveName, ObjectiveOptions
from bench.pretrain.state import TrainState

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
    """Tell the other clip of a video from all clips of the other videos: InfoNCE (arXiv 1807.03748, 2002.05709).

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
