"""The V-JEPA video transformer (arXiv 2404.08471; protocol.md 1.1).

Shapes: B clips, T frames, H and W pixels, N = t*h*w tokens in (t, h, w) raster order, n kept tokens, D channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """Everything that fixes the shape of the transformer."""

    embed_dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    patch_size: int = 16
    """Side of a patch, pixels."""
    tubelet_size: int = 2
    """Frames of a patch."""
    num_frames: int = 16
    """Frames that the stored positions cover."""
    resolution: int = 224
    """Side of the square frames that the stored positions cover, pixels."""
    uniform_power: bool = True
    """Equal channels for time, height and width in the position code (all official configurations)."""

    @property
    def native_grid(self) -> tuple[int, int, int]:
        """The (t, h, w) grid of the stored positions."""
        side = self.resolution // self.patch_size
        return self.num_frames // self.tubelet_size, side, side


def _size(embed_dim: int, depth: int, num_heads: int, mlp_ratio: float = 4, patch_size: int = 16) -> VitConfig:
    mlp_dim = int(embed_dim * mlp_ratio)
    return VitConfig(embed_dim=embed_dim, depth=depth, num_heads=num_heads, mlp_dim=mlp_dim, patch_size=patch_size)


SIZES: dict[str, VitConfig] = {
    "vit_nano": replace(_size(64, 3, 4, patch_size=4), num_frames=8, resolution=16),
    "vit_tiny": _size(192, 12, 3),
    "vit_small": _size(384, 12, 6),
    "vit_base": _size(768, 12, 12),
    "vit_large": _size(1024, 24, 16),
    "vit_huge": _size(1280, 32, 16),
    "vit_giant": _size(1408, 40, 16, mlp_ratio=48 / 11),
    # The official registry misspells this entry's MLP ratio, so that the default of 4 holds (protocol.md 1.1).
    "vit_gigantic": _size(1664, 48, 16, patch_size=14),
}
"""Every size with a name; all but `vit_nano` (for the embedded digits) are the official registry's."""


def sincos_positions(embed_dim: int, grid: tuple[int, int, int], *, uniform_power: bool = True) -> Tensor:
    """The fixed position code of a (t, h, w) grid: [1, t*h*w, D] float32 (protocol.md 1.1)."""
    equal = (math.ceil(embed_dim / 6) * 2,) * 3
    widths = equal if uniform_power else (embed_dim // 2, embed_dim // 4, embed_dim // 4)
    axes = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in grid), indexing="ij")
    codes = []
    for positions, width in zip(axes, widths, strict=True):
        omega = 10000.0 ** (-np.arange(width // 2, dtype=np.float64) / (width / 2))
        angles = positions.reshape(-1, 1) * omega
        codes.append(np.concatenate([np.sin(angles), np.cos(angles)], axis=1))
    table = np.concatenate(codes, axis=1)[:, :embed_dim]
    return torch.from_numpy(table.astype(np.float32))[None]


class PatchEmbed(nn.Module):
    """Non-overlapping tubelets to tokens: [B, 3, T, H, W] -> [B, N, D]."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        size = (config.tubelet_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.embed_dim, kernel_size=size, stride=size)

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.proj(clips)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with a fused query-key-value projection, [B, n, D] -> [B, n, D]."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        B, n, D = x.shape
        qkv = self.qkv(x).view(B, n, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(B, n, D))
        return out


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block, [B, n, D] -> [B, n, D]."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionTransformer(nn.Module):
    """Clips to tokens. Tensor names are those of the official checkpoints (protocol.md 2.2)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        positions = sincos_positions(config.embed_dim, config.native_grid, uniform_power=config.uniform_power)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_dim) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)

    def forward(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode [B, 3, T, H, W] to [B, N, D]; with `mask` ([B, n] token indices) only those tokens are seen."""
        size = (
            clips.shape[2] // self.config.tubelet_size,
            *(s // self.config.patch_size for s in clips.shape[3:]),
        )
        x = self.patch_embed(clips) + self.positions(size)
        if mask is not None:
            x = gather_tokens(x, mask)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def positions(self, grid: tuple[int, ...]) -> Tensor:
        """The position code [1, N, D] of a (t, h, w) grid: the stored one, resized trilinearly for other grids."""
        native = self.config.native_grid
        if tuple(grid) == native:
            return self.pos_embed
        volume = self.pos_embed.reshape(1, *native, -1).permute(0, 4, 1, 2, 3)
        resized = F.interpolate(volume, size=tuple(grid), mode="trilinear", align_corners=False)
        return resized.permute(0, 2, 3, 4, 1).flatten(1, 3)


def gather_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """The tokens [B, n, D] of [B, N, D] at the indices `mask` [B, n]."""
    return torch.gather(tokens, 1, mask.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def init_untrained(model: VisionTransformer, *, seed: int, std: float = 0.02, patch_gain: float = 1.0) -> None:
    """Fill `model` with the weights of an untrained encoder: normal linear weights, zero biases, unit norms.

    The stream is NumPy's legacy one, which is frozen, so that a seed names the same weights on every machine and
    version. `std` 0.02 is the official initialisation, whose truncation at 100 deviations never acts; the residual
    output layers of block i are divided by sqrt(2 (i + 1)) (protocol.md 1.1). `patch_gain` scales the patch weights.
    """
    stream = np.random.RandomState(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "pos_embed":
                continue
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                values = torch.from_numpy(stream.standard_normal(tuple(parameter.shape)) * std)
                parameter.copy_(values * patch_gain if name.startswith("patch_embed") else values)
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
                parameter.div_(math.sqrt(2.0 * (int(name.split(".")[1]) + 1)))
