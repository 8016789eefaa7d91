"""The attentive probe of V-JEPA 2 (protocol.md 4.2): self-attention blocks over all tokens before the query attends.

x -> pre-norm blocks (fused qkv, output projection, MLP; no positions) -> cross-attention of one learned query without
output projection, as in the one-block probe -> linear. The settings of a sweep share nothing but the tokens, so they
are computed one after another, and a setting gets the same numbers whichever others are trained beside it.

Shapes: S settings, B clips, N tokens, M queries, D channels, H heads, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bench.core.errors import BenchError
from bench.core.tensors import default_num_heads
from bench.core.threads import free_memory_bytes
from bench.probing import attentive
from bench.probing.attentive import AttentiveProbe
from bench.probing.loop import CrossEntropy, Losses
from bench.probing.weights import Stack, first_weights

BLOCKS = "pooler.blocks"
CLASSIFIERS = ("verb_classifier", "noun_classifier", "action_classifier")
"""Classifiers of probes with three queries, in the order of the official ones (protocol.md 4.2)."""
_MICRO_BATCH_VALUES = 1 << 25
"""Token values (clips x tokens x channels) in a forward pass: 128 MiB each for the tensors of a block."""
_ALIGNMENT = 64
"""Numbers that rows of the sweep start at multiples of: 256 bytes, as far as processors look."""
_BYTES_PER_WEIGHT = 16
"""In training: the weight, its gradient and AdamW's two means, float32."""
MEMORY_SHARE = 0.5
"""Part of a device's free memory that settings trained at once may take; the rest is for their activations."""


def tensor_shapes(embed_dim: int, num_classes: int, num_blocks: int) -> dict[str, tuple[int, ...]]:
    """The official tensors of a probe and their shapes (protocol.md 2.3).

    `num_blocks` counts the cross-attention block: 4 is the official V-JEPA 2 probe, 1 that of V-JEPA 1.
    """
    D = embed_dim
    block = {
        "norm1.weight": (D,),
        "norm1.bias": (D,),
        "attn.qkv.weight": (3 * D, D),
        "attn.qkv.bias": (3 * D,),
        "attn.proj.weight": (D, D),
        "attn.proj.bias": (D,),
        "norm2.weight": (D,),
        "norm2.bias": (D,),
        "mlp.fc1.weight": (4 * D, D),
        "mlp.fc1.bias": (4 * D,),
        "mlp.fc2.weight": (D, 4 * D),
        "mlp.fc2.bias": (D,),
    }
    named = {f"{BLOCKS}.{i}.{name}": shape for i in range(num_blocks - 1) for name, shape in block.items()}
    return {**attentive.tensor_shapes(embed_dim, num_classes), **named}


def initial_weights(embed_dim: int, num_classes: int, num_blocks: int, *, seed: int) -> dict[str, Tensor]:
    """Untrained weights (bench.probing.weights)."""
    return first_weights(tensor_shapes(embed_dim, num_classes, num_blocks), seed=seed)


def block_logits(
    weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int, *, norm_eps: float, recompute: bool = False
) -> Tensor:
    """Logits [B, C] of one probe for tokens [B, N, D]; `recompute` as in `pooled_tokens`.

    A probe of several queries has a classifier for each, whose logits stand side by side (bench.probing.actions).
    """
    h = pooled_tokens(weights, tokens, num_heads, norm_eps=norm_eps, recompute=recompute)
    if "linear.weight" in weights:
        return F.linear(h, weights["linear.weight"], weights["linear.bias"])
    layers = ((weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in CLASSIFIERS)
    return torch.cat([F.linear(x, *layer) for x, layer in zip(h.unbind(dim=1), layers, strict=True)], dim=-1)


def pooled_tokens(
    weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int, *, norm_eps: float, recompute: bool = False
) -> Tensor:
    """What the query of a probe makes of tokens [B, N, D]: [B, D]; M queries, which do not see each other: [B, M, D].

    `recompute`: keep only the inputs of the blocks, and compute the rest again when gradients flow back.
    """
    query = weights[attentive.QUERY]
    x = tokens.to(query.dtype)
    for block in _self_attention_blocks(weights):
        if recompute:
            x = checkpoint(_self_attention, x, block, num_heads, norm_eps, use_reentrant=False)
        else:
            x = _self_attention(x, block, num_heads, norm_eps)
    return _cross_attention(query, x, _part(weights, f"{attentive.BLOCK}."), num_heads, norm_eps)


def _self_attention_blocks(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    num_blocks = len({name.split(".")[2] for name in weights if name.startswith(f"{BLOCKS}.")})
    return [_part(weights, f"{BLOCKS}.{i}.") for i in range(num_blocks)]


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _self_attention(x: Tensor, w: Mapping[str, Tensor], num_heads: int, eps: float) -> Tensor:
    """One pre-norm block, tokens [B, N, D] -> [B, N, D]."""
    q, k, v = _project(_norm(x, w, "norm1", eps), w, "attn.qkv").chunk(3, dim=-1)
    x = x + _project(_attend(q, k, v, num_heads), w, "attn.proj")
    return x + _mlp(_norm(x, w, "norm2", eps), w)


def _cross_attention(query: Tensor, x: Tensor, w: Mapping[str, Tensor], num_heads: int, eps: float) -> Tensor:
    """What queries [1, M, D], which have no norm of their own, make of tokens [B, N, D]: [B, M, D]; one: [B, D]."""
    k, v = _project(_norm(x, w, "norm1", eps), w, "xattn.kv").chunk(2, dim=-1)
    q = _project(query, w, "xattn.q").expand(len(x), -1, -1)
    h = (query + _attend(q, k, v, num_heads)).squeeze(1)
    return h + _mlp(_norm(h, w, "norm2", eps), w)


def _attend(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Queries [B, M, D], keys and values [B, N, D] -> [B, M, D]; heads are contiguous channels."""
    q, k, v = (t.view(*t.shape[:2], num_heads, -1).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _mlp(x: Tensor, w: Mapping[str, Tensor]) -> Tensor:
    return _project(F.gelu(_project(x, w, "mlp.fc1")), w, "mlp.fc2")


def _project(x: Tensor, w: Mapping[str, Tensor], layer: str) -> Tensor:
    return F.linear(x, w[f"{layer}.weight"], w[f"{layer}.bias"])


def _norm(x: Tensor, w: Mapping[str, Tensor], layer: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{layer}.weight"], w[f"{layer}.bias"], eps)


def _micro_batches(tokens: Tensor) -> list[slice]:
    """Runs of clips that are computed at once. Not by the machine: how sums are split must not depend on it."""
    size = max(1, _MICRO_BATCH_VALUES // tokens[0].numel())
    return [slice(start, start + size) for start in range(0, len(tokens), size)]


def settings_at_once(num_weights: int, device: torch.device) -> int:
    """How many settings of so many weights are trained in one pass over the tokens: what MEMORY_SHARE holds."""
    return max(1, int(MEMORY_SHARE * free_memory_bytes(device)) // (_BYTES_PER_WEIGHT * num_weights))


class BlockSweep:
    """S probes that share their initial weights and see the same tokens."""

    def __init__(
        self, initial: Mapping[str, Tensor], num_settings: int, num_heads: int, losses: Losses = CrossEntropy()
    ) -> None:
        self.stack = Stack(initial, num_settings, alignment=_ALIGNMENT)
        self.num_heads = num_heads
        self._losses = losses
        self._settings = [self._leaves(index) for index in range(num_settings)]

    def _leaves(self, index: int) -> dict[str, Tensor]:
        """The weights of one setting, which add to their gradients in the stack."""
        leaves = {}
        for name, weight in self.stack.weights.items():
            leaf = weight.detach()[index].requires_grad_()
            leaf.grad = None if weight.grad is None else weight.grad[index]
            leaves[name] = leaf
        return leaves

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, C], without gradients."""
        return torch.stack([_chunked(w, tokens, self.num_heads, attentive.NORM_EPS) for w in self._settings])

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D], targets [B]; return the losses [S]."""
        self.stack.gradients.zero_()
        losses = self.stack.values.new_zeros(len(self._settings))
        for rows in _micro_batches(tokens):
            for index, weights in enumerate(self._settings):
                logits = block_logits(
                    weights, tokens[rows], self.num_heads, norm_eps=attentive.NORM_EPS, recompute=True
                )
                loss = self._losses.total(logits, targets[rows]) / len(tokens)
                loss.backward()  # type: ignore[no-untyped-call]
                losses[index] += loss.detach()
        return losses

    def probe(self, index: int) -> BlockProbe:
        """One setting as a probe of its own."""
        return BlockProbe(self.stack.setting(index), self.num_heads)


class BlockProbe(AttentiveProbe):
    """One frozen probe, tokens [B, N, D] -> logits [B, C]. Its state dict has the official names (protocol.md 2.3).

    `norm_eps` is that of every LayerNorm: 1e-5 in official probes, the encoder's in Hugging Face's (protocol.md 2.4).
    """

    def __init__(self, weights: Mapping[str, Tensor], num_heads: int, *, norm_eps: float = attentive.NORM_EPS) -> None:
        super().__init__(weights, num_heads)
        self.norm_eps = norm_eps

    def forward(self, tokens: Tensor) -> Tensor:
        return _chunked(dict(self.named_parameters()), self.scaled(tokens), self.num_heads, self.norm_eps)


def new_probe(
    embed_dim: int, num_classes: int, num_blocks: int = 1, num_heads: int | None = None, seed: int = 0
) -> AttentiveProbe:
    """An untrained attentive probe with the official tensor names: tokens [B, N, D] -> logits [B, C].

    `num_blocks` counts the cross-attention block: 1 is V-JEPA's probe, 4 that of V-JEPA 2. `num_heads`: as official
    probes have them where None, and for other widths as encoders of the width have them. The probe is in eval mode and
    has no gradients; `seed` names its weights (bench.probing.weights). Raises BenchError for numbers that make no
    probe.
    """
    for name, value in (("embed_dim", embed_dim), ("num_classes", num_classes), ("num_blocks", num_blocks)):
        if value < 1:
            raise BenchError(f"{name} {value} makes no probe", fix="give a number from 1 on")
    if num_heads is None:
        num_heads = attentive.OFFICIAL_NUM_HEADS.get(embed_dim) or default_num_heads(embed_dim)
    attentive.check_heads(embed_dim, num_heads)
    weights = initial_weights(embed_dim, num_classes, num_blocks, seed=seed)
    return AttentiveProbe(weights, num_heads) if num_blocks == 1 else BlockProbe(weights, num_heads)


@torch.no_grad()
def _chunked(weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int, norm_eps: float) -> Tensor:
    chunks = [tokens[rows] for rows in _micro_batches(tokens)]
    return torch.cat([block_logits(weights, chunk, num_heads, norm_eps=norm_eps) for chunk in chunks])
