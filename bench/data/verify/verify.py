"""`bench data verify`: is a task's data whole, readable and fairly split?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bench import __version__
from bench.cards.load import TaskCard
from bench.core.progress import Reporter
from bench.core.types import Split
from bench.data.coverage import count_classes
from bench.data.dataset import ListOptions
from bench.data.formats import Sample
from bench.data.verify import report as schema
from bench.data.verify.checks import Fault
from bench.data.verify.classes import class_names, label_problems, order_problem
from bench.data.verify.duplicates import Duplicate, find_duplicates
from bench.data.verify.findings import Findings, examine
from bench.data.verify.samples import Parts, read_parts

SHORTFALL = 0.01
"""Of the official number of samples: a larger difference misleads. As the default of `bench run --max-failed`."""


def verify(
    card: TaskCard,
    where: ListOptions,
    cache: Path,
    reporter: Reporter,
    *,
    full: bool = False,
    workers: int = 1,
    timeout_s: float = 60.0,
) -> schema.Report:
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
    parts = {split: _split_report(card, split, splits[split], places[split], found, names) for split in splits}
    problems = [problem for split in splits for problem in _problems(split, splits[split], places[split], found, names)]
    return schema.Report(
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
) -> schema.SplitReport:
    faults = Counter(found.faults[place].fault for place in places.tolist() if place in found.faults)
    rows = found.rows[places]
    counts = count_classes(samples, len(names))
    rates = np.array([sample.fps or 0.0 for sample in samples])
    return schema.SplitReport(
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


def _range(values: NDArray[Any]) -> schema.Range | None:
    """Of those that are known, which are above 0."""
    known = values[values > 0]
    if not known.size:
        return None
    return schema.Range(min=float(known.min()), median=float(np.median(known)), max=float(known.max()))


def _problems(
    split: Split, samples: Sequence[Sample], places: NDArray[np.int64], found: Findings, names: Sequence[str]
) -> list[schema.Problem]:
    problems = []
    for sample, place in zip(samples, places.tolist(), strict=True):
        wrong: list[tuple[Fault | Literal["label"], str]] = []
        facts = found.faults.get(place)
        if facts and facts.fault:
            wrong.append((facts.fault, facts.reason))
        if not 0 <= sample.label < len(names):
            wrong.append(("label", f"label {sample.label}, the classes are 0 to {len(names) - 1}"))
        problems += [
            schema.Problem(split=split, sample=sample.id, path=sample.path, kind=kind, reason=reason)
            for kind, reason in wrong
        ]
    return problems


def _duplicates(twin: Duplicate) -> schema.Duplicates:
    members = [schema.Member(split=split, sample=sample.id, label=sample.label) for split, sample in twin.members]
    return schema.Duplicates(members=members, across=twin.across, labels_differ=twin.labels_differ)


def _misleading(
    card: TaskCard,
    splits: Parts,
    parts: dict[Split, schema.SplitReport],
    problems: Sequence[schema.Problem],
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


def _remarks(parts: dict[Split, schema.SplitReport], twins: Sequence[Duplicate]) -> list[str]:
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
