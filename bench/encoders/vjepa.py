"""The V-JEPA video transformer: 1 with sin-cos positions, 2 with rotary ones, 2.1 (arXiv 2404.08471, 2506.09985,
2603.14482; protocol.md 1.1, 1.3, 1.4).

Shapes: B clips, T frames, H and W pixels, N = t*h*w tokens in (t, h, w) raster order, n kept tokens, D channels, d
channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.encoders.attention import attend


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


Family = Literal["V-JEPA", "V-JEPA 2", "V-JEPA 2.1"]
_KINDS: dict[Family, str] = {"V-JEPA": "vjepa1", "V-JEPA 2": "vjepa2", "V-JEPA 2.1": "vjepa2_1"}


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
    multilevel: bool = False
    """V-JEPA 2.1: a norm at each of four levels, an embedding for images, and its own rotary positions; with
    `use_rope` (protocol.md 1.4)."""

    @property
    def family(self) -> Family:
        """The release whose encoder this is."""
        return "V-JEPA 2.1" if self.multilevel else "V-JEPA 2" if self.use_rope else "V-JEPA"

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.embed_dim // self.num_heads

    @property
    def native_grid(self) -> tuple[int, int, int]:
        """The (t, h, w) grid of the stored positions."""
        side = self.resolution // self.patch_size
        return self.num_frames // self.tubelet_size, side, side

    @property
    def layer_indices(self) -> tuple[int, ...]:
        """Blocks, counted from 0, whose tokens have a norm of their own: all of them, or the four levels of 2.1."""
        if not self.multilevel:
            return tuple(range(self.depth))
        # The official levels of 48 blocks are no quarters.
        return (11, 23, 37, 47) if self.depth == 48 else tuple(self.depth * k // 4 - 1 for k in (1, 2, 3, 4))

    @property
    def still_frames(self) -> int:
        """Frames that a still image is repeated to; 1 where images have an embedding of their own (2.1).

        The authors repeat it 16 times, and 18 times for the V-JEPA 2 ViT-g at 384 pixels (protocol.md 1.3, 3.4).
        Encoders made for shorter clips see as many frames as they were made for.
        """
        if self.multilevel:
            return 1
        frames = 18 if (self.family, self.embed_dim, self.resolution) == ("V-JEPA 2", 1408, 384) else 16
        return max(1, min(frames, self.num_frames) // self.tubelet_size) * self.tubelet_size


def architecture(config: VitConfig) -> dict[str, Any]:
    """What goes into digests and records. Digests address caches and records, so a family does not name the fields
    that came after it: those of its encoders stay what they are."""
    later = {"V-JEPA": {"use_rope", "multilevel"}, "V-JEPA 2": {"multilevel"}, "V-JEPA 2.1": set()}[config.family]
    fields = {name: value for name, value in asdict(config).items() if name not in later}
    return {"kind": _KINDS[config.family], **fields}


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
    "vit_giant_xformers": _size(1408, 40, 22, mlp_ratio=48 / 11),
    # The official registry misspells this entry's MLP ratio, so that the default of 4 holds (protocol.md 1.1).
    "vit_gigantic": _size(1664, 48, 16, patch_size=14),
    "vit_gigantic_xformers": _size(1664, 48, 26, mlp_ratio=64 / 13),
}
"""Every size with a name; all but `vit_nano` (for the embedded digits) are the official registries'. The released
giants of V-JEPA 2 and 2.1 are the two called xformers (protocol.md 1.3, 1.4)."""


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

    def __init__(self, config: VitConfig, tubelet_size: int) -> None:
        super().__init__()
        size = (tubelet_size, config.patch_size, config.patch_size)
        self.proj = nn.Conv3d(3, config.embed_dim, kernel_size=size, stride=size)

    def forward(self, clips: Tensor) -> Tensor:
        tokens: Tensor = self.proj(clips)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with a fused query-key-value projection, [B, n, D] -> [B, n, D].

    With a `rotation` (`rotation_at`) queries and keys are turned by their tokens' coordinates.
    """

    attention_in_slices = True
    """It goes through bench.encoders.attention; see `Encoder.rounding`."""

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
        mixed = attend(query, key, value)
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
        D = config.embed_dim
        if config.use_rope:
            rotary_channels(config.head_dim)
        else:
            positions = sincos_positions(D, config.native_grid, uniform_power=config.uniform_power)
            self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.patch_embed = PatchEmbed(config, config.tubelet_size)
        self.blocks = nn.ModuleList(Block(D, config.num_heads, config.mlp_dim) for _ in range(config.depth))
        if config.multilevel:
            self.patch_embed_img = PatchEmbed(config, 1)
            self.img_mod_embed = nn.Parameter(torch.zeros(1, 1, D))
            self.video_mod_embed = nn.Parameter(torch.zeros(1, 1, D))
            self.norms_block = nn.ModuleList(nn.LayerNorm(D, eps=1e-6) for _ in config.layer_indices)
        else:
            self.norm = nn.LayerNorm(D, eps=1e-6)

    def forward(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode [B, 3, T, H, W] to [B, N, D]; with `mask` ([B, n] token indices) only those tokens are seen."""
        x = self.embed(clips)
        if mask is not None:
            x = gather_tokens(x, mask)
        rotation = self.rotation(clips, mask)
        for block in self.blocks:
            x = block(x, rotation)
        return self.normed(x, self.config.depth - 1)

    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]:
        """The tokens that leave the named blocks, each with its norm: a list of [B, N, D] in the order asked for.

        V-JEPA 1 and 2 apply the final norm to every layer, V-JEPA 2.1 that of the level (protocol.md 1.1, 1.4).
        `out_layers` are entries of `VitConfig.layer_indices`.
        """
        x, rotation = self.embed(clips), self.rotation(clips)
        tokens: dict[int, Tensor] = {}
        for index in range(max(out_layers, default=-1) + 1):
            x = self.blocks[index](x, rotation)
            if index in out_layers:
                tokens[index] = self.normed(x, index)
        return [tokens[index] for index in out_layers]

    def normed(self, x: Tensor, index: int) -> Tensor:
        """What leaves block `index`, normalised as this encoder's tokens are: [B, n, D] -> [B, n, D]."""
        levels = self.config.layer_indices
        out: Tensor = self.norms_block[levels.index(index)](x) if self.config.multilevel else self.norm(x)
        return out

    def embed(self, clips: Tensor) -> Tensor:
        """Patches, and what is added to them before the first block: [B, 3, T, H, W] -> [B, N, D]."""
        is_image = self.config.multilevel and clips.shape[2] == 1
        x: Tensor = self.patch_embed_img(clips) if is_image else self.patch_embed(clips)
        if self.config.multilevel:
            return x + (self.img_mod_embed if is_image else self.video_mod_embed)
        return x if self.config.use_rope else x + self.positions(self.grid(clips))

    def grid(self, clips: Tensor) -> tuple[int, int, int]:
        """The (t, h, w) token grid of [B, 3, T, H, W]."""
        T, H, W = clips.shape[2:]
        p = self.config.patch_size
        return (1 if T == 1 else T // self.config.tubelet_size), H // p, W // p

    def rotation(self, clips: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """What turns queries and keys: the coordinates are those of the actual input; None with stored positions."""
        config = self.config
        if not config.use_rope:
            return None
        # The span is that of the 256 pixels of the first phase of training.
        span = 256 // config.patch_size if config.multilevel else None
        table = rotary_table(
            self.grid(clips), config.head_dim, clips.device, interleaved=config.multilevel, spatial_span=span
        )
        return rotation_at(table, mask)

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
