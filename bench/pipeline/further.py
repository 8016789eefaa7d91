"""What a run measures beside its score: controls and fewer labels, from what was done to what the record says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.metrics.accuracy import score_of
from bench.metrics.motion_share import Reading, controls_of
from bench.metrics.score import Control, FewerLabels, MotionShare
from bench.pipeline.features import SplitAccount, account, add_accounts
from bench.pipeline.stream import StreamedSplit
from bench.probing.streaming import StreamCounts
from bench.records.tables.controls import write_readings

if TYPE_CHECKING:
    from bench.pipeline.stages import Measured, Prepared


@dataclass(frozen=True)
class Further:
    """What goes to the record, and to the files beside it."""

    readings: tuple[Reading, ...]
    """Of every frame order, the ordered one first; empty where none was asked for."""
    controls: list[Control]
    motion_shares: list[MotionShare]
    fewer_labels: list[FewerLabels]
    accounts: list[SplitAccount]
    """Of the clips that were encoded for the controls."""
    probe_s: float
    """Seconds of training the probes now."""

    def write(self, folder: Path) -> None:
        """Add its files to the folder of a run."""
        write_readings(folder, self.readings)


def further_of(prepared: Prepared, measured: Measured) -> Further:
    """What was measured beside the score."""
    plan, test = prepared.plan, prepared.test
    metric = plan.task.metric
    readings = _readings(prepared, measured) if plan.options.controls else ()
    train_labels = [sample.label for sample in prepared.train.samples] if prepared.train else []
    counts = {"class": np.bincount(train_labels, minlength=len(plan.splits.class_names))} if train_labels else {}
    beside = controls_of(readings, metric, counts)
    labels = [sample.label for sample in test.samples]
    probes = [control.trained_alike for control in measured.controls] + [
        part.measured for part in measured.fewer_labels
    ]
    return Further(
        readings=readings,
        controls=beside.controls,
        motion_shares=beside.shares,
        fewer_labels=[
            FewerLabels(
                share=part.share,
                draw=part.draw,
                num_train=part.num_train,
                score=score_of(metric, labels, part.measured.probabilities, len(test.failures)),
            )
            for part in measured.fewer_labels
        ],
        accounts=_control_accounts(prepared, measured),
        probe_s=sum(probe.fitted.seconds for probe in probes if probe and not probe.known),
    )


def _readings(prepared: Prepared, measured: Measured) -> tuple[Reading, ...]:
    readings = [
        Reading("ordered", "ordered", prepared.predictions(measured.probabilities), len(prepared.test.failures))
    ]
    for part, control in zip(prepared.controls, measured.controls, strict=True):
        frames, failed = part.plan.test_clips.frame_order, len(part.test.failures)
        if control.trained_alike:
            predictions = part.predictions(control.trained_alike.probabilities)
            readings.append(Reading(frames, frames, predictions, failed))
        readings.append(Reading(frames, "ordered", part.predictions(control.by_ordered), failed))
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
    streamed = measured.fitted.streamed or StreamCounts()
    done = (
        train.account(streamed, encoded_now=not measured.known) if isinstance(train, StreamedSplit) else account(train)
    )
    return add_accounts(done, account(held.features)) if held else done
