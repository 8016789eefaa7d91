"""Two operations with a backward pass of their own: stacked linear layers, and attention pooling by fixed queries.

The backward pass of the linear layers assigns the weight's gradient in place (the weight must be used once), because
the gradients of twenty probes are too large to be allocated, added and cleared in every step. Pooling keeps what is
small: normalised tokens and attention weights that are larger are made again, so that the memory for a step does not
grow with the settings times the tokens.

Shapes: S settings, G groups (heads) with weights of their own, R rows, B clips, N tokens, D channels, K queries.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CPU_CHUNK = 1 << 21
"""Token values that are worked on at once on a CPU: what its caches hold."""
_GPU_CHUNK = 1 << 28
_CPU_ATTENTION = 1 << 24
"""Attention weights that are kept for the backward pass: 64 MiB. More are computed again, to the same bits."""
_GPU_ATTENTION = 1 << 28


def linear(x: Tensor, weight: Tensor, gradient: Tensor | None, *, transposed: bool = False) -> Tensor:
    """Rows [S, G, R, in] times weights [S, G, out, in] -> [S, G, R, out]; G may be absent from all three.

    `gradient`, of the weight's shape, is assigned by the backward pass. `transposed`: weights are [S, G, in, out].
    """
    grouped = x.ndim == 4
    if not grouped:
        x, weight = x.unsqueeze(1), weight.unsqueeze(1)
        gradient = None if gradient is None else gradient.unsqueeze(1)
    out: Tensor = _Linear.apply(x, weight, gradient, transposed)
    return out if grouped else out.squeeze(1)


def pool_tokens(queries: Tensor, tokens: Tensor, *, eps: float | None) -> Tensor:
    """Softmax-weighted means [B, K, D] of the normalised tokens [B, N, D], scored by `queries` [K, D].

    `eps` is the norm's; None for tokens that are normalised already, of the queries' type. The gradient goes to the
    queries only: the tokens are data.
    """
    out: Tensor = _Pool.apply(queries, tokens, eps)
    return out


def _products(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """left [S, G, a, b] @ right [S, G, b, c], into `out` if given. One batched product per group needs no copies."""
    if out is None:
        S, G, a, _ = left.shape
        out = left.new_empty(G, S, a, right.shape[-1]).transpose(0, 1)
    for group in range(left.shape[1]):
        torch.bmm(left[:, group], right[:, group], out=out[:, group])
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gradient: Tensor | None, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.gradient, ctx.transposed = gradient, transposed
        return _products(x, weight if transposed else weight.mT)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, None, None, None]:
        (dy,) = outer
        x, weight = ctx.saved_tensors
        left, right = (x, dy) if ctx.transposed else (dy, x)
        _products(left.mT, right, out=ctx.gradient)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        return _products(dy, weight.mT if ctx.transposed else weight), None, None, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, tokens: Tensor, eps: float | None) -> Tensor:
        pooled = queries.new_empty(len(tokens), *queries.shape)
        attention = []
        most = _CPU_ATTENTION if tokens.device.type == "cpu" else _GPU_ATTENTION
        keep = len(queries) * tokens.shape[0] * tokens.shape[1] <= most
        chunks = _chunks(tokens)
        for rows in chunks:
            x = _normalised(tokens[rows], queries.dtype, eps)
            p = _attention(queries, x)
            torch.bmm(p, x, out=pooled[rows])
            if ctx.needs_input_grad[0] and keep:
                attention.append(p)
        # What fits the caches is kept; what does not is normalised again, as memory for all tokens is dearer.
        ctx.is_normalised = len(chunks) == 1
        ctx.save_for_backward(queries, x if ctx.is_normalised else tokens, pooled, *attention)
        ctx.eps = eps
        return pooled

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        (d_pooled,) = outer
        queries, tokens, pooled, *attention = ctx.saved_tensors
        # The softmax's correction sum_n p_n dp_n is d_pooled . pooled: no pass over the tokens.
        correction = (d_pooled * pooled).sum(-1, keepdim=True)
        total = torch.zeros_like(pooled[0])
        for number, rows in enumerate(_chunks(tokens)):
            x = tokens if ctx.is_normalised else _normalised(tokens[rows], pooled.dtype, ctx.eps)
            p = attention[number] if attention else _attention(queries, x)
            d_scores = torch.bmm(d_pooled[rows], x.mT).sub_(correction[rows]).mul_(p)
            total += torch.bmm(d_scores, x).sum(0)
        return total, None, None


def _attention(queries: Tensor, x: Tensor) -> Tensor:
    """Attention weights [b, K, N] of the queries [K, D] over normalised tokens [b, N, D]."""
    return torch.matmul(queries, x.mT).softmax(dim=-1)


def _chunks(tokens: Tensor) -> list[slice]:
    """Runs of clips whose tokens are worked on at once."""
    size = max(1, (_CPU_CHUNK if tokens.device.type == "cpu" else _GPU_CHUNK) // tokens[0].numel())
    return [slice(start, start + size) for start in range(0, len(tokens), size)]


def _normalised(tokens: Tensor, dtype: torch.dtype, eps: float | None) -> Tensor:
    if eps is None:
        return tokens
    return F.layer_norm(tokens.to(dtype), tokens.shape[-1:], eps=eps)
