"""`bench data verify`: is a task's data whole, readable and fairly split? What was found is a schema with a version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bench.cards.load import TaskCard
from bench.core.progress import Reporter
from bench.core.types import Split
from bench.core.version import __version__
from bench.data.sample import ListOptions, Sample
from bench.data.verify.checks import Fault
from bench.data.verify.findings import (
    Duplicate,
    Findings,
    Parts,
    class_names,
    examine,
    find_duplicates,
    label_problems,
    order_problem,
    read_parts,
    samples_of_classes,
)

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Part):
    """Least, middle and largest of many numbers."""

    min: float
    median: float
    max: float


class Problem(_Part):
    """One sample that cannot be used."""

    split: Split
    sample: str
    """Its id."""
    path: str
    kind: Fault | Literal["label"]
    """`label`: outside the classes."""
    reason: str


class Member(_Part):
    """One of several samples that show the same."""

    split: Split
    sample: str
    label: int


class Duplicates(_Part):
    """Samples of equal content."""

    members: list[Member]
    across: bool
    """Whether they are of both splits: then the test split is partly trained on."""
    labels_differ: bool


class SplitReport(_Part):
    """One split. Frames, rates and sizes are of the readable samples whose files tell them."""

    samples: int
    official: int | None
    """Samples that the card says there are."""
    readable: int
    missing: int
    empty: int
    unreadable: int
    bytes: int
    """Size of all files, each counted once."""
    frames: Range | None
    fps: Range | None
    short_side: Range | None
    """Pixels."""
    class_counts: list[int]
    """Samples of each class, or images that show it, in label order."""
    classes_without: list[str]


class Report(_Part):
    """Everything that a check of a task's data found."""

    schema_version: Literal[1] = 1
    version: str
    """Version of the suite."""
    task: str
    data: str | None
    """The folder."""
    full: bool
    """Whether every frame was decoded; else headers and ends of files were read."""
    class_names: list[str]
    splits: dict[Split, SplitReport]
    problems: list[Problem]
    duplicates: list[Duplicates]
    misleading: list[str]
    """What would mislead a score; a sound data set has nothing here."""
    remarks: list[str]
    """What is worth knowing, and harmless."""


SHORTFALL = 0.01
"""Largest difference from the official number of samples, as a share of it: a larger one would mislead.

The same as the default of `bench run --max-failed`."""


def verify(
    card: TaskCard,
    where: ListOptions,
    cache: Path,
    reporter: Reporter,
    *,
    full: bool = False,
    workers: int = 1,
    timeout_s: float = 60.0,
) -> Report:
    """Look at every sample of both splits of a task. Raises BenchError where the annotations cannot be read."""
    read = read_parts(card, where)
    splits = {split: part.samples for split, part in read.items()}
    paths = list(dict.fromkeys(sample.path for samples in splits.values() for sample in samples))
    number = {path: place for place, path in enumerate(paths)}
    places: dict[Split, NDArray[np.int64]] = {
        split: np.fromiter((number[sample.path] for sample in samples), np.int64, len(samples))
        for split, samples in splits.items()
    }
    found = examine(
        paths,
        cache,
        full=full,
        workers=workers,
        timeout_s=timeout_s,
        progress=lambda done, total: reporter.stage("decoding" if full else "reading headers", done, total),
    )
    twins = find_duplicates(
        [(split, sample) for split, samples in splits.items() for sample in samples],
        np.concatenate(list(places.values())),
        found,
        cache,
        lambda done, total: reporter.stage("comparing", done, total),
    )
    names = class_names(card, read)
    counts = samples_of_classes(
        card, where, read, len(names), cache, lambda done, total: reporter.stage("reading masks", done, total)
    )
    parts = {
        split: _split_report(card, split, splits[split], places[split], found, names, counts[split]) for split in splits
    }
    problems = [problem for split in splits for problem in _problems(split, splits[split], places[split], found, names)]
    return Report(
        version=__version__,
        task=card.name,
        data=str(where.data) if where.data else None,
        full=full,
        class_names=list(names),
        splits=parts,
        problems=problems,
        duplicates=[_duplicates(twin) for twin in twins],
        misleading=[
            *_misleading(card, read, parts, problems, twins),
            *label_problems(card, names, read, {split: part.class_counts for split, part in parts.items()}),
        ],
        remarks=[*(f"{split}: {note}" for split, part in read.items() for note in part.notes), *_remarks(parts, twins)],
    )


def _split_report(
    card: TaskCard,
    split: Split,
    samples: Sequence[Sample],
    places: NDArray[np.int64],
    found: Findings,
    names: Sequence[str],
    counts: list[int],
) -> SplitReport:
    faults = Counter(found.faults[place].fault for place in places.tolist() if place in found.faults)
    rows = found.rows[places]
    rates = np.array([sample.fps or 0.0 for sample in samples])
    return SplitReport(
        samples=len(samples),
        official=card.train_size if split == "train" else card.test_size,
        readable=len(samples) - sum(faults.values()),
        missing=faults["missing"],
        empty=faults["empty"],
        unreadable=faults["unreadable"],
        bytes=int(found.rows["bytes"][np.unique(places)].sum()),
        frames=_range(rows["frames"]),
        fps=_range(np.where(rows["fps"] > 0, rows["fps"], rates)),
        short_side=_range(np.minimum(rows["height"], rows["width"])),
        class_counts=counts,
        classes_without=[name for name, count in zip(names, counts, strict=True) if not count],
    )


def _range(values: NDArray[Any]) -> Range | None:
    """The range of the values that are known, which are above 0; None where none is."""
    known = values[values > 0]
    if not known.size:
        return None
    return Range(min=float(known.min()), median=float(np.median(known)), max=float(known.max()))


def _problems(
    split: Split, samples: Sequence[Sample], places: NDArray[np.int64], found: Findings, names: Sequence[str]
) -> list[Problem]:
    problems = []
    for sample, place in zip(samples, places.tolist(), strict=True):
        wrong: list[tuple[Fault | Literal["label"], str]] = []
        facts = found.faults.get(place)
        if facts and facts.fault:
            wrong.append((facts.fault, facts.reason))
        if not 0 <= sample.label < len(names):
            wrong.append(("label", f"label {sample.label}, the classes are 0 to {len(names) - 1}"))
        problems += [
            Problem(split=split, sample=sample.id, path=sample.path, kind=kind, reason=reason) for kind, reason in wrong
        ]
    return problems


def _duplicates(twin: Duplicate) -> Duplicates:
    members = [Member(split=split, sample=sample.id, label=sample.label) for split, sample in twin.members]
    return Duplicates(members=members, across=twin.across, labels_differ=twin.labels_differ)


def _misleading(
    card: TaskCard,
    splits: Parts,
    parts: dict[Split, SplitReport],
    problems: Sequence[Problem],
    twins: Sequence[Duplicate],
) -> list[str]:
    lines = []
    for split, part in parts.items():
        kinds = Counter(problem.kind for problem in problems if problem.split == split)
        if kinds:
            words = {"label": "with a label outside the classes"}
            counts = [f"{count:,} {words.get(kind, kind)}" for kind, count in kinds.items()]
            lines.append(f"{split}: {', '.join(counts)}")
        if part.official and abs(part.samples - part.official) > SHORTFALL * part.official:
            lines.append(f"{split}: {part.samples:,} samples listed, the official split has {part.official:,}")
        wrong = order_problem(splits[split].samples, card)
        if wrong:
            lines.append(f"{split}: {wrong}")
    across = sum(sum(split == "test" for split, _ in twin.members) for twin in twins if twin.across)
    if across:
        lines.append(f"{across:,} test samples are training samples too")
    return lines


def _remarks(parts: dict[Split, SplitReport], twins: Sequence[Duplicate]) -> list[str]:
    lines = []
    for split, part in parts.items():
        if part.official and 0 < abs(part.samples - part.official) <= SHORTFALL * part.official:
            lines.append(f"{split}: {part.samples:,} samples listed, the official split has {part.official:,}")
        if part.classes_without:
            shown = ", ".join(part.classes_without[:5]) + (", ..." if len(part.classes_without) > 5 else "")
            lines.append(f"{split}: {len(part.classes_without):,} classes have no sample: {shown}")
        if part.fps and part.fps.max > part.fps.min:
            lines.append(f"{split}: {part.fps.min:g} to {part.fps.max:g} frames per second")
    inside = [twin for twin in twins if not twin.across]
    if inside:
        differ = sum(twin.labels_differ for twin in inside)
        lines.append(f"{len(inside):,} contents are listed more than once in a split, {differ:,} with different labels")
    return lines
