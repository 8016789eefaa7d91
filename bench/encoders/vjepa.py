"""The V-JEPA video transformer, with sin-cos or rotary positions (arXiv 2404.08471, 2506.09985; protocol.md 1.1, 1.3).

Shapes: B clips, T frames, H and W pixels, N = t*h*w tokens in (t, h, w) raster order, n kept tokens, D channels,
d channels of a head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError


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
    use_rope: bool = False
    """Rotary positions inside attention (V-JEPA 2) in place of a stored position code."""

    @property
    def head_dim(self) -> int:
        """Channels d of a head."""
        return self.embed_dim // self.num_heads

    @property
    def native_grid(self) -> tuple[int, int, int]:
        """The (t, h, w) grid of the stored positions."""
        side = self.resolution // self.patch_size
        return self.num_frames // self.tubelet_size, side, side


def architecture(config: VitConfig) -> dict[str, Any]:
    """What goes into digests and records. Without rotary positions it does not name them: digests address caches and
    records, and those of encoders with stored positions must stay what they are."""
    if config.use_rope:
        return {"kind": "vjepa2", **asdict(config)}
    return {"kind": "vjepa1", **{name: value for name, value in asdict(config).items() if name != "use_rope"}}


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


def rotary_table(grid: tuple[int, int, int], head_dim: int, device: torch.device | None = None) -> Tensor:
    """Cosines and signed sines that turn the heads of the tokens of a (t, h, w) grid: [2, N, d] float32.

    The channels of a head are [time | height | width | rest], the rest does not turn. The frequencies of an axis are
    tiled although adjacent channels are partners, so the two of a pair turn by different angles: the released
    weights were trained so (protocol.md 1.3). The sine's sign is the partner's in `rotate`.
    """
    width = rotary_channels(head_dim)
    axes = torch.meshgrid(*(torch.arange(n, device=device, dtype=torch.float32) for n in grid), indexing="ij")
    omega = 10000.0 ** (-torch.arange(width // 2, device=device, dtype=torch.float32) / (width / 2))
    angles = torch.cat([(positions.reshape(-1, 1) * omega).repeat(1, 2) for positions in axes], dim=1)
    angles = F.pad(angles, (0, head_dim - 3 * width))
    sign = 2 * (torch.arange(head_dim, device=device) % 2) - 1
    return torch.stack([angles.cos(), angles.sin() * sign])


def rotation_at(table: Tensor, mask: Tensor | None = None) -> Tensor:
    """The rotation that `Attention` takes: of all tokens of a `rotary_table` [2, 1, 1, N, d], or of those at `mask`
    [B, n], [2, B, 1, n, d]."""
    return table[:, None, None] if mask is None else table[:, mask].unsqueeze(2)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn the heads [..., B, heads, n, d] by a `rotation` [2, 1 or B, 1, n, d], in float32; the type stays."""
    cosines, signed_sines = rotation.unbind(0)
    partners = x.view(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return (x * cosines + partners * signed_sines).to(x.dtype)


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
    """Multi-head self-attention with a fused query-key-value projection, [B, n, D] -> [B, n, D].

    With a `rotation` (`rotation_at`) queries and keys are turned by their tokens' coordinates.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        B, n, D = x.shape
        qkv = self.qkv(x).view(B, n, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        if rotation is not None:
            query, key = rotate(qkv[:2], rotation).unbind(0)
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
    """Pre-norm transformer block, [B, n, D] -> [B, n, D]; `rotation` as in `Attention`."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_dim)

    def forward(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), rotation)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VisionTransformer(nn.Module):
    """Clips to tokens. Tensor names are those of the official checkpoints (protocol.md 2.2)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        if config.use_rope:
            rotary_channels(config.head_dim)
        else:
            positions = sincos_positions(config.embed_dim, config.native_grid, uniform_power=config.uniform_power)
            self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_dim) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=1e-6)

    def forward(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode [B, 3, T, H, W] to [B, N, D]; with `mask` ([B, n] token indices) only those tokens are seen."""
        x = self.embed(clips)
        if mask is not None:
            x = gather_tokens(x, mask)
        rotation = self.rotation(clips, mask)
        for block in self.blocks:
            x = block(x, rotation)
        out: Tensor = self.norm(x)
        return out

    def embed(self, clips: Tensor) -> Tensor:
        """Patches and stored positions, what enters the first block: [B, 3, T, H, W] -> [B, N, D]."""
        x: Tensor = self.patch_embed(clips)
        return x if self.config.use_rope else x + self.positions(self.grid(clips))

    def grid(self, clips: Tensor) -> tuple[int, int, int]:
        """The (t, h, w) token grid of [B, 3, T, H, W]."""
        T, H, W = clips.shape[2:]
        p = self.config.patch_size
        return T // self.config.tubelet_size, H // p, W // p

    def rotation(self, clips: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """What turns queries and keys: the coordinates are those of the actual input; None with stored positions."""
        if not self.config.use_rope:
            return None
        return rotation_at(rotary_table(self.grid(clips), self.config.head_dim, clips.device), mask)

    def layer_outputs(self, clips: Tensor) -> list[Tensor]:
        """What leaves each block, first to last, before the final norm: a list of [B, N, D]."""
        x, rotation, outputs = self.embed(clips), self.rotation(clips), []
        for block in self.blocks:
            x = block(x, rotation)
            outputs.append(x)
        return outputs

    def positions(self, grid: tuple[int, int, int]) -> Tensor:
        """The position code [1, N, D] of a (t, h, w) grid: the stored one, resized trilinearly for other grids."""
        native = self.config.native_grid
        if grid == native:
            return self.pos_embed
        volume = self.pos_embed.reshape(1, *native, -1).permute(0, 4, 1, 2, 3)
        resized = F.interpolate(volume, size=grid, mode="trilinear", align_corners=False)
        return resized.permute(0, 2, 3, 4, 1).flatten(1, 3)


def tubelets(clips: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """The values of each tubelet, colours first: [B, 3, T, H, W] -> [B, N, 3 * tubelet * patch * patch]."""
    B, C, T, H, W = clips.shape
    u, p = tubelet_size, patch_size
    pieces = clips.reshape(B, C, T // u, u, H // p, p, W // p, p).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return pieces.reshape(B, (T // u) * (H // p) * (W // p), C * u * p * p)


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
