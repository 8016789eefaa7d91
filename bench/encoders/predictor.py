"""From the context's tokens to what stands at the masked places (arXiv 2404.08471 section 3; protocol.md 1.2, 1.3).

Shapes: B clips, n context tokens, m target tokens, N tokens of the full grid, D encoder channels, P predictor channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.encoders.vjepa import Block, gather_tokens, rotary_channels, rotary_table, rotation_at, sincos_positions


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Everything that fixes the shape of the predictor."""

    encoder_dim: int
    """D, channels of the encoder's tokens."""
    out_dim: int
    """Channels of what is predicted: D for features, the values of a patch for pixels."""
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 16
    grid: tuple[int, int, int] = (8, 14, 14)
    """(t, h, w) token grid that the masks index."""
    num_mask_tokens: int = 2
    uniform_power: bool = True
    use_rope: bool = False
    """Rotary positions inside attention (V-JEPA 2) in place of a stored position code."""


class Predictor(nn.Module):
    """A narrow transformer over context tokens and mask tokens. Tensor names are the official ones."""

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        if config.use_rope:
            rotary_channels(width // config.num_heads)
        else:
            positions = sincos_positions(width, config.grid, uniform_power=config.uniform_power)
            self.predictor_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.predictor_embed = nn.Linear(config.encoder_dim, width)
        self.mask_tokens = nn.ParameterList(torch.zeros(1, 1, width) for _ in range(config.num_mask_tokens))
        self.predictor_blocks = nn.ModuleList(Block(width, config.num_heads, 4 * width) for _ in range(config.depth))
        self.predictor_norm = nn.LayerNorm(width, eps=1e-6)
        self.predictor_proj = nn.Linear(width, config.out_dim)

    def forward(self, context: Tensor, context_mask: Tensor, target_mask: Tensor, mask_index: int = 0) -> Tensor:
        """Tokens [B, n, D] at `context_mask` [B, n] -> predictions [B, m, out_dim] at `target_mask` [B, m].

        `mask_index` says which kind of mask it is; each kind has a mask token of its own.
        """
        seen = self.predictor_embed(context)
        hidden = self.mask_tokens[mask_index % len(self.mask_tokens)].expand(*target_mask.shape, -1)
        rotation = None
        if self.config.use_rope:
            table = rotary_table(self.config.grid, self.config.embed_dim // self.config.num_heads, context.device)
            rotation = rotation_at(table, torch.cat([context_mask, target_mask], dim=1))
        else:
            positions = self.predictor_pos_embed.expand(len(context), -1, -1)
            seen = seen + gather_tokens(positions, context_mask)
            hidden = hidden + gather_tokens(positions, target_mask)
        x = torch.cat([seen, hidden], dim=1)
        for block in self.predictor_blocks:
            x = block(x, rotation)
        out: Tensor = self.predictor_proj(self.predictor_norm(x[:, seen.shape[1] :]))
        return out
