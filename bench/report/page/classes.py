"""Scores of each class in words: accuracy from the predictions, or what the metric itself says by parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median_low

from bench.analysis.leaderboard import Column, Row
from bench.analysis.runs import Evidence
from bench.metrics.intervals import wilson_interval
from bench.records.tables.classes import FILE_NAME
from bench.records.tables.reading import read_columns
from bench.report.page.gather import Material
from bench.report.page.grid import MISSING, Grid, Spot
from bench.report.page.names import column_names

Counts = Mapping[int, tuple[int, int]]
"""For each class: right, all."""


def class_tables(material: Material) -> list[Grid]:
    """For each column of the board: every class with its accuracy under every model, a mean over the seeds."""
    counted = {run_id: counts(item.folder) for run_id, item in material.evidence.items()}
    grids, titles = [], column_names(material.board.columns)
    for column in material.board.columns:
        if column.metric == "top1":
            rows = [row for row in material.board.rows if column in row.cells]
            found = {
                row.label: [made for run in row.cells[column].runs if (made := counted.get(run.record.run_id))]
                for row in rows
            }
            if any(found.values()):
                grids.append(_accuracies(titles[column], _class_names(material, rows[0], column), found))
    return grids


def breakdowns(material: Material) -> list[Grid]:
    """For each metric of a column that a record gives by parts: every part under every model."""
    grids, titles = [], column_names(material.board.columns)
    for column in material.board.columns:
        values: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(dict))
        rows = [row for row in material.board.rows if column in row.cells]
        for row in rows:
            for item in _evidence(material, row, column):
                for part in item.record.breakdowns:
                    for name, value in part.values.items():
                        seeds = values[part.metric, part.by][name].setdefault(row.label, [])
                        seeds += [] if value is None else [value]
        for (metric, by), parts in values.items():
            lines = [(Spot(name), *(_mean(seeds.get(row.label, [])) for row in rows)) for name, seeds in parts.items()]
            caption = f"{titles[column]}: {metric} in % by {by}"
            grids.append(Grid(caption, (by, *(row.label for row in rows)), tuple(lines)))
    return grids


def counts(folder: Path) -> Counts | None:
    """How many samples of each class a run had right; None where its metric has no outcome for each sample."""
    if not (folder / FILE_NAME).is_file():
        return None
    right: dict[int, int] = defaultdict(int)
    total: dict[int, int] = defaultdict(int)
    table = read_columns(folder / FILE_NAME, ["label", "prediction"]).to_pydict()
    for label, prediction in zip(table["label"], table["prediction"], strict=True):
        total[label] += 1
        right[label] += label == prediction
    return {label: (right[label], number) for label, number in total.items()}


def _accuracies(title: str, names: Sequence[str], found: Mapping[str, list[Counts]]) -> Grid:
    sizes: dict[int, int] = defaultdict(int)
    for seeds in found.values():
        for of_run in seeds:
            for label, (_, number) in of_run.items():
                sizes[label] = max(sizes[label], number)
    lines = []
    for label in sorted(sizes):
        name = names[label] if 0 <= label < len(names) else str(label)
        values = (
            [100 * seed[label][0] / seed[label][1] for seed in seeds if label in seed] for seeds in found.values()
        )
        lines.append((Spot(name), Spot(f"{sizes[label]:,}", sizes[label]), *(_mean(seed) for seed in values)))
    typical = median_low(sizes.values())
    low, high = wilson_interval(typical // 2, typical)
    caption = f"{title}: accuracy in % by class"
    remark = f"A class has {typical:,} test samples at the median: near 50 %, its 95 % interval is "
    remark += f"{100 * low:.0f} to {100 * high:.0f} %."
    return Grid(caption, ("class", "n", *found), tuple(lines), remark)


def _mean(values: Sequence[float]) -> Spot:
    return Spot(f"{fmean(values):.1f}", fmean(values)) if values else MISSING


def _evidence(material: Material, row: Row, column: Column) -> Iterable[Evidence]:
    ids = (run.record.run_id for run in row.cells[column].runs)
    return [material.evidence[run_id] for run_id in ids if run_id in material.evidence]


def _class_names(material: Material, row: Row, column: Column) -> Sequence[str]:
    return next((item.record.class_names for item in _evidence(material, row, column)), [])
