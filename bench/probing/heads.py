"""The settings of a sweep: what the record says of each, and which one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cards.load import ProbeCard
from bench.core.errors import BenchError
from bench.probing.loop import TrainResult

Scores = tuple[Sequence[float], Sequence[float]]
"""Of every setting, on the samples of the choice: what is chosen by, 0 to 1, and the mean loss."""


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
    """Of a setting with a schedule of its own, as are the next two."""
    warmup_epochs: float | None = None
    final_weight_decay: float | None = None


def heads_of(card: ProbeCard, result: TrainResult, scores: Scores | None, *, chosen: int) -> list[Head]:
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
                chosen=index == chosen,
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


def has_diverged() -> BenchError:
    """What the user is told where no usable probe is left."""
    return BenchError(
        "the probe diverged: its loss or weights are not finite",
        fix="lower the learning rates with --set probe.lr=[...], and check that the encoder's features are finite",
    )
