"""The probe of EPIC-KITCHENS-100: three queries for the verb, the noun and the action (protocol.md 4.2, 5.1).

The blocks are those of the V-JEPA 2 probe. Every query attends over the tokens, not over the others, and has a linear
head of its own. The logits of the three stand side by side: V verbs, N nouns, A actions. A sample's label is its
action, which tells its verb and its noun.

Shapes: S settings, B clips, N tokens, D channels, C = V + N + A outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cards.load import ProbeCard
from bench.core.errors import BenchError
from bench.core.tensors import read_tensors
from bench.metrics.recall import class_mean_recall
from bench.probing import attentive, blocks
from bench.probing.files import read_metadata, read_scale
from bench.probing.first_weights import first_weights
from bench.probing.scoring import Logits
from bench.probing.shapes import check_shapes, matrix_shape
from bench.probing.source import TokenSource
from bench.probing.split import Rows, split_videos

HEADS = ("verb", "noun", "action")
"""In the order of the official queries."""
ALPHA, GAMMA = 0.25, 2.0
"""Of the official focal loss."""


@dataclass(frozen=True)
class ActionClasses:
    """What is told apart, and the verb and the noun of each action."""

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
    for head, size in zip(HEADS, sizes, strict=True):
        shapes |= {f"{head}_classifier.weight": (size, D), f"{head}_classifier.bias": (size,)}
    return shapes


def initial_weights(embed_dim: int, sizes: Sequence[int], num_blocks: int, *, seed: int) -> dict[str, Tensor]:
    """Untrained weights (bench.probing.first_weights)."""
    return first_weights(tensor_shapes(embed_dim, sizes, num_blocks), seed=seed)


def action_logits(
    weights: Mapping[str, Tensor], tokens: Tensor, num_heads: int, *, norm_eps: float, recompute: bool = False
) -> Tensor:
    """Logits [B, V + N + A] of one probe for tokens [B, N, D]."""
    pooled = blocks.pooled_tokens(weights, tokens, num_heads, norm_eps=norm_eps, recompute=recompute)
    return torch.cat(
        [
            F.linear(of_query, weights[f"{head}_classifier.weight"], weights[f"{head}_classifier.bias"])
            for head, of_query in zip(HEADS, pooled.unbind(dim=1), strict=True)
        ],
        dim=-1,
    )


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


class ActionSweep(blocks.BlockSweep):
    """S probes that share their initial weights and see the same tokens; targets are actions.

    The gradient is that of the mean over clips. The official code's is of the sum, which AdamW's steps do not tell.
    """

    logits_of = staticmethod(action_logits)

    def __init__(
        self, initial: Mapping[str, Tensor], num_settings: int, num_heads: int, classes: ActionClasses
    ) -> None:
        super().__init__(initial, num_settings, num_heads)
        self._classes = classes

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss [] of logits [B, V + N + A] for actions [B], summed over clips."""
        return action_losses(logits, targets, self._classes).sum()

    def probe(self, index: int) -> ActionProbe:
        """One setting as a probe of its own."""
        return ActionProbe(self.stack.setting(index), self.num_heads)


class ActionProbe(blocks.BlockProbe):
    """One frozen probe, tokens [B, N, D] -> logits [B, V + N + A]."""

    logits_of = staticmethod(action_logits)


def load_action_probe(path: Path) -> ActionProbe:
    """The probe of a file that bench saved. Raises BenchError for whatever is no such probe."""
    tensors, metadata = read_tensors(path), read_metadata(path)
    where = str(path)
    sizes = [matrix_shape(tensors, f"{head}_classifier.weight", where)[0] for head in HEADS]
    width = matrix_shape(tensors, f"{HEADS[0]}_classifier.weight", where)[1]
    num_blocks = 1 + sum(name.startswith(blocks.BLOCKS) and name.endswith("qkv.weight") for name in tensors)
    check_shapes(tensors, tensor_shapes(width, sizes, num_blocks), where)
    heads = metadata.get("num_heads", "")
    if not heads.isdecimal():
        raise BenchError("its number of attention heads is not stated", where=where, fix="save the probe again")
    attentive.check_heads(width, int(heads))
    # Copies, for the reason given in bench.probing.files.
    probe = ActionProbe({name: tensor.clone() for name, tensor in tensors.items()}, int(heads))
    probe.token_scale = read_scale(metadata, where)
    return probe


@torch.no_grad()
def action_scores(
    probe: nn.Module, source: TokenSource, *, device: str, batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Sigmoids [n, V + N + A] of all samples, the mean over their views."""
    probe = probe.to(device)
    rows = np.arange(source.num_samples)
    parts = [
        _mean_sigmoid(lambda tokens: probe(tokens), source, rows[start : start + batch_size], device)
        for start in range(0, len(rows), batch_size)
    ]
    scores: npt.NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    return scores


def _mean_sigmoid(logits: Logits, source: TokenSource, rows: Rows, device: str) -> Tensor:
    views = [logits(source.read(rows, view).to(device)).float().sigmoid() for view in range(source.num_views)]
    return torch.stack(views).mean(dim=0)


@dataclass(frozen=True)
class Foreseeing:
    """A bench.probing.train.Objective: one setting for verb, noun and action, chosen by the action recall at 5 on
    training videos that are held out."""

    classes: ActionClasses
    videos: Sequence[str]
    """What each training sample was cut from."""

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """Whole videos (bench.probing.split)."""
        return split_videos(self.videos, share, seed=seed)

    def sweep(
        self, card: ProbeCard, embed_dim: int, num_settings: int, num_heads: int, *, seed: int, device: str
    ) -> ActionSweep:
        """Untrained probes of so many settings."""
        attentive.check_heads(embed_dim, num_heads)
        initial = initial_weights(embed_dim, self.classes.sizes, card.num_blocks, seed=seed)
        on_device = {name: weight.to(device) for name, weight in initial.items()}
        return ActionSweep(on_device, num_settings, num_heads, self.classes)

    @torch.no_grad()
    def scores(
        self, logits: Logits, source: TokenSource, rows: Rows, labels: Rows, *, device: str, batch_size: int
    ) -> tuple[list[float], list[float]]:
        """Of each setting: action recall at 5 over the classes of these rows, and the mean loss."""
        num_actions = len(self.classes.pairs)
        actions, losses = [], []
        for start in range(0, len(rows), batch_size):
            block = rows[start : start + batch_size]
            targets = torch.from_numpy(labels[block]).to(device)
            views = [logits(source.read(block, view).to(device)).float() for view in range(source.num_views)]
            losses.append(torch.stack([action_losses(view, targets, self.classes) for view in views]).mean(dim=0))
            actions.append(torch.stack([view[..., -num_actions:].sigmoid() for view in views]).mean(dim=0))
        scores = torch.cat(actions, dim=1).cpu().numpy()
        finite = np.isfinite(scores).all(axis=(1, 2))
        recalls = [
            class_mean_recall(labels[rows], of_one).mean if usable else 0.0
            for of_one, usable in zip(scores, finite, strict=True)
        ]
        return recalls, torch.cat(losses, dim=1).double().mean(dim=1).tolist()
