"""The probe of EPIC-KITCHENS-100: three queries for the verb, the noun and the action (protocol.md 4.2, 5.1).

The blocks are those of the V-JEPA 2 probe. Every query attends over the tokens, not over the others, and has a linear
head of its own. The logits of the three stand side by side: V verbs, N nouns, A actions. A sample's label is its
action, which tells its verb and its noun.

Shapes: S settings, B clips, N tokens, D channels, C = V + N + A outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.probing import attentive, blocks
from bench.probing.weights import first_weights

HEADS = ("verb", "noun", "action")
"""The three classifications, in the order of the official queries."""
ALPHA, GAMMA = 0.25, 2.0
"""Weight of the positives, and the exponent, of the official focal loss."""


@dataclass(frozen=True)
class ActionClasses:
    """The classes of each head, and the verb and the noun of each action."""

    num_verbs: int
    num_nouns: int
    pairs: tuple[tuple[int, int], ...]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Classes of the three heads."""
        return self.num_verbs, self.num_nouns, len(self.pairs)

    def labels(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Verb, noun and action of samples with these actions [B], each [B]."""
        verbs, nouns = torch.tensor(self.pairs, device=actions.device)[actions].unbind(-1)
        return verbs, nouns, actions


def tensor_shapes(embed_dim: int, sizes: Sequence[int], num_blocks: int) -> dict[str, tuple[int, ...]]:
    """The official tensors of a probe and their shapes (protocol.md 2.3, 4.2); `sizes` are V, N and A."""
    D = embed_dim
    shapes = blocks.tensor_shapes(D, 1, num_blocks)
    del shapes["linear.weight"], shapes["linear.bias"]
    shapes[attentive.QUERY] = (1, len(HEADS), D)
    for name, size in zip(blocks.CLASSIFIERS, sizes, strict=True):
        shapes |= {f"{name}.weight": (size, D), f"{name}.bias": (size,)}
    return shapes


def initial_weights(embed_dim: int, sizes: Sequence[int], num_blocks: int, *, seed: int) -> dict[str, Tensor]:
    """Untrained weights (bench.probing.weights)."""
    return first_weights(tensor_shapes(embed_dim, sizes, num_blocks), seed=seed)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Sigmoid focal loss of logits [..., B, C] for classes `targets` [B], summed over classes: [..., B].

    With p the probability given to what is true of a class, it is -w (1 - p)^2 log p, where w is 0.25 for the class of
    the sample and 0.75 for the others. Source: protocol.md 5.1 (Lin et al., arXiv 1708.02002).
    """
    wanted = F.one_hot(targets, logits.shape[-1]).to(logits).expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    weight = ALPHA * wanted + (1 - ALPHA) * (1 - wanted)
    return (weight * (-torch.expm1(-entropy)) ** GAMMA * entropy).sum(dim=-1)


def action_losses(logits: Tensor, actions: Tensor, classes: ActionClasses) -> Tensor:
    """Focal losses of verb, noun and action together: [..., B, V + N + A] and actions [B] -> [..., B]."""
    parts = zip(torch.split(logits, list(classes.sizes), dim=-1), classes.labels(actions), strict=True)
    return torch.stack([focal_loss(part, labels) for part, labels in parts]).sum(dim=0)
