"""What a probe is trained and chosen for: one label, several labels, or the verb, noun and action that come next.

Shapes: S settings, n examples, b of them at once, V views, N tokens, D channels, C outputs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.metrics.detection import label_map
from bench.metrics.recall import class_mean_recall
from bench.probing import actions, blocks
from bench.probing.actions import ActionClasses
from bench.probing.loop import CrossEntropy, Losses
from bench.probing.scoring import Logits, held_out_scores, mean_sigmoid, predict
from bench.probing.source import Rows, TokenSource, group_numbers, grouped_split, split_videos, stratified_split

Qualities = tuple[list[float], list[float]]
"""What each setting is chosen by, 0 to 1, and its mean loss."""
_AT_ONCE = 256


class Objective(Protocol):
    """The training examples, and the outputs, loss, hold-out and selection metric of a probe for them."""

    @property
    def targets(self) -> NDArray[np.int64]:
        """[n] or [n, C]: what is true of each example."""
        ...

    @property
    def num_outputs(self) -> int:
        """C."""
        ...

    @property
    def losses(self) -> Losses:
        """The losses that a training minimises."""
        ...

    @property
    def as_they_are(self) -> bool:
        """Whether probes read tokens as they are: neither standardised nor normalised beforehand."""
        ...

    def initial(self, embed_dim: int, num_blocks: int, *, seed: int) -> dict[str, Tensor]:
        """First weights of an attentive probe of so many blocks."""
        ...

    def take(self, rows: Rows) -> Objective:
        """The objective of these examples alone."""
        ...

    def draw(self, share: float, *, seed: int) -> Rows:
        """Examples of about this share, rising: what a probe of few labels is trained on."""
        ...

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """Examples to train on before the choice, and those it is made on, both rising. Raises BenchError where there
        are too few."""
        ...

    def qualities(
        self, logits: Logits, source: TokenSource, rows: Rows, targets: NDArray[np.int64], *, device: str, at_once: int
    ) -> Qualities:
        """How good every setting is on `rows` of a source, whose examples have these targets."""
        ...

    def outputs(
        self, probe: nn.Module, source: TokenSource, targets: NDArray[np.int64] | None, *, device: str
    ) -> NDArray[Any]:
        """What a probe says of every example of a source, the views averaged: float32 [n, C], 0 to 1. An objective may
        need the `targets` of these examples to say it in few numbers."""
        ...

    def made_up(self, count: int, num_classes: int) -> Objective:
        """One of so many examples, of at most so many classes, that costs the same: for forecasts."""
        ...

    def facts(self) -> list[Any]:
        """What identifies the examples, in plain values: a part of the key of a trained probe."""
        ...


@dataclass(frozen=True)
class OneLabel:
    """One label for each sample; chosen by the share of right answers on samples of every class."""

    targets: NDArray[np.int64]
    num_outputs: int
    groups: tuple[str, ...] | None = None
    """What each sample was made of, where several were made of one thing: those are held out, or drawn, together."""
    as_they_are: bool = False

    @property
    def losses(self) -> Losses:
        """As Objective."""
        return CrossEntropy()

    def initial(self, embed_dim: int, num_blocks: int, *, seed: int) -> dict[str, Tensor]:
        """As Objective."""
        return blocks.initial_weights(embed_dim, self.num_outputs, num_blocks, seed=seed)

    def take(self, rows: Rows) -> OneLabel:
        """As Objective."""
        groups = self.groups and tuple(self.groups[row] for row in rows.tolist())
        return replace(self, targets=self.targets[rows], groups=groups)

    def draw(self, share: float, *, seed: int) -> Rows:
        """Drawn in proportion to the classes, at least one of every class."""
        return self.hold_out(1 - share, seed=seed)[0]

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """In proportion to the classes, whole groups (bench.probing.source)."""
        if self.groups is None or len(set(self.groups)) == len(self.groups):
            return stratified_split(self.targets, share, seed=seed)
        return grouped_split(self.targets, self.groups, share, seed=seed)

    def qualities(
        self, logits: Logits, source: TokenSource, rows: Rows, targets: NDArray[np.int64], *, device: str, at_once: int
    ) -> Qualities:
        """As Objective: the share of right answers."""
        correct, loss = held_out_scores(logits, source, rows, targets, device=device, batch_size=at_once)
        return [count / len(rows) for count in correct], loss

    def outputs(
        self, probe: nn.Module, source: TokenSource, targets: NDArray[np.int64] | None, *, device: str
    ) -> NDArray[np.float32]:
        """As Objective: softmax."""
        return predict(probe, source, device=device)

    def made_up(self, count: int, num_classes: int) -> OneLabel:
        """As Objective."""
        return replace(self, targets=np.arange(count) % min(self.num_outputs, num_classes), groups=None)

    def facts(self) -> list[Any]:
        """As Objective."""
        shared = self.groups is not None and len(set(self.groups)) < len(self.groups)
        groups = [group_numbers(self.groups)] if self.groups and shared else []
        return [self.targets.tolist(), self.num_outputs, *groups]


class BinaryCrossEntropy:
    """The mean binary cross-entropy of every class on its own; targets [B, C] are 0 and 1."""

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return self._each(logits, targets).mean(dim=(1, 2))

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return self._each(logits, targets).mean(dim=-1).sum()

    @staticmethod
    def _each(logits: Tensor, targets: Tensor) -> Tensor:
        wanted = targets.to(logits).expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


@dataclass(frozen=True)
class ManyLabels:
    """Any number of labels for each example, such as the actions of a person; chosen by the mean average precision on
    examples of videos that are held out, because those of one video are alike."""

    targets: NDArray[np.int64]
    """[n, C] of 0 and 1."""
    videos: tuple[str, ...]
    """What each example was cut from."""
    as_they_are: bool = True

    @property
    def losses(self) -> Losses:
        """As Objective."""
        return BinaryCrossEntropy()

    @property
    def num_outputs(self) -> int:
        """As Objective."""
        return int(self.targets.shape[1])

    def initial(self, embed_dim: int, num_blocks: int, *, seed: int) -> dict[str, Tensor]:
        """As Objective."""
        return blocks.initial_weights(embed_dim, self.num_outputs, num_blocks, seed=seed)

    def take(self, rows: Rows) -> ManyLabels:
        """As Objective."""
        return replace(self, targets=self.targets[rows], videos=tuple(self.videos[row] for row in rows.tolist()))

    def draw(self, share: float, *, seed: int) -> Rows:
        """Rows of whole videos."""
        return split_videos(self.videos, 1 - share, seed=seed)[0]

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """Rows to train on and rows held out, of whole videos (bench.probing.source)."""
        return split_videos(self.videos, share, seed=seed)

    @torch.no_grad()
    def qualities(
        self, logits: Logits, source: TokenSource, rows: Rows, targets: NDArray[np.int64], *, device: str, at_once: int
    ) -> Qualities:
        """As Objective: mean average precision."""
        parts, losses = [], []
        for start in range(0, len(rows), _AT_ONCE):
            block = rows[start : start + _AT_ONCE]
            wanted = torch.from_numpy(targets[block]).to(device)
            views = [logits(source.read(block, view).to(device)).float() for view in range(source.num_views)]
            losses.append(torch.stack([self.losses.means(one, wanted).double() for one in views]).mean(0) * len(block))
            said = views[0] if len(views) == 1 else torch.stack([one.sigmoid() for one in views]).mean(dim=0)
            parts.append(said.cpu().numpy())
        mean_losses = (torch.stack(losses).sum(dim=0) / len(rows)).tolist()
        return [label_map(targets[rows], one) for one in np.concatenate(parts, axis=1)], mean_losses

    def outputs(
        self, probe: nn.Module, source: TokenSource, targets: NDArray[np.int64] | None, *, device: str
    ) -> NDArray[np.float32]:
        """As Objective: sigmoid."""
        return mean_sigmoid(probe, source, device=device, batch_size=_AT_ONCE)

    def made_up(self, count: int, num_classes: int) -> ManyLabels:
        """As Objective: one label each, of two videos."""
        ones = np.eye(self.num_outputs, dtype=np.int64)[np.arange(count) % self.num_outputs]
        return replace(self, targets=ones, videos=_two_videos(count))

    def facts(self) -> list[Any]:
        """As Objective."""
        return [hashlib.sha256(self.targets.tobytes()).hexdigest(), list(self.targets.shape), list(self.videos)]


@dataclass(frozen=True)
class FocalLoss:
    """The focal losses of verb, noun and action together (protocol.md 5.1); targets [B] are actions.

    The gradient is that of the mean over clips. The official code's is of the sum, which AdamW's steps do not tell.
    """

    classes: ActionClasses

    def means(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return actions.action_losses(logits, targets, self.classes).mean(dim=-1)

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """As Losses."""
        return actions.action_losses(logits, targets, self.classes).sum()


@dataclass(frozen=True)
class NextAction:
    """The action that comes next, with its verb and its noun: one setting for all three, chosen by the action recall at
    5 on training videos that are held out."""

    targets: NDArray[np.int64]
    """[n], the action of each clip."""
    videos: tuple[str, ...]
    """What each clip was cut from."""
    classes: ActionClasses
    as_they_are: bool = True

    @property
    def num_outputs(self) -> int:
        """V + N + A."""
        return sum(self.classes.sizes)

    @property
    def losses(self) -> Losses:
        """As Objective."""
        return FocalLoss(self.classes)

    def initial(self, embed_dim: int, num_blocks: int, *, seed: int) -> dict[str, Tensor]:
        """As Objective: three queries."""
        return actions.initial_weights(embed_dim, self.classes.sizes, num_blocks, seed=seed)

    def take(self, rows: Rows) -> NextAction:
        """As Objective."""
        return replace(self, targets=self.targets[rows], videos=tuple(self.videos[row] for row in rows.tolist()))

    def draw(self, share: float, *, seed: int) -> Rows:
        """Rows of whole videos."""
        return split_videos(self.videos, 1 - share, seed=seed)[0]

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """Rows to train on and rows held out, of whole videos (bench.probing.source)."""
        return split_videos(self.videos, share, seed=seed)

    @torch.no_grad()
    def qualities(
        self, logits: Logits, source: TokenSource, rows: Rows, targets: NDArray[np.int64], *, device: str, at_once: int
    ) -> Qualities:
        """As Objective: action recall at 5 over the classes of these rows."""
        num_actions = len(self.classes.pairs)
        said, losses = [], []
        for start in range(0, len(rows), at_once):
            block = rows[start : start + at_once]
            wanted = torch.from_numpy(targets[block]).to(device)
            views = [logits(source.read(block, view).to(device)).float() for view in range(source.num_views)]
            each = [actions.action_losses(view, wanted, self.classes) for view in views]
            losses.append(torch.stack(each).mean(dim=0))
            said.append(torch.stack([view[..., -num_actions:].sigmoid() for view in views]).mean(dim=0))
        scores = torch.cat(said, dim=1).cpu().numpy()
        finite = np.isfinite(scores).all(axis=(1, 2))
        recalls = [
            class_mean_recall(targets[rows], of_one).mean if usable else 0.0
            for of_one, usable in zip(scores, finite, strict=True)
        ]
        return recalls, torch.cat(losses, dim=1).double().mean(dim=1).tolist()

    def outputs(
        self, probe: nn.Module, source: TokenSource, targets: NDArray[np.int64] | None, *, device: str
    ) -> NDArray[np.float32]:
        """As Objective: sigmoid."""
        return mean_sigmoid(probe, source, device=device, batch_size=64)

    def made_up(self, count: int, num_classes: int) -> NextAction:
        """As Objective: of two videos."""
        return replace(self, targets=np.arange(count) % len(self.classes.pairs), videos=_two_videos(count))

    def facts(self) -> list[Any]:
        """As Objective."""
        videos = group_numbers(self.videos)
        return [self.targets.tolist(), videos, list(self.classes.sizes), [list(pair) for pair in self.classes.pairs]]


def _two_videos(count: int) -> tuple[str, ...]:
    """Names of the videos of made-up examples: half are of each, so that either can be held out."""
    return tuple("ab"[number % 2] for number in range(count))
