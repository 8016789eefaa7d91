"""What probes say of the examples of a split, how well that fits the labels, and which setting is chosen by it.

Views are combined as protocol.md 4.3 does at test: the mean of their softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.cards.load import ProbeCard
from bench.core.errors import BenchError
from bench.probing.loop import TrainResult
from bench.probing.source import Rows, TokenSource
from bench.probing.streaming import StreamCounts

_FLOOR = math.log(torch.finfo(torch.float32).eps)
"""Least log-probability that a loss sees, as in scikit-learn's log_loss: a k-nearest-neighbour vote can be zero."""

Logits = Callable[[Tensor], Tensor]
"""Tokens [B, N, D] -> logits [S, B, C]."""


@torch.no_grad()
def log_probabilities(
    logits: Logits, source: TokenSource, rows: Rows, *, device: str, batch_size: int
) -> Iterator[tuple[Rows, Tensor]]:
    """(rows, log-probabilities [S, b, C]) block by block, the views of a sample averaged."""
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        views = [
            logits(source.read(block, view).to(device)).float().log_softmax(dim=-1) for view in range(source.num_views)
        ]
        yield block, torch.stack(views).logsumexp(dim=0) - math.log(len(views))


def held_out_scores(
    logits: Logits, source: TokenSource, rows: Rows, labels: Rows, *, device: str, batch_size: int
) -> tuple[list[int], list[float]]:
    """Correctly classified examples and the mean loss, for each setting."""
    correct: list[npt.NDArray[np.int64]] = []
    loss: list[npt.NDArray[np.float64]] = []
    for block, log_p in log_probabilities(logits, source, rows, device=device, batch_size=batch_size):
        targets = torch.from_numpy(labels[block]).to(log_p.device)
        correct.append((log_p.argmax(dim=-1) == targets).sum(dim=1).cpu().numpy())
        picked = log_p.gather(-1, targets.expand(len(log_p), -1)[..., None]).squeeze(-1)
        loss.append(-picked.clamp(min=_FLOOR).double().sum(dim=1).cpu().numpy())
    return np.sum(correct, axis=0).tolist(), (np.sum(loss, axis=0) / len(rows)).tolist()


def predict(
    probe: nn.Module, test: TokenSource, *, device: str = "cpu", batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Probabilities [n, C] float32 of all samples: the softmax averaged over the views (protocol.md 4.3)."""
    probe = probe.to(device)
    parts = log_probabilities(
        lambda tokens: probe(tokens)[None],
        test,
        np.arange(test.num_samples),
        device=device,
        batch_size=batch_size,
    )
    return np.concatenate([log_p[0].exp().cpu().numpy() for _, log_p in parts])


@torch.no_grad()
def mean_sigmoid(
    probe: nn.Module, source: TokenSource, *, device: str, batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Sigmoids [n, C] float32 of all examples, every output on its own: the mean over their views."""
    probe = probe.to(device)
    rows = np.arange(source.num_samples)
    parts = []
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        views = [probe(source.read(block, view).to(device)).float().sigmoid() for view in range(source.num_views)]
        parts.append(torch.stack(views).mean(dim=0).cpu().numpy())
    return np.concatenate(parts)


Scores = tuple[Sequence[float], Sequence[float]]
"""What settings are chosen by, 0 to 1, and their mean loss, on the samples of the choice."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """One setting of a sweep, for the record."""

    index: int
    lr: float | None
    weight_decay: float | None
    neighbours: int | None
    """For knn: k."""
    accuracy: float | None
    """Share of the samples of the choice, or what else the objective chooses by, 0 to 1; empty where nothing was
    chosen, or the setting diverged."""
    loss: float | None
    """Mean over the same samples."""
    train_loss: float | None
    """Mean over the last epoch; empty for knn, or where the setting diverged."""
    diverged: bool
    chosen: bool
    start_lr: float | None = None
    """Only for a setting with a schedule of its own, as are the next two."""
    warmup_epochs: float | None = None
    final_weight_decay: float | None = None


def heads_of(card: ProbeCard, result: TrainResult, scores: Scores | None, *, chosen: Collection[int]) -> list[Head]:
    """The record of every setting of a recipe."""
    heads = []
    for index, diverged in enumerate(result.diverged):
        setting = card.optimisation.settings[index] if card.optimisation else None
        own = setting if card.optimisation and card.optimisation.sweep else None
        accuracy, loss = (scores[0][index], scores[1][index]) if scores and not diverged else (None, None)
        heads.append(
            Head(
                index=index,
                lr=setting.lr if setting else None,
                weight_decay=setting.weight_decay if setting else None,
                neighbours=card.neighbours[index] if card.neighbours else None,
                accuracy=accuracy,
                loss=loss,
                train_loss=None if diverged or card.kind == "knn" else result.loss[index],
                diverged=diverged,
                chosen=index in chosen,
                start_lr=own.start_lr if own else None,
                warmup_epochs=own.warmup_epochs if own else None,
                final_weight_decay=own.final_weight_decay if own else None,
            )
        )
    return heads


def choose(diverged: Sequence[bool], correct: Sequence[float], loss: Sequence[float]) -> int:
    """The setting that does best on the samples of the choice, then the lowest loss, then the lowest index.

    Raises BenchError where all have diverged.
    """
    candidates = [index for index, bad in enumerate(diverged) if not bad]
    if not candidates:
        raise has_diverged()
    return min(candidates, key=lambda index: (-correct[index], loss[index]))


def near_best(diverged: Sequence[bool], correct: Sequence[float], loss: Sequence[float], count: int) -> tuple[int, ...]:
    """The settings that are within two standard errors of the best on `count` samples of the choice, rising: those that
    are not shown to be worse.

    The standard error is that of a share of independent samples. Raises BenchError where all have diverged.
    """
    best = correct[choose(diverged, correct, loss)]
    least = best - 2 * math.sqrt(best * (1 - best) / count)
    return tuple(index for index, bad in enumerate(diverged) if not bad and correct[index] >= least)


def has_diverged() -> BenchError:
    """The error where no usable probe is left."""
    return BenchError(
        "the probe diverged: its loss or weights are not finite",
        fix="lower the learning rates with --set probe.lr=[...], and check that the encoder's features are finite",
    )


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A trained probe and how it came about."""

    heads: list[Head]
    chosen: int
    """Index of the head that did best; where a mean answers, its other heads are marked too."""
    steps: int
    """Optimiser steps of the final training; 0 for knn."""
    epochs: int
    batch_size: int
    num_held_out: int
    seconds: float
    probe: nn.Module
    """Tokens [B, N, D] -> logits [B, C], frozen."""
    curve: tuple[tuple[int, float], ...] = ()
    """Optimiser steps, and how good the settings that answer were after so many on the held-out samples, 0 to 1, their
    mean: at each quarter of the training. Only of probes that answer with a mean (bench.probing.together)."""
    streamed: StreamCounts | None = None
    """What was encoded for it; None where the tokens came from the cache."""
