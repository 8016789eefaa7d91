"""The settings of a sweep: what the record says of each, and which one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cards import ProbeCard
from bench.errors import BenchError
from bench.probing.loop import TrainResult

Scores = tuple[Sequence[float], Sequence[float]]
"""Of every setting, on held-out samples: what is chosen by, 0 to 1, and the mean loss."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """One setting of a sweep, for the record."""

    index: int
    lr: float | None
    weight_decay: float | None
    neighbours: int | None
    """For knn: k."""
    held_out_accuracy: float | None
    """Share of the held-out samples, or what else the objective chooses by, 0 to 1; empty where nothing was held out,
    or the setting diverged."""
    held_out_loss: float | None
    train_loss: float | None
    """Mean over the last epoch; empty for knn, or where the setting diverged."""
    diverged: bool
    chosen: bool


def heads_of(card: ProbeCard, result: TrainResult, scores: Scores | None, *, chosen: int) -> list[Head]:
    """The record of every setting of a recipe."""
    heads = []
    for index, diverged in enumerate(result.diverged):
        lr, decay = card.optimisation.settings[index] if card.optimisation else (None, None)
        accuracy, loss = (scores[0][index], scores[1][index]) if scores and not diverged else (None, None)
        heads.append(
            Head(
                index=index,
                lr=lr,
                weight_decay=decay,
                neighbours=card.neighbours[index] if card.neighbours else None,
                held_out_accuracy=accuracy,
                held_out_loss=loss,
                train_loss=None if diverged or card.kind == "knn" else result.loss[index],
                diverged=diverged,
                chosen=index == chosen,
            )
        )
    return heads


def choose(diverged: Sequence[bool], correct: Sequence[float], loss: Sequence[float]) -> int:
    """The setting that does best on the held-out samples, then the lowest loss, then the lowest index.

    Raises BenchError where all have diverged.
    """
    candidates = [index for index, bad in enumerate(diverged) if not bad]
    if not candidates:
        raise has_diverged()
    return min(candidates, key=lambda index: (-correct[index], loss[index]))


def has_diverged() -> BenchError:
    """What the user is told where no usable probe is left."""
    return BenchError(
        "the probe diverged: its loss or weights are not finite",
        fix="lower the learning rates with --set probe.lr=[...], and check that the encoder's features are finite",
    )
