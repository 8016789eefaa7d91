"""Two models on the same samples: the difference with its interval and test, class by class, sample by sample.

    comparison = compare("vjepa-nano@digits-motion", "pixel-nano@digits-motion", [Path("results")])

Everything here is in points, 0 to 100, as in records; `bench.metrics.intervals` counts in shares.
Shapes: K seeds, n samples, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.analysis.matching import match
from bench.core.errors import BenchError
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import Paired, paired, wilson_interval
from bench.records.conditions import changed_settings, shared_note, shared_videos
from bench.records.recomputed import read_answers
from bench.records.runs import StoredRun
from bench.records.schema import Record

Hits = NDArray[np.int64]
"""Outcomes [K, n], 0 or 1."""
ALPHA = 0.05
"""Two models are told apart where the p value is below this."""


@dataclass(frozen=True)
class Side:
    """One of the two models."""

    model: str
    input: str
    run_ids: list[str]
    value: float
    """Accuracy on the compared samples, mean over the seeds; 0 to 100."""
    low: float
    """Low end of its 95 % interval."""
    high: float


@dataclass(frozen=True)
class ClassChange:
    """The samples of one class. With several seeds every sample counts once for each."""

    name: str
    n: int
    value_a: float
    value_b: float
    wins: int
    """ClassAnswers that only A got right."""
    losses: int
    """ClassAnswers that only B got right."""


@dataclass(frozen=True)
class SampleChange:
    """One sample, and what both models said of it; probabilities are 0 to 1, means over the seeds."""

    sample: str
    label: str
    predicted_a: str
    predicted_b: str
    probability_a: float
    """Of the class that A predicted."""
    probability_b: float
    label_probability_a: float
    """That A gave to the label."""
    label_probability_b: float


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
    losses: int
    clusters: int
    """Videos that the samples are of, or n."""
    interval: str
    """How the interval was made."""
    test: str
    verdict: str
    classes: list[ClassChange]
    """Those whose accuracy differs most first."""
    changed: list[SampleChange]
    """Those on whose label the models disagree most first."""
    notes: list[str]


def compare(name_a: str, name_b: str, folders: Sequence[Path], *, num_changed: int = 10) -> Comparison:
    """Compare what two names stand for: run ids, folders of runs, models or model@task in the results `folders`.

    Raises BenchError where the runs cannot be compared, naming the fields that differ, or cannot be read.
    """
    matched = match(name_a, name_b, folders)
    runs_a, runs_b = ([pair[side] for pair in matched.pairs] for side in (0, 1))
    answers_a, answers_b, left_out = _aligned(runs_a, runs_b)
    hits_a, hits_b = (np.stack([answers.hits for answers in side]) for side in (answers_a, answers_b))
    found = paired_seeds(hits_a, hits_b, answers_a[0].groups)
    record = runs_a[0].record
    notes = [*matched.notes, *_notes(runs_a, runs_b, left_out)]
    names = record.class_names
    return Comparison(
        task=record.task,
        axis=record.axis,
        protocol=record.protocol,
        metric=record.scores[0].metric,
        seeds=sorted({run.record.seed for run in (*runs_a, *runs_b)}),
        a=_side(matched.names[0], runs_a, hits_a),
        b=_side(matched.names[1], runs_b, hits_b),
        difference=100 * found.difference,
        low=100 * found.low,
        high=100 * found.high,
        p_value=found.p_value,
        mde=None if found.mde is None else 100 * found.mde,
        n=hits_a.shape[1],
        wins=found.wins,
        losses=found.losses,
        clusters=found.clusters,
        interval=interval_name(found),
        test="exact McNemar" if found.clusters == found.n else "exact sign flips of whole clusters",
        verdict=_verdict(found, *matched.names),
        classes=_classes(answers_a[0], hits_a, hits_b, names),
        changed=_changed(answers_a, answers_b, names, num_changed),
        notes=notes,
    )


def paired_seeds(
    hits_a: Hits, hits_b: Hits, videos: NDArray[np.int64] | None = None, confidence: float = 0.95
) -> Paired:
    """The paired difference of outcomes [K, n] of the same K seeds on the same n samples.

    All answers to a sample, or to the samples of one video, are one cluster: more seeds are not more samples.
    """
    num_seeds, n = hits_a.shape
    groups = videos if num_seeds == 1 else np.tile(np.arange(n) if videos is None else videos, num_seeds)
    return paired(hits_a.ravel(), hits_b.ravel(), groups, confidence)


def interval_name(found: Paired) -> str:
    """How the interval of a paired difference was made, for a legend."""
    level = f"{100 * found.confidence:g} %"
    if found.clusters == found.n:
        return f"Tango's score interval, {level}"
    return f"Tango's score interval, {level}, design effect {found.design_effect:.2f} of {found.clusters:,} clusters"


def _aligned(
    runs_a: Sequence[StoredRun], runs_b: Sequence[StoredRun]
) -> tuple[list[ClassAnswers], list[ClassAnswers], int]:
    """The answers of every run to the samples that all of them scored, and how many samples that leaves out."""
    read = [[read_answers(run.folder, run.record) for run in runs] for runs in (runs_a, runs_b)]
    everyone = [answers for side in read for answers in side]
    shared = set.intersection(*(set(answers.samples) for answers in everyone))
    where = f"{runs_a[0].folder} against {runs_b[0].folder}"
    if not shared:
        raise BenchError("they have no test sample in common", where=where, fix="compare runs on one list")
    samples = sorted(shared)
    a, b = ([answers.of(samples) for answers in side] for side in read)
    for answers in (*a, *b):
        wrong = np.flatnonzero(answers.labels != a[0].labels)
        if len(wrong):
            raise BenchError(
                f"the labels of {len(wrong)} test samples differ, such as {samples[wrong[0]]}",
                where=where,
                fix="compare runs on one list",
            )
    if a[0].groups is not None and len(np.unique(a[0].groups)) < 2:
        raise BenchError("all test samples are of one video: nothing is independent", where=where)
    return a, b, max(len(answers.samples) for answers in everyone) - len(samples)


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


def _side(name: str, runs: Sequence[StoredRun], hits: Hits) -> Side:
    num_seeds, n = hits.shape
    ends = [wilson_interval(int(seed.sum()), n) for seed in hits]
    return Side(
        model=name,
        input=runs[0].record.input,
        run_ids=[run.record.run_id for run in runs],
        value=100 * int(hits.sum()) / hits.size,
        low=100 * sum(end.low for end in ends) / num_seeds,
        high=100 * sum(end.high for end in ends) / num_seeds,
    )


def _verdict(found: Paired, a: str, b: str) -> str:
    if found.p_value < ALPHA:
        return f"{a if found.difference > 0 else b} is better on these samples"
    return "these samples do not tell the two apart"


def _classes(answers: ClassAnswers, hits_a: Hits, hits_b: Hits, names: Sequence[str]) -> list[ClassChange]:
    changes = []
    for label in np.unique(answers.labels).tolist():
        a, b = hits_a[:, answers.labels == label], hits_b[:, answers.labels == label]
        changes.append(
            ClassChange(
                name=_name(names, label),
                n=a.shape[1],
                value_a=100 * int(a.sum()) / a.size,
                value_b=100 * int(b.sum()) / b.size,
                wins=int((a > b).sum()),
                losses=int((a < b).sum()),
            )
        )
    return sorted(changes, key=lambda change: -abs(change.wins - change.losses))


def _changed(
    a: Sequence[ClassAnswers], b: Sequence[ClassAnswers], names: Sequence[str], count: int
) -> list[SampleChange]:
    mean_a, mean_b = (np.mean([answers.probabilities for answers in side], axis=0) for side in (a, b))
    labels, every = a[0].labels, np.arange(len(a[0].labels))
    moved = np.abs(mean_a[every, labels] - mean_b[every, labels])
    changes = []
    for i in np.argsort(-moved, kind="stable")[:count].tolist():
        said_a, said_b, label = int(mean_a[i].argmax()), int(mean_b[i].argmax()), int(labels[i])
        changes.append(
            SampleChange(
                sample=a[0].samples[i],
                label=_name(names, label),
                predicted_a=_name(names, said_a),
                predicted_b=_name(names, said_b),
                probability_a=float(mean_a[i, said_a]),
                probability_b=float(mean_b[i, said_b]),
                label_probability_a=float(mean_a[i, label]),
                label_probability_b=float(mean_b[i, label]),
            )
        )
    return changes


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)
