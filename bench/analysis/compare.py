"""Two models on the same samples: the difference with its interval and test, class by class, sample by sample.

    comparison = compare("vjepa-nano@digits-motion", "pixel-nano@digits-motion", [Path("results")])

Everything here is in points, 0 to 100, as in records; `bench.metrics.intervals` counts in shares.
Shapes: K seeds, n samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.change import ALPHA, Change, change_of_hits, of_samples_alone
from bench.analysis.matching import match
from bench.analysis.pairing import (
    ClassChange,
    SampleChange,
    change_of_answers,
    changed_samples,
    classes_of_answers,
    classes_of_metric,
    common_answers,
    score_of_side,
)
from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Metric, metric_of
from bench.records.conditions import changed_settings, shared_note, shared_videos
from bench.records.runs import StoredRun
from bench.records.schema import Record
from bench.records.summary import probe_seeds


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    model: str
    input: str
    run_ids: list[str]
    seeds: list[int]
    """Probe seeds of all its runs."""
    value: float
    """The score on the compared samples, mean over the seeds; 0 to 100."""
    low: float
    """Low end of its 95 % interval: over samples, and over trainings where there are several seeds."""
    high: float


@dataclass(frozen=True)
class FurtherChange:
    """Another metric of the same runs."""

    metric: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """A minus B, in points."""

    task: str
    axis: str | None
    protocol: str
    metric: str
    seeds: list[int]
    a: Side
    b: Side
    difference: float
    low: float
    """Low end of the 95 % interval of the difference."""
    high: float
    p_value: float
    mde: float | None
    """The smallest true difference that such a comparison finds with 80 % power; None where n is too small for any."""
    n: int
    """Samples."""
    wins: int
    """Samples that A gets right more often, over its seeds; in other metrics than accuracy, videos that add more to the
    score of A."""
    losses: int
    clusters: int
    """Videos that the samples are of, or n."""
    interval: str
    """How the interval was made."""
    test: str
    verdict: str
    classes: list[ClassChange]
    """Classes, those that differ most first."""
    changed: list[SampleChange]
    """Samples, those on whose label the models disagree most first; none where one has more than one label."""
    further: list[FurtherChange]
    """The other metrics of the runs."""
    notes: list[str]


def compare(name_a: str, name_b: str, folders: Sequence[Path], *, num_changed: int = 10) -> Comparison:
    """Compare what two names stand for: run ids, folders of runs, models or model@task in the results `folders`.

    Raises BenchError where the runs cannot be compared, naming the fields that differ, or cannot be read.
    """
    matched = match(name_a, name_b, folders)
    runs_a, runs_b = matched.a, matched.b
    where = f"{runs_a[0].folder} against {runs_b[0].folder}"
    given_a, given_b = ([(run.folder, run.record) for run in side] for side in (runs_a, runs_b))
    a, b, left_out = common_answers(given_a, given_b, where)
    record = runs_a[0].record
    metric, names = metric_of(record.scores[0].metric), record.class_names
    if isinstance(a[0], ClassAnswers):
        found, values = _by_hits(metric, a, b, where)
        classes, changed = classes_of_answers(a, b, names), changed_samples(a, b, names, num_changed)
    else:
        found, values = change_of_answers(metric, a, b), [score_of_side(metric, side) for side in (a, b)]
        classes, changed = classes_of_metric(metric, a, b, names), []
    return Comparison(
        task=record.task,
        axis=record.axis,
        protocol=record.protocol,
        metric=metric.name,
        seeds=sorted({seed for run in (*runs_a, *runs_b) for seed in probe_seeds(run.record)}),
        a=_side(matched.names[0], runs_a, values[0]),
        b=_side(matched.names[1], runs_b, values[1]),
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        mde=found.mde,
        n=len(a[0].samples),
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=found.interval,
        test=found.test,
        verdict=_verdict(found, metric, *matched.names),
        classes=classes,
        changed=changed,
        further=[_further(score.metric, a, b) for score in record.scores[1:]],
        notes=[*matched.notes, *_notes(runs_a, runs_b, left_out), *filter(None, [of_samples_alone(len(a), len(b))])],
    )


def _by_hits(
    metric: Metric[Any], a: Sequence[ClassAnswers], b: Sequence[ClassAnswers], where: str
) -> tuple[Change, list[tuple[float, float, float]]]:
    """The difference of accuracies, and both of them with the ends of their intervals."""
    hits = [np.stack([answers.hits for answers in side]) for side in (a, b)]
    groups = a[0].groups
    try:
        values = [score_of_side(metric, side) for side in (a, b)]
        return change_of_hits(hits[0], hits[1], groups), values
    except BenchError as error:
        raise BenchError(error.what, where=where) from error


def _further(metric: str, a: Sequence[Any], b: Sequence[Any]) -> FurtherChange:
    found = change_of_answers(metric_of(metric), a, b)
    value_a, value_b = (score_of_side(metric_of(metric), side)[0] for side in (a, b))
    return FurtherChange(metric, value_a, value_b, found.difference, found.low, found.high, found.p_value)


def _notes(runs_a: Sequence[StoredRun], runs_b: Sequence[StoredRun], left_out: int) -> list[str]:
    notes = [f"{left_out} samples that not every run could read are left out"] if left_out else []
    if any(run.record.selected_on_test for run in (*runs_a, *runs_b)):
        notes.append(
            "selected on test: both scores are the best of a sweep by these very samples, so the test is biased"
        )
    notes += _on_training([run.record for run in (*runs_a, *runs_b)])
    inputs = runs_a[0].record.input, runs_b[0].record.input
    return [*notes, f"the encoders saw {inputs[0]} and {inputs[1]}"] if inputs[0] != inputs[1] else notes


def _on_training(records: Sequence[Record]) -> list[str]:
    """What a reader must know of how these probes were trained, which all had one protocol and one training list."""
    notes = []
    shared = max(shared_videos(record.notes) for record in records)
    if shared:
        notes.append(shared_note(shared))
    read = sorted({record.num_train for record in records})
    if len(read) > 1:
        notes.append(
            f"not every run could read all training samples: probes were trained on {read[0]:,} to {read[-1]:,}"
        )
    changed = next(filter(None, (changed_settings(records[0], record) for record in records)), [])
    if changed:
        notes.append(f"other settings of a recipe under one name: {', '.join(changed)}")
    return notes


def _side(name: str, runs: Sequence[StoredRun], value: tuple[float, float, float]) -> Side:
    seeds = [seed for run in runs for seed in probe_seeds(run.record)]
    return Side(name, runs[0].record.input, [run.record.run_id for run in runs], seeds, *value)


def _verdict(found: Change, metric: Metric[Any], a: str, b: str) -> str:
    if found.p_value < ALPHA:
        return f"{a if (found.difference > 0) == metric.higher_is_better else b} is better on these samples"
    return "these samples do not tell the two apart"
