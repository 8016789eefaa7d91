"""Samples that show the same: equal contents by SHA-256, found by hashing only what might be equal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.types import Split
from bench.data.formats import Sample
from bench.data.verify.findings import Findings
from bench.video.contents import bytes_of, content_id, content_ids

Segment = tuple[float, float]
Member = tuple[Split, Sample]


@dataclass(frozen=True)
class Duplicate:
    """Samples that are the same part of the same content; of two splits also parts that overlap."""

    members: list[Member]

    @property
    def across(self) -> bool:
        """Whether they are of two splits."""
        return len({split for split, _ in self.members}) > 1

    @property
    def labels_differ(self) -> bool:
        """Whether they have different labels."""
        return len({sample.label for _, sample in self.members}) > 1


def find_duplicates(
    members: list[Member],
    places: NDArray[np.int64],
    found: Findings,
    cache: Path,
    progress: Callable[[int, int], None],
) -> list[Duplicate]:
    """The duplicates among `members`, whose paths have the numbers `places` [n] in `found`."""
    content = _contents(found, cache, progress)[places]
    content[np.isin(places, np.fromiter(found.faults, np.int64, len(found.faults)))] = -1
    groups = defaultdict(list)
    values, counts = np.unique(content, return_counts=True)
    for number in np.flatnonzero(np.isin(content, values[(counts > 1) & (values >= 0)])):
        groups[int(content[number])].append(members[number])
    return [duplicate for group in groups.values() for duplicate in _same_parts(group)]


def _contents(found: Findings, cache: Path, progress: Callable[[int, int], None]) -> NDArray[np.int64]:
    """[paths]: of each path the number of the first one with the same content."""
    prints = found.rows["sample"]
    values, counts = np.unique(prints, return_counts=True)
    readable = np.ones(len(prints), bool)
    readable[list(found.faults)] = False
    alike = np.flatnonzero(np.isin(prints, values[counts > 1]) & readable)
    files = [found.paths[place] for place in alike if not Path(found.paths[place]).is_dir()]
    ids = content_ids(cache, files, progress)
    first: dict[str, int] = {}
    numbers = np.arange(len(prints))
    for place in alike:
        path = found.paths[place]
        numbers[place] = first.setdefault(bytes_of(ids.get(path) or content_id(path)), int(place))
    return numbers


def _same_parts(group: list[Member]) -> list[Duplicate]:
    """The duplicates among samples of the same content."""
    parts: dict[Segment, list[Member]] = defaultdict(list)
    for member in group:
        parts[_segment(member[1])].append(member)
    same = [Duplicate(members) for members in parts.values() if len(members) > 1]
    ends: dict[Split, list[tuple[Segment, Member]]] = {"train": [], "test": []}
    for segment, members in parts.items():
        for split in {split for split, _ in members}:
            ends[split].append((segment, next(member for member in members if member[0] == split)))
    overlaps = [
        Duplicate([of_train, of_test])
        for train, of_train in ends["train"]
        for test, of_test in ends["test"]
        if train != test and train[0] < test[1] and test[0] < train[1]
    ]
    return same + overlaps


def _segment(sample: Sample) -> Segment:
    return sample.start_s or 0.0, float("inf") if sample.end_s is None else sample.end_s
