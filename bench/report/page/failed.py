"""The samples that could not be read, each once, with the runs that missed it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bench.records.schema import Record
from bench.report.page.grid import Grid, Spot


def failed_samples(records: Iterable[Record]) -> list[Grid]:
    """One table for each task that has any. Models that failed alike share a line."""
    found: dict[str, dict[tuple[str, str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    runs: dict[str, set[str]] = defaultdict(set)
    for record in records:
        runs[record.task].add(record.model)
        for failure in record.failures:
            found[record.task][failure.split, failure.sample, failure.reason].append(record.model)
    grids = []
    for task, failures in found.items():
        rows = []
        for (split, sample, reason), models in sorted(failures.items()):
            names = list(dict.fromkeys(models))
            who = "all" if len(names) == len(runs[task]) else ", ".join(names)
            rows.append((Spot(sample), Spot(split), Spot(reason), Spot(who)))
        caption = f"{task}: {len(rows):,} failed samples" if len(rows) > 1 else f"{task}: 1 failed sample"
        grids.append(Grid(caption, ("sample", "split", "reason", "models"), tuple(rows)))
    return grids
