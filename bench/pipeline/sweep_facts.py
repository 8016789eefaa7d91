"""What a record says of the settings of a sweep and of their training, for all probes of a run together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from bench.probing import scoring as probing_heads
from bench.probing.scoring import FittedProbe
from bench.records.schema import CurvePoint, Head


def not_converged(probes: Sequence[FittedProbe]) -> list[str]:
    """A note where held-out accuracy still rose in the last quarter of the training, by more than the standard error of
    a share of all held-out samples. In that quarter the learning rate falls to 0: a probe at rest gains less."""
    curve, count = training_curve(probes), sum(probe.num_held_out for probe in probes)
    if len(curve) < 2 or not count:
        return []
    before, last = (point.held_out_accuracy / 100 for point in curve[-2:])
    if last - before <= math.sqrt(last * (1 - last) / count):
        return []
    what = f"held-out accuracy rose from {100 * before:.1f} to {100 * last:.1f} % in the last quarter of the training"
    return [f"not converged: {what}; more steps, such as --set probe.min_steps={2 * curve[-1].steps}, may give more"]


_LEAST_VALUES = 3
"""Values of a learning rate, or of a decay, of which one can lie within."""


def edges(probes: Sequence[FittedProbe]) -> list[str]:
    """A note for each side of the sweep on which the choice of every probe lies: the best may lie beyond it."""
    notes = []
    for name, called in (("lr", "learning rate"), ("weight_decay", "weight decay"), ("neighbours", "k")):
        values = {value for probe in probes for head in probe.heads if (value := getattr(head, name)) is not None}
        chosen = {getattr(head, name) for probe in probes for head in probe.heads if head.chosen}
        if len(values) < _LEAST_VALUES or len(chosen) != 1 or None in chosen:
            continue
        (value,) = chosen
        side = "highest" if value == max(values) else "lowest" if value == min(values) and value not in (0, 1) else ""
        notes += (
            [f"at the edge of the sweep: {called} {value:g}, the {side} of {len(values)}, was chosen"] if side else []
        )
    return notes


def mean_heads(probes: Sequence[FittedProbe], *, on_test: bool) -> list[Head]:
    """The settings of the sweep, what was found of each the mean over the probes where it did not diverge."""
    first, *others = [[head_facts(head, on_test=on_test) for head in probe.heads] for probe in probes]
    heads = []
    for head, *rest in zip(first, *others, strict=True):
        same = [head, *rest]
        means = {}
        for name in ("held_out_accuracy", "held_out_loss", "test_accuracy", "test_loss", "train_loss"):
            values = [value for one in same if (value := getattr(one, name)) is not None]
            means[name] = fmean(values) if values else None
        marks = {name: any(getattr(one, name) for one in same) for name in ("chosen", "diverged")}
        heads.append(head.model_copy(update={**means, **marks}) if rest else head)
    return heads


def training_curve(probes: Sequence[FittedProbe]) -> list[CurvePoint]:
    """How good the probes were on held-out samples at each quarter of their training, means over them."""
    return [
        CurvePoint(steps=points[0][0], held_out_accuracy=100 * fmean(part for _, part in points))
        for points in zip(*(probe.curve for probe in probes), strict=False)
    ]


def head_facts(head: probing_heads.Head, *, on_test: bool = False) -> Head:
    """A setting of a sweep, as it goes to disk; `on_test` where it was scored on the test split for the choice."""
    accuracy = None if head.accuracy is None else 100 * head.accuracy
    return Head(
        lr=head.lr,
        weight_decay=head.weight_decay,
        neighbours=head.neighbours,
        held_out_accuracy=None if on_test else accuracy,
        held_out_loss=None if on_test else head.loss,
        test_accuracy=accuracy if on_test else None,
        test_loss=head.loss if on_test else None,
        train_loss=head.train_loss,
        diverged=head.diverged,
        chosen=head.chosen,
        start_lr=head.start_lr,
        warmup_epochs=head.warmup_epochs,
        final_weight_decay=head.final_weight_decay,
    )
