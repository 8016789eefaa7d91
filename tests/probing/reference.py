"""The attentive probes of protocol.md 4.1 and 4.2 written plainly, keys and values and all: the oracle of the tests."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        B, N, D = x.shape
        heads = (self.num_heads, D // self.num_heads)
        q = self.q(query).view(B, -1, *heads).transpose(1, 2)
        k, v = (part.view(B, N, *heads).transpose(1, 2) for part in self.kv(x).chunk(2, dim=-1))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, -1, D)


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class CrossAttentionBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.xattn = CrossAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        query = query + self.xattn(query, self.norm1(x))
        return query + self.mlp(self.norm2(query))


class SelfAttention(nn.Module):
    """Written with a softmax, so that it shares nothing with the code it judges."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out = []
        for q_h, k_h, v_h in zip(*(t.chunk(self.num_heads, dim=-1) for t in (q, k, v)), strict=True):
            attention = (q_h @ k_h.mT / q_h.shape[-1] ** 0.5).softmax(dim=-1)
            out.append(attention @ v_h)
        return self.proj(torch.cat(out, dim=-1))


class SelfAttentionBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Pooler(nn.Module):
    def __init__(self, dim: int, num_heads: int, num_blocks: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, 1, dim))
        self.cross_attention_block = CrossAttentionBlock(dim, num_heads)
        self.blocks = nn.ModuleList(SelfAttentionBlock(dim, num_heads) for _ in range(num_blocks - 1))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.cross_attention_block(self.query_tokens.expand(len(x), -1, -1), x)


class ReferenceProbe(nn.Module):
    """Tokens [B, N, D] -> logits [B, C]; `num_blocks` counts the cross-attention block."""

    def __init__(self, dim: int, num_classes: int, num_heads: int, num_blocks: int = 1) -> None:
        super().__init__()
        self.pooler = Pooler(dim, num_heads, num_blocks)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.pooler(x).squeeze(1))
