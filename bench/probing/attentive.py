"""The one-block attentive probe of V-JEPA 1 (protocol.md 4.1), for all settings of a sweep at once.

Its query is learned, so keys and values of the tokens are never needed. With x the normalised tokens, g and b the
scale and shift of the first norm, and q = Wq query + bq, a head's score is

    (Wk (g x + b) + bk) . q / sqrt(d)  =  x . [g (Wk^T q) / sqrt(d)]  +  a constant, which the softmax cancels

and the attended value is Wv (g (sum_n p_n x_n) + b) + bv. So every head of every setting is one vector u that scores
the same tokens, and values are projected after pooling: the tokens are read once for the whole sweep.

Shapes: S settings, B clips, N tokens, D channels, H heads of d = D / H channels, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.probing.first_weights import first_weights
from bench.probing.kernels import linear, pool_tokens
from bench.probing.loop import CrossEntropy, Losses
from bench.probing.stack import Stack

QUERY = "pooler.query_tokens"
BLOCK = "pooler.cross_attention_block"
MATRICES = (
    *(f"{BLOCK}.{layer}.weight" for layer in ("xattn.q", "xattn.kv", "mlp.fc1", "mlp.fc2")),
    "linear.weight",
)
NORM_EPS = 1e-5
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
    """Untrained weights (bench.probing.first_weights)."""
    return first_weights(tensor_shapes(embed_dim, num_classes), seed=seed)


def attentive_logits(
    weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int, *, norm_eps: float | None = NORM_EPS
) -> Tensor:
    """Logits [S, B, C] of S probes (the official tensors, each with a leading S) for tokens [B, N, D].

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
    B, H, d = tokens.shape[0], num_heads, D // num_heads
    kv, g, b = w["xattn.kv.weight"], w["norm1.weight"][:, None], w["norm1.bias"][:, None, None]
    keys, values = kv.view(S, 2, H, d, D).unbind(1)
    d_keys, d_values = (None, None) if kv.grad is None else kv.grad.view(S, 2, H, d, D).unbind(1)

    u = linear(q.view(S, H, 1, d), keys, d_keys, transposed=True).view(S, H, D) * g / math.sqrt(d)
    pooled = pool_tokens(u.reshape(S * H, D), tokens, eps=norm_eps)  # [B, S*H, D]
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
