"""Probes of boxes: several actions may be true of one, so every class has a binary loss of its own.

The sweeps are those of clips with another loss; the choice among settings is made on videos that are held out of the
training split, because boxes of one video are alike.

Shapes: S settings, B boxes, N tokens, D channels, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.cards.load import Optimisation, ProbeCard
from bench.metrics.detection import label_map
from bench.probing import attentive, linear
from bench.probing.heads import Scores, choose, has_diverged, heads_of
from bench.probing.loop import TrainResult, make_plan, train_sweep
from bench.probing.source import TokenSource
from bench.probing.split import Rows, split_videos
from bench.probing.train import FittedProbe

Progress = Callable[[str, int, int], None]
_AT_ONCE = 256


class ActionSweep:
    """S probes of one kind, trained together with the binary cross-entropy of every class."""

    def __init__(self, probes: attentive.AttentiveSweep | linear.LinearSweep) -> None:
        self.probes = probes
        self.stack = probes.stack

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, C]."""
        return self.probes.logits(tokens)

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D], targets [B, C] of 0 and 1; return the
        losses [S]."""
        losses = action_losses(self.logits(tokens), targets)
        self.stack.backward(losses)
        return losses.detach()


def action_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy [S] of logits [S, B, C] for targets [B, C] of 0 and 1."""
    wanted = targets.to(logits).expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=(1, 2))


def fit_boxes(
    recipe: ProbeCard,
    train: TokenSource,
    labels: NDArray[np.int64],
    videos: Sequence[str],
    num_heads: int,
    *,
    seed: int,
    device: str,
    progress: Progress,
) -> FittedProbe:
    """Train the recipe on boxes with `labels` [n, C] of 0 and 1; `videos` [n] name what each was cut from.

    The accuracy of a head is its mean average precision on the boxes of held-out videos, 0 to 1.
    Raises BenchError where every setting diverged, or one video leaves none to choose on.
    """
    started = time.perf_counter()
    if recipe.optimisation is None:
        raise ValueError("a probe of boxes is trained")
    job = _Job(recipe, recipe.optimisation, train, labels, num_heads, seed, device, progress)
    everything = np.arange(train.num_samples)
    scores: Scores | None = None
    num_held_out, chosen = 0, 0
    if recipe.hold_out is None:
        swept = final = job.train([0], everything, "train")
    else:
        rest, held_out = split_videos(videos, recipe.hold_out.held_out, seed=seed)
        swept = final = job.train(range(recipe.num_settings), rest, "sweep")
        scores = job.scores(swept.sweep, held_out)
        chosen, num_held_out = choose(swept.result.diverged, *scores), len(held_out)
        if recipe.hold_out.refit:
            final = job.train([chosen], everything, "refit")
    plan = make_plan(recipe.optimisation, len(final.rows))
    return FittedProbe(
        heads=heads_of(recipe, swept.result, scores, chosen=chosen),
        chosen=chosen,
        steps=plan.steps,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        num_held_out=num_held_out,
        seconds=time.perf_counter() - started,
        probe=final.probe(chosen if final is swept else 0),
    )


@torch.no_grad()
def action_probabilities(
    probe: nn.Module, boxes: TokenSource, *, device: str, batch_size: int = _AT_ONCE
) -> NDArray[np.float32]:
    """How likely each action is in each box: float32 [n, C], every class on its own."""
    probe = probe.to(device)
    parts = [
        torch.sigmoid(probe(boxes.read(np.arange(start, min(start + batch_size, boxes.num_samples)), 0).to(device)))
        for start in range(0, boxes.num_samples, batch_size)
    ]
    probabilities: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return probabilities


@dataclass(frozen=True)
class _Trained:
    """Settings that were trained together."""

    sweep: ActionSweep
    result: TrainResult
    rows: Rows

    def probe(self, index: int) -> nn.Module:
        """One of them. Raises BenchError where it diverged."""
        if self.result.diverged[index]:
            raise has_diverged()
        return self.sweep.probes.probe(index)


@dataclass(frozen=True)
class _Job:
    """What every training of one fit shares."""

    recipe: ProbeCard
    rules: Optimisation
    source: TokenSource
    labels: NDArray[np.int64]
    num_heads: int
    seed: int
    device: str
    progress: Progress

    def train(self, indices: Sequence[int], rows: Rows, phase: str) -> _Trained:
        """Train these settings of the recipe on these rows, all from the same initial weights."""
        settings = [self.rules.settings[index] for index in indices]
        sweep = ActionSweep(self._initial(len(settings)))

        def tick(done: int, total: int) -> None:
            self.progress(phase, done, total)

        data = (sweep, self.source, rows, self.labels, self.rules, settings)
        return _Trained(sweep, train_sweep(*data, seed=self.seed, progress=tick), rows)

    def _initial(self, num_settings: int) -> attentive.AttentiveSweep | linear.LinearSweep:
        D, C = self.source.embed_dim, self.labels.shape[1]
        kind = linear if self.recipe.kind == "linear" else attentive
        weights = {name: w.to(self.device) for name, w in kind.initial_weights(D, C, seed=self.seed).items()}
        if self.recipe.kind == "linear":
            # The paper's classifier sees the features as they are: tokens are normed already.
            nothing, one = torch.zeros(D, device=self.device), torch.ones(D, device=self.device)
            return linear.LinearSweep(weights, num_settings, nothing, one)
        attentive.check_heads(D, self.num_heads)
        return attentive.AttentiveSweep(weights, num_settings, self.num_heads)

    @torch.no_grad()
    def scores(self, sweep: ActionSweep, rows: Rows) -> Scores:
        """Of every setting: mean average precision on these rows, 0 to 1, and mean loss."""
        parts, losses = [], []
        for start in range(0, len(rows), _AT_ONCE):
            block = rows[start : start + _AT_ONCE]
            logits = sweep.logits(self.source.read(block, 0).to(self.device)).float()
            targets = torch.from_numpy(self.labels[block]).to(self.device)
            losses.append(action_losses(logits, targets).double() * len(block))
            parts.append(logits.cpu().numpy())
        mean_losses = (torch.stack(losses).sum(dim=0) / len(rows)).tolist()
        per_setting = np.concatenate(parts, axis=1)
        return [label_map(self.labels[rows], one) for one in per_setting], mean_losses
