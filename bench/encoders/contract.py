"""What every encoder offers: frozen, in eval mode, clips [B, 3, T, H, W] -> tokens [B, N, D]."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import BenchError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input that the weights were made for. Preprocessing belongs to the weights, not to the user."""

    num_frames: int
    resolution: int
    """Side of the square view, pixels."""
    frame_step: int = 4
    """Frames of the source video between two frames of a clip."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """What is known of an encoder before its weights are read."""

    name: str
    embed_dim: int
    num_heads: int
    """Heads that its probes get."""
    patch_size: int
    tubelet_size: int
    input_spec: InputSpec
    architecture: Mapping[str, Any]

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The (t, h, w) token grid of a clip. Raises BenchError where the sizes do not divide into patches."""
        if num_frames % self.tubelet_size or height % self.patch_size or width % self.patch_size:
            raise BenchError(
                f"clips of {num_frames} frames, {height}x{width} pixels do not divide into patches of "
                f"{self.tubelet_size} frames, {self.patch_size}x{self.patch_size} pixels",
                where=f"model {self.name}",
                fix="choose other frames or resolution with --set clip.frames=... --set clip.resolution=...",
            )
        return num_frames // self.tubelet_size, height // self.patch_size, width // self.patch_size

    def flops(self, num_tokens: int) -> float:
        """Multiply-adds x 2 of one clip of N tokens: projections and attention of a transformer, 0 without one."""
        depth, mlp_dim = int(self.architecture.get("depth", 0)), int(self.architecture.get("mlp_dim", 0))
        return transformer_flops(depth, self.embed_dim, mlp_dim, num_tokens)


class Encoder:
    """A frozen encoder: any module that maps clips to tokens, with what the rest of the suite must know of it.

    `digest` is the SHA-256 of architecture and weights (64 hex digits); `report` says what was loaded from where.
    """

    def __init__(self, facts: EncoderFacts, module: nn.Module, *, report: Mapping[str, Any] | None = None) -> None:
        self.facts = facts
        self.module = module.eval().requires_grad_(False)
        self.digest = weights_digest(module, facts.architecture)
        self.report = dict(report or {})
        self.precision: Precision = "fp32"
        self.device = torch.device("cpu")

    @property
    def name(self) -> str:
        """Name on the leaderboard."""
        return self.facts.name

    @property
    def embed_dim(self) -> int:
        """Width D of a token."""
        return self.facts.embed_dim

    @property
    def num_heads(self) -> int:
        """Heads that its probes get."""
        return self.facts.num_heads

    @property
    def input_spec(self) -> InputSpec:
        """The input that the weights were made for."""
        return self.facts.input_spec

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """The (t, h, w) token grid of a clip; see `EncoderFacts.grid`."""
        return self.facts.grid(num_frames, height, width)

    def to(self, device: str | torch.device, precision: Precision = "fp32") -> Encoder:
        """Move the encoder; `precision` bf16 or fp16 runs it under autocast. Returns itself."""
        self.device = torch.device(device)
        self.module.to(self.device)
        self.precision = precision
        return self

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        """Encode normalised clips [B, 3, T, H, W] (moved to the encoder's device) to tokens [B, N, D], float32."""
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise BenchError(f"an encoder takes clips [B, 3, T, H, W], not {list(clips.shape)}")
        self.grid(*clips.shape[2:])
        clips = clips.to(self.device, dtype=torch.float32)
        enabled = self.precision != "fp32"
        with torch.autocast(self.device.type, dtype=_DTYPES[self.precision], enabled=enabled):
            tokens: Tensor = self.module(clips)
        return tokens.float()


def transformer_flops(depth: int, embed_dim: int, mlp_dim: int, num_tokens: int) -> float:
    """Multiply-adds x 2 of the forward pass of a transformer's blocks on N tokens."""
    D, N = embed_dim, num_tokens
    return 2.0 * depth * (4 * N * D * D + 2 * N * D * mlp_dim + 2 * N * N * D)


def weights_digest(module: nn.Module, architecture: Mapping[str, Any]) -> str:
    """SHA-256 over the architecture and every tensor of the module (name, type, shape, bytes)."""
    digest = hashlib.sha256(json.dumps(dict(architecture), sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.view(torch.uint8).numpy() if values.ndim else values.numpy().tobytes())
    return digest.hexdigest()


def architecture_facts(kind: str, config: Any) -> dict[str, Any]:
    """The fields of an architecture dataclass, as they go into the digest and the record."""
    return {"kind": kind, **asdict(config)}


def default_num_heads(embed_dim: int) -> int:
    """Heads for a width that names none: head dimension near 64, at least two heads where the width allows."""
    wanted = max(2, round(embed_dim / 64))
    return max(n for n in range(1, wanted + 1) if embed_dim % n == 0)
