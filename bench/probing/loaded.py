"""A probe as it was read from a file: one or more frozen heads, and what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.core.tensors import weights_digest
from bench.probing import dense
from bench.probing.attentive import AttentiveProbe
from bench.probing.blocks import CLASSIFIERS
from bench.probing.dense import DenseProbe
from bench.probing.linear import LinearProbe


def head_outputs(head: nn.Module) -> tuple[int, ...]:
    """Outputs of the classifiers of a probe, in order."""
    return tuple(len(weight) for weight in _classifiers(head))


def head_width(head: nn.Module) -> int:
    """Width D of the tokens that a probe reads."""
    return _classifiers(head)[0].shape[1]


def _classifiers(head: nn.Module) -> list[Tensor]:
    weights = dict(head.named_parameters())
    if dense.WEIGHT in weights:
        return [weights[dense.WEIGHT]]
    names = ["linear"] if "linear.weight" in weights else list(CLASSIFIERS)
    return [weights[f"{name}.weight"] for name in names]


class LoadedProbe(nn.Module):
    """`probe(tokens)`: tokens [B, N, D] -> logits [B, C] of the first head; `all_heads=True` -> [heads, B, C].

    `layout` says whose file it was; `class_names` are in the order of the logits, None where the file does not say;
    `metadata` is what a file of our own says; `notes` is what a reader of its scores must know.
    """

    def __init__(
        self,
        heads: Sequence[AttentiveProbe | DenseProbe | LinearProbe],
        *,
        layout: str,
        class_names: tuple[str, ...] | None = None,
        metadata: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.layout, self.class_names = layout, class_names
        self.metadata, self.notes = dict(metadata or {}), tuple(notes)
        self.eval()

    @property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of the classifiers of a head: C, or those of verb, noun and action."""
        return head_outputs(self.heads[0])

    @property
    def num_classes(self) -> int:
        """Classes C; of a probe of verb, noun and action, its actions."""
        return self.outputs[-1]

    @property
    def embed_dim(self) -> int:
        """Width D of the tokens that it reads."""
        return head_width(self.heads[0])

    @property
    def digest(self) -> str:
        """SHA-256 of the first head: its tensors and the numbers that its file may leave open."""
        head = self.heads[0]
        facts = {name: getattr(head, name) for name in ("num_heads", "norm_eps") if getattr(head, name, None)}
        scale = getattr(head, "token_scale", 1)
        return weights_digest(head, facts if scale == 1 else {**facts, "token_scale": scale})

    def forward(self, tokens: Tensor, *, all_heads: bool = False) -> Tensor:
        if not all_heads:
            logits: Tensor = self.heads[0](tokens)
            return logits
        return torch.stack([head(tokens) for head in self.heads])
