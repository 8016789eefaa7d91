"""The one-block attentive probe of V-JEPA 1 (protocol.md 4.1), for all settings of a sweep at once.

Its query is learned, so keys and values of the tokens are never needed. With x the normalised tokens, g and b the
scale and shift of the first norm, and q = Wq query + bq, a head's score is

    (Wk (g x + b) + bk) . q / sqrt(d)  =  x . [g (Wk^T q) / sqrt(d)]  +  a constant, which the softmax cancels

and the attended value is Wv (g (sum_n p_n x_n) + b) + bv. So every head of every setting is one vector u that scores
the same tokens, and values are projected after pooling: the tokens are read once for the whole sweep.

Stacked linear layers and the pooling have backward passes of their own. That of the linear layers assigns the weight's
gradient in place (the weight must be used once), because the gradients of twenty probes are too large to be allocated,
added and cleared in every step. Pooling keeps what is small: normalised tokens and attention weights that are larger
are made again, so that the memory for a step does not grow with the settings times the tokens.

Shapes: S settings, B clips, N tokens, D channels, H heads of d = D / H channels, C classes; G groups (heads) with
weights of their own, R rows, K queries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.probing.loop import CrossEntropy, Losses
from bench.probing.source import TokenSource
from bench.probing.weights import Stack, first_weights

QUERY = "pooler.query_tokens"
BLOCK = "pooler.cross_attention_block"
MATRICES = (
    *(f"{BLOCK}.{layer}.weight" for layer in ("xattn.q", "xattn.kv", "mlp.fc1", "mlp.fc2")),
    "linear.weight",
)
NORM_EPS = 1e-5
STANDARD_EPS = 1e-6
"""Added to variances of channels, so that one that is constant is not divided by nothing."""
_STANDARD_SAMPLES, _STANDARD_AT_ONCE = 4096, 64
OFFICIAL_NUM_HEADS = {1024: 16, 1280: 16, 1408: 16}
"""Heads of the official probes by width: always 16, whatever their encoder has (protocol.md 4.2)."""


def tensor_shapes(embed_dim: int, num_classes: int) -> dict[str, tuple[int, ...]]:
    """The official tensors of a probe that take part in its function, and their shapes (protocol.md 2.3)."""
    D, C = embed_dim, num_classes
    block = {
        "norm1.weight": (D,),
        "norm1.bias": (D,),
        "xattn.q.weight": (D, D),
        "xattn.q.bias": (D,),
        "xattn.kv.weight": (2 * D, D),
        "xattn.kv.bias": (2 * D,),
        "norm2.weight": (D,),
        "norm2.bias": (D,),
        "mlp.fc1.weight": (4 * D, D),
        "mlp.fc1.bias": (4 * D,),
        "mlp.fc2.weight": (D, 4 * D),
        "mlp.fc2.bias": (D,),
    }
    named = {f"{BLOCK}.{name}": shape for name, shape in block.items()}
    return {QUERY: (1, 1, D), **named, "linear.weight": (C, D), "linear.bias": (C,)}


def initial_weights(embed_dim: int, num_classes: int, *, seed: int) -> dict[str, Tensor]:
    """Untrained weights (bench.probing.weights)."""
    return first_weights(tensor_shapes(embed_dim, num_classes), seed=seed)


def standard_norm(source: TokenSource, *, norm_eps: float | None) -> dict[str, Tensor]:
    """The scale and shift [D] of a first norm that give every channel of the normalised tokens zero mean and unit
    variance over the first view of the source (of evenly spaced samples, where it has many), by their names in a probe.

    Tokens of an encoder may have most of their variance in a few channels; a probe then needs long to find the rest.
    """
    rows = np.unique(
        np.linspace(0, source.num_samples - 1, min(source.num_samples, _STANDARD_SAMPLES)).astype(np.int64)
    )
    D, count = source.embed_dim, 0
    total, squares = torch.zeros(D, dtype=torch.float64), torch.zeros(D, dtype=torch.float64)
    for start in range(0, len(rows), _STANDARD_AT_ONCE):
        tokens = source.read(rows[start : start + _STANDARD_AT_ONCE], 0)
        x = _normalised(tokens, torch.float32, norm_eps).flatten(0, 1).double()
        total, squares, count = total + x.sum(0), squares + x.square().sum(0), count + len(x)
    mean = total / count
    scale = (squares / count - mean.square()).clamp(min=0).add(STANDARD_EPS).rsqrt()
    return {f"{BLOCK}.norm1.weight": scale.float(), f"{BLOCK}.norm1.bias": (-mean * scale).float()}


def attentive_logits(
    weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int, *, norm_eps: float | None = NORM_EPS
) -> Tensor:
    """Logits [S, B, C] of S probes (the official tensors, each with a leading S) for tokens [B, N, D]; or [K, B, N, D],
    where K seeds of S / K settings each see batches of their own.

    `norm_eps` is None for tokens that are normalised already (source.NormalisedTokens). The backward pass fills the
    `.grad` of MATRICES by itself, see kernels.linear.
    """
    w = {name.removeprefix(f"{BLOCK}."): weight for name, weight in weights.items()}
    query = w[QUERY].flatten(1)
    D = query.shape[1]

    def project(x: Tensor, layer: str) -> Tensor:
        weight = w[f"{layer}.weight"]
        return linear(x, weight, weight.grad) + w[f"{layer}.bias"].unsqueeze(1)

    y = _attend(w, project(query[:, None], "xattn.q"), tokens, num_heads, norm_eps)
    h = query[:, None] + y
    z = F.layer_norm(h, (D,), eps=NORM_EPS) * w["norm2.weight"][:, None] + w["norm2.bias"][:, None]
    h = h + project(F.gelu(project(z, "mlp.fc1")), "mlp.fc2")
    return project(h, "linear")


def _attend(w: Mapping[str, Tensor], q: Tensor, tokens: Tensor, num_heads: int, norm_eps: float | None) -> Tensor:
    """Attended values [S, B, D] of the projected queries q [S, 1, D], without output projection (protocol.md 4.1)."""
    S, _, D = q.shape
    B, H, d = tokens.shape[-3], num_heads, D // num_heads
    kv, g, b = w["xattn.kv.weight"], w["norm1.weight"][:, None], w["norm1.bias"][:, None, None]
    keys, values = kv.view(S, 2, H, d, D).unbind(1)
    d_keys, d_values = (None, None) if kv.grad is None else kv.grad.view(S, 2, H, d, D).unbind(1)

    u = linear(q.view(S, H, 1, d), keys, d_keys, transposed=True).view(S, H, D) * g / math.sqrt(d)
    queries = u.reshape(S * H, D)
    if tokens.ndim == 3:
        pooled = pool_tokens(queries, tokens, eps=norm_eps)  # [B, S*H, D]
    else:
        seeds = zip(queries.chunk(len(tokens)), tokens, strict=True)
        pooled = torch.cat([pool_tokens(of_seed, seen, eps=norm_eps) for of_seed, seen in seeds], dim=1)
    x = torch.addcmul(b, pooled.view(B, S, H, D).permute(1, 2, 0, 3), g[:, None])  # [S, H, B, D]
    y = linear(x, values, d_values).transpose(1, 2).reshape(S, B, D)
    return y + w["xattn.kv.bias"][:, None, D:]


class AttentiveSweep:
    """S probes that share their initial weights and see the same tokens."""

    def __init__(
        self,
        initial: Mapping[str, Tensor],
        num_settings: int,
        num_heads: int,
        losses: Losses = CrossEntropy(),
        *,
        norm_eps: float | None = NORM_EPS,
    ) -> None:
        self.stack = Stack(initial, num_settings, assigned=MATRICES)
        self.num_heads = num_heads
        self.norm_eps = norm_eps
        self._losses = losses

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, C]."""
        return attentive_logits(self.stack.weights, tokens, self.num_heads, norm_eps=self.norm_eps)

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D] of B targets; return the losses [S]."""
        losses = self._losses.means(self.logits(tokens), targets)
        self.stack.backward(losses)
        return losses.detach()

    def probe(self, index: int) -> AttentiveProbe:
        """One setting as a probe of its own."""
        return AttentiveProbe(self.stack.setting(index), self.num_heads)


class AttentiveProbe(nn.Module):
    """One frozen probe, tokens [B, N, D] -> logits [B, C]. Its state dict has the official names (protocol.md 2.3)."""

    def __init__(self, weights: Mapping[str, Tensor], num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.token_scale = 1.0
        """A power of two that tokens are multiplied by first; 1 for probes of tokens of ordinary size."""
        for name, weight in weights.items():
            *folders, leaf = name.split(".")
            module: nn.Module = self
            for folder in folders:
                if not hasattr(module, folder):
                    module.add_module(folder, nn.Module())
                module = module.get_submodule(folder)
            module.register_parameter(leaf, nn.Parameter(weight.detach(), requires_grad=False))
        self.eval()

    def scaled(self, tokens: Tensor) -> Tensor:
        """The tokens at `token_scale`."""
        return tokens if self.token_scale == 1 else tokens.float() * self.token_scale

    def forward(self, tokens: Tensor) -> Tensor:
        weights = {name: weight.unsqueeze(0) for name, weight in self.named_parameters()}
        return attentive_logits(weights, self.scaled(tokens), self.num_heads)[0]


def check_heads(embed_dim: int, num_heads: int, *, where: str | None = None) -> None:
    """Raise BenchError where the width does not divide into this many heads."""
    if num_heads < 1 or embed_dim % num_heads:
        raise BenchError(
            f"a probe of {embed_dim} channels cannot have {num_heads} heads",
            where=where,
            fix="give a divisor of the width as num_heads",
        )


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
