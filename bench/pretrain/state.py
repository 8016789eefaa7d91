"""What pretraining trains: an encoder, what sits on it, and the average of the encoder that is evaluated.

Shapes: B clips, D encoder channels, P channels of a projection.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.core.errors import BenchError, nearest
from bench.encoders.contract import MOST_TOKENS
from bench.encoders.predictor import Predictor, PredictorConfig
from bench.encoders.vjepa import SIZES, Block, VisionTransformer, VitConfig
from bench.pretrain.presets import MASKED, Preset


@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Shape of the head of the objectives that compare clips."""

    encoder_dim: int
    """D, channels of the encoder's tokens."""
    hidden_dim: int
    out_dim: int
    """P, channels of the space in which clips are compared."""


class Projector(nn.Sequential):
    """One vector of a clip to the space in which clips are compared: [B, D] -> [B, P]."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__(
            nn.Linear(config.encoder_dim, config.hidden_dim),
            nn.GELU(),
            nn.Linear(config.hidden_dim, config.out_dim),
        )
        self.config = config


@dataclass(frozen=True)
class TrainState:
    """The three networks of a pretraining run."""

    encoder: VisionTransformer
    predictor: Predictor | Projector
    """Predictor of hidden tokens, or projection of whole clips: what the objective puts on the encoder."""
    target_encoder: VisionTransformer
    """Exponential moving average of the encoder: the network that is evaluated."""

    @torch.no_grad()
    def average(self, momentum: float) -> None:
        """Move the target encoder: `momentum` times itself plus the rest of the encoder (protocol.md 7.1)."""
        pairs = zip(self.target_encoder.parameters(), self.encoder.parameters(), strict=True)
        # Fixed positions stay as they are: averaged with themselves, they would drift by rounding.
        moving = [(target, source) for target, source in pairs if source.requires_grad]
        targets: list[Tensor] = [target for target, _ in moving]
        sources: list[Tensor] = [source for _, source in moving]
        torch._foreach_mul_(targets, momentum)
        torch._foreach_add_(targets, sources, alpha=1 - momentum)

    def to(self, device: str) -> TrainState:
        """The same state with its networks moved to `device`."""
        for network in (self.encoder, self.predictor, self.target_encoder):
            network.to(device)
        return self


def encoder_config(preset: Preset) -> VitConfig:
    """The encoder that a preset names. Raises BenchError where its clips do not divide into patches."""
    spec = preset.encoder
    if spec.size not in SIZES:
        raise BenchError(f"unknown size '{spec.size}'", where="encoder.size", fix=nearest(spec.size, SIZES))
    config = replace(SIZES[spec.size], num_frames=spec.num_frames, resolution=spec.resolution)
    config = replace(config, depth=spec.depth or config.depth)
    if spec.num_frames % config.tubelet_size or spec.resolution % config.patch_size:
        raise BenchError(
            f"clips of {spec.num_frames} frames, {spec.resolution} pixels do not divide into patches of "
            f"{config.tubelet_size} frames, {config.patch_size} pixels",
            where="encoder.num_frames, encoder.resolution",
            fix="choose multiples",
        )
    tokens = math.prod(config.native_grid)
    if tokens > MOST_TOKENS:
        raise BenchError(
            f"clips of {spec.num_frames} frames, {spec.resolution} pixels have {tokens:,} tokens",
            where="encoder.num_frames, encoder.resolution",
            fix="choose fewer frames or pixels",
        )
    return replace(config, use_rope=True) if spec.use_rope else config


def head_config(preset: Preset, encoder: VitConfig) -> PredictorConfig | ProjectorConfig:
    """The head that a preset's objective needs."""
    head = preset.head
    if preset.objective not in MASKED:
        return ProjectorConfig(encoder_dim=encoder.embed_dim, hidden_dim=head.hidden_dim, out_dim=head.out_dim)
    num_heads = head.num_heads or encoder.num_heads
    if head.embed_dim % num_heads:
        raise BenchError(
            f"{num_heads} attention heads do not divide a predictor of width {head.embed_dim}",
            where="head.num_heads, head.embed_dim",
            fix="choose a width that is a multiple of the heads",
        )
    patch_values = 3 * encoder.tubelet_size * encoder.patch_size**2
    config = PredictorConfig(
        encoder_dim=encoder.embed_dim,
        out_dim=encoder.embed_dim if preset.objective == "features" else patch_values,
        embed_dim=head.embed_dim,
        depth=head.depth,
        num_heads=num_heads,
        grid=encoder.native_grid,
        num_mask_tokens=len(preset.masks),
        uniform_power=encoder.uniform_power,
    )
    return replace(config, use_rope=True) if encoder.use_rope else config


def build_head(config: PredictorConfig | ProjectorConfig) -> Predictor | Projector:
    """The head of a configuration, with torch's own first weights."""
    return Predictor(config) if isinstance(config, PredictorConfig) else Projector(config)


def new_state(preset: Preset) -> TrainState:
    """Untrained networks. The same preset and seed give the same weights on every machine."""
    config = encoder_config(preset)
    encoder, head = VisionTransformer(config), build_head(head_config(preset, config))
    stream = np.random.RandomState(preset.seed)
    for network in (encoder, head):
        fill_weights(network, stream, std=preset.encoder.init_std, patch_gain=preset.encoder.patch_gain)
    return TrainState(encoder, head, copy.deepcopy(encoder).requires_grad_(False))


@torch.no_grad()
def fill_weights(network: nn.Module, stream: np.random.RandomState, *, std: float, patch_gain: float) -> None:
    """Normal weights, zero biases and mask tokens, unit norms: the official pretraining's start (protocol.md 1.1).

    Its truncation at 100 deviations never acts, and it undoes the rescaling of residual layers.
    """
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.endswith("bias") or name.startswith("mask_tokens"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            gain = patch_gain if name.startswith("patch_embed") else 1.0
            parameter.copy_(torch.from_numpy(stream.standard_normal(tuple(parameter.shape)) * std * gain))


def recompute_activations(state: TrainState) -> None:
    """Let every trained block keep only its input and compute the rest again when gradients flow back."""
    for block in _blocks(state):
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(state: TrainState) -> None:
    """Compile every trained block, once for all lengths of masks."""
    for block in _blocks(state):
        block.compile(dynamic=True)


def _blocks(state: TrainState) -> list[torch.nn.Module]:
    networks = (state.encoder, state.predictor)
    return [module for network in networks for module in network.modules() if isinstance(module, Block)]
