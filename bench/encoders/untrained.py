"""Encoders without training, the floor of every comparison: random weights, and raw pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bench.core.errors import BenchError, nearest
from bench.core.tensors import default_num_heads
from bench.encoders import vjepa
from bench.encoders.contract import Encoder, EncoderFacts, InputSpec, architecture_facts

SEED = 0
PROBE_HEADS = 16
"""Heads of the official probes, also for encoders with more: ViT-g has 22, ViT-G 26 (protocol.md 4.2)."""


def random_facts(size: str = "vit_nano") -> EncoderFacts:
    """What is known of the untrained encoder of a named size. Raises BenchError for an unknown size."""
    if size not in vjepa.SIZES:
        raise BenchError(f"unknown size '{size}'", where=f"model random:{size}", fix=nearest(size, vjepa.SIZES))
    nano = size == "vit_nano"
    name = "random" if nano else f"random:{size}"
    return vjepa_facts(name, vjepa.SIZES[size], frame_step=1 if nano else 4)


def random_encoder(size: str = "vit_nano") -> Encoder:
    """The V-JEPA transformer of a named size with untrained weights of a fixed seed.

    The nano size starts from the wider initialisation that tiny encoders are trained from (std 0.1, patches x 3),
    which a probe reads better than the official one; the others from the official one.
    """
    facts = random_facts(size)
    model = vjepa.VisionTransformer(vjepa.SIZES[size])
    std, patch_gain = (0.1, 3.0) if size == "vit_nano" else (0.02, 1.0)
    vjepa.init_untrained(model, seed=SEED, std=std, patch_gain=patch_gain)
    return Encoder(facts, model, report={"weights": f"untrained, seed {SEED}, std {std}, patch gain {patch_gain}"})


def vjepa_facts(
    name: str, config: vjepa.VitConfig, *, frame_step: int = 4, weights: Mapping[str, Any] | None = None
) -> EncoderFacts:
    """What is known of a V-JEPA transformer from its configuration; `weights` as the facts'."""
    return EncoderFacts(
        name=name,
        embed_dim=config.embed_dim,
        num_heads=min(config.num_heads, PROBE_HEADS),
        patch_size=config.patch_size,
        tubelet_size=config.tubelet_size,
        input_spec=InputSpec(num_frames=config.num_frames, resolution=config.resolution, frame_step=frame_step),
        architecture=vjepa.architecture(config),
        layer_indices=config.layer_indices,
        still_frames=config.still_frames,
        weights=weights or {},
    )


@dataclass(frozen=True)
class PixelConfig:
    """Size of the pieces that raw pixels are cut into."""

    patch_size: int = 4
    tubelet_size: int = 2


class PixelPatches(nn.Module):
    """Raw values of each tubelet as its token: [B, 3, T, H, W] -> [B, N, 3 * tubelet * patch * patch]."""

    def __init__(self, config: PixelConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, clips: Tensor) -> Tensor:
        return vjepa.tubelets(clips, self.config.tubelet_size, self.config.patch_size)


def pixel_facts(patch_size: str = "4") -> EncoderFacts:
    """What is known of the pixel encoder with patches of `patch_size` pixels (1 to 64)."""
    if not patch_size.isdecimal() or not 1 <= int(patch_size) <= 64:
        raise BenchError(
            f"'{patch_size}' is not a patch side",
            where=f"model pixels:{patch_size}",
            fix="give 1 to 64 pixels",
        )
    config = PixelConfig(patch_size=int(patch_size))
    embed_dim = 3 * config.tubelet_size * config.patch_size**2
    nano = config == PixelConfig()
    spec = (
        InputSpec(num_frames=8, resolution=16, frame_step=1)
        if nano
        else InputSpec(num_frames=16, resolution=14 * config.patch_size)
    )
    return EncoderFacts(
        name="pixels" if nano else f"pixels:{patch_size}",
        embed_dim=embed_dim,
        num_heads=default_num_heads(embed_dim),
        patch_size=config.patch_size,
        tubelet_size=config.tubelet_size,
        input_spec=spec,
        architecture=architecture_facts("pixels", config),
    )


def pixel_encoder(patch_size: str = "4") -> Encoder:
    """Raw patch values as tokens, no positions: what a probe reads without any encoder.

    A still image is repeated to one tubelet: without positions, more would only repeat the tokens.
    """
    facts = pixel_facts(patch_size)
    return Encoder(facts, PixelPatches(PixelConfig(patch_size=int(patch_size))), report={"weights": "none"})
