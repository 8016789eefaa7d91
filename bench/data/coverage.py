"""Which classes of a task have samples, and whether the labels seem to count from 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bench.data.formats import Sample

_SHOWN = 5


def count_classes(samples: Sequence[Sample], num_classes: int) -> list[int]:
    """Samples of each class; labels outside 0 to num_classes - 1 are left out."""
    labels = np.fromiter((sample.label for sample in samples), np.int64, len(samples))
    inside = labels[(labels >= 0) & (labels < num_classes)]
    return [int(count) for count in np.bincount(inside, minlength=num_classes)]


def counts_from_one(splits: Iterable[Sequence[Sample]]) -> bool:
    """Whether the smallest label of all these samples is 1."""
    return min((sample.label for samples in splits for sample in samples), default=0) == 1


def untrained_classes(names: Sequence[str], train: Sequence[int], test: Sequence[int]) -> list[str]:
    """What to say of the classes without a training sample, from the samples that each class has in both splits."""
    gaps = [name for name, *counts in zip(names, train, test, strict=True) if not any(counts)]
    tested = {name: n for name, count, n in zip(names, train, test, strict=True) if n and not count}
    lines = []
    if gaps:
        lines.append(f"{_share(gaps, names)} no sample in either split: {_shown(gaps)}")
    if tested:
        of_them = f"{sum(tested.values()):,} test samples are of them" if len(tested) > 1 else _of_it(*tested.values())
        lines.append(f"{_share(tested, names)} no training sample, and {of_them}: {_shown(list(tested))}")
    return lines


def _share(some: Sequence[str] | dict[str, int], names: Sequence[str]) -> str:
    return f"{len(some):,} of {len(names):,} classes {'has' if len(some) == 1 else 'have'}"


def _of_it(count: int) -> str:
    return f"{count:,} test samples are of it" if count > 1 else "1 test sample is of it"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
