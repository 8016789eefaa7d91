"""What is measured beside the score: readings in other frame orders and scores with fewer labels, for the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bench.data.sample import Sample
from bench.metrics.metric import Answers, metric_of
from bench.metrics.motion_share import Controls, Reading, controls_of
from bench.metrics.score import FewerLabels
from bench.metrics.seed_scores import score_of_seeds
from bench.pipeline.features import (
    SplitAccount,
    StreamedSplit,
    account,
    add_accounts,
    examples_of,
    streamed_account,
)
from bench.pipeline.stages import Measured, Prepared
from bench.probing.streaming import StreamCounts
from bench.tasks.kind import RunPlan


@dataclass(frozen=True)
class Further:
    """What goes to the record, and to the files beside it."""

    readings: tuple[Reading, ...]
    """Readings of every frame order, the ordered one first; empty where none was asked for."""
    beside: Controls
    fewer_labels: list[FewerLabels]
    accounts: list[SplitAccount]
    """Accounts of the clips that were encoded for the controls."""
    probe_s: float
    """Seconds of training the probes now."""


def further_of(prepared: Prepared, measured: Measured) -> Further:
    """What was measured beside the score."""
    plan, test, objective = prepared.plan, prepared.test, prepared.objective
    metric = plan.task.metric
    readings = _readings(prepared, measured) if plan.options.controls else ()
    counts = plan.kind.counts(objective) if objective and readings else {}
    owners = examples_of(plan, prepared.train.samples) if prepared.train and measured.fewer_labels else []
    probes = [control.trained_alike for control in measured.controls] + [
        part.measured for part in measured.fewer_labels
    ]
    return Further(
        readings=readings,
        beside=controls_of(readings, metric, counts),
        fewer_labels=[
            FewerLabels(
                share=part.share,
                draw=part.draw,
                num_train=len({owners[row] for row in part.rows.tolist()}),
                score=score_of_seeds(
                    metric_of(metric), answers_of(plan, test.samples, part.measured.outputs), len(test.failures)
                ),
            )
            for part in measured.fewer_labels
        ],
        accounts=_control_accounts(prepared, measured),
        probe_s=sum(measured_too.trained_s for measured_too in probes if measured_too),
    )


def _readings(prepared: Prepared, measured: Measured) -> tuple[Reading, ...]:
    plan = prepared.plan
    first, *further = answers_of(plan, prepared.test.samples, measured.outputs)
    readings = [Reading("ordered", "ordered", first, len(prepared.test.failures), tuple(further))]
    for part, control in zip(prepared.controls, measured.controls, strict=True):
        frames, failed, samples = part.plan.test_clips.frame_order, len(part.test.failures), part.test.samples
        if control.trained_alike:
            first, *further = answers_of(plan, samples, control.trained_alike.outputs)
            readings.append(Reading(frames, frames, first, failed, tuple(further)))
        first, *further = answers_of(plan, samples, control.by_ordered)
        readings.append(Reading(frames, "ordered", first, failed, tuple(further)))
    return tuple(readings)


def _control_accounts(prepared: Prepared, measured: Measured) -> list[SplitAccount]:
    """What was encoded for the controls."""
    accounts = []
    for part, control in zip(prepared.controls, measured.controls, strict=True):
        train = train_account(part, control.trained_alike)
        accounts += [*([train] if train else []), account(part.test)]
    return accounts


def train_account(prepared: Prepared, measured: Measured | None) -> SplitAccount | None:
    """What the record says of the training split: everything that was read of it, held-out clips included."""
    train, held = prepared.train, prepared.held_out
    if train is None or measured is None:
        return None
    if isinstance(train, StreamedSplit):
        done = streamed_account(train, measured.fitted.streamed or StreamCounts(), encoded_now=not measured.known)
    else:
        done = account(train)
    return add_accounts(done, account(held.features)) if held else done


def answers_of(plan: RunPlan, samples: Sequence[Sample], outputs: Sequence[NDArray[Any]]) -> tuple[Answers, ...]:
    """What every probe says of these test samples, from the outputs of each."""
    return tuple(plan.kind.answers(plan, samples, of_probe) for of_probe in outputs)
