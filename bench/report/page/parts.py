"""What a report is made of: the board that the leaderboard shows, every run behind it in full, and tables of these:
classes, frame orders, what is lost without order, fewer labels, and samples that could not be read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median_low
from typing import NamedTuple

from bench.analysis.board import Column, Leaderboard, Row
from bench.analysis.select import Choice, Evidence, load_board
from bench.core.errors import BenchError
from bench.metrics.intervals import wilson_interval
from bench.metrics.score import LEAST_ABOVE_CHANCE, LOST, is_shown
from bench.records.runs import in_full
from bench.records.schema import Record
from bench.records.summary import probe_seeds
from bench.records.tables import seed_folder
from bench.records.tables.classes import FILE_NAME
from bench.records.tables.reading import read_columns


class Spot(NamedTuple):
    """One place of a table."""

    text: str
    number: float | None = None
    """To sort by; text is sorted as text where it is None."""
    small: str = ""
    """Printed behind, smaller."""


MISSING = Spot("—")


@dataclass(frozen=True)
class Grid:
    """A table with a caption; the first place of each row names it."""

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[Spot, ...], ...]
    remark: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(row[index].number is not None for row in self.rows) for index in range(len(self.heading)))


def percent(value: float, low: float | None = None, high: float | None = None) -> Spot:
    """A score of 0 to 100, with its interval."""
    interval = "" if low is None or high is None else f"{low:.1f}–{high:.1f}"
    return Spot(f"{value:.1f}", value, interval)


def column_names(columns: Iterable[Column]) -> Mapping[Column, str]:
    """Task and probe; where several columns share these, the protocol instead, then the metric, the size, the lists."""
    columns = list(columns)
    steps: tuple[Callable[[Column], str], ...] = (
        lambda column: f"{column.task}, {column.probe}",
        lambda column: f"{column.task}, {column.protocol}",
        lambda column: f"{column.task}, {column.protocol}, {column.metric}",
        lambda column: f"{column.task}, {column.protocol}, {column.metric}, n = {column.num_test:,}",
        lambda column: (
            f"{column.task}, {column.protocol}, {column.metric}, lists "
            + "/".join(digest[:7] for digest in column.lists.split())
        ),
    )
    names: dict[Column, str] = {}
    for step in steps:
        made = {column: step(column) for column in columns}
        often = Counter(made.values())
        last = step is steps[-1]
        names.update({c: name for c, name in made.items() if c not in names and (often[name] == 1 or last)})
    return names


@dataclass(frozen=True)
class Material:
    """A board and its runs."""

    board: Leaderboard
    evidence: Mapping[str, Evidence]
    """Every run of the board by its run id, in order of the rows, then of columns and seeds."""
    problems: tuple[BenchError, ...]
    """Records and predictions that could not be read."""


def gather(folders: Iterable[Path], choice: Choice) -> Material:
    """Read the results folders. Raises BenchError as the leaderboard does, and where no record could be read."""
    folders = list(folders)
    board, problems = load_board(folders, choice=choice)
    if not board.rows:
        raise problems[0] if problems else BenchError("no scores", where=", ".join(map(str, folders)))
    runs = (
        run.record
        for row in board.rows
        for column in board.columns
        if column in row.cells
        for run in row.cells[column].runs
    )
    summaries = {summary.run_id: summary for summary in runs if summary.path}
    evidence = {run.record.run_id: run for run in in_full(summaries.values(), problems)}
    return Material(board, evidence, tuple(problems))


Counts = Mapping[int, tuple[int, int]]
"""For each class: right, all."""


def class_tables(material: Material) -> list[Grid]:
    """For each column of the board: every class with its accuracy under every model, a mean over the seeds."""
    counted = {run_id: counts(item.folder, item.record) for run_id, item in material.evidence.items()}
    grids, titles = [], column_names(material.board.columns)
    for column in material.board.columns:
        if column.metric == "top1":
            rows = [row for row in material.board.rows if column in row.cells]
            found = {
                row.label: [made for run in row.cells[column].runs for made in counted.get(run.record.run_id, ())]
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


def counts(folder: Path, record: Record) -> list[Counts]:
    """How many samples of each class every probe of a run had right; none where its metric has no outcome for each
    sample."""
    tables = [seed_folder(folder, number) / FILE_NAME for number in range(len(probe_seeds(record)))]
    return [_counts(table) for table in tables if table.is_file()]


def _counts(path: Path) -> Counts:
    right: dict[int, int] = defaultdict(int)
    total: dict[int, int] = defaultdict(int)
    table = read_columns(path, ["label", "prediction"]).to_pydict()
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


def findings(material: Material) -> list[Grid]:
    """The tables that the records have something for."""
    labels = {run.record.run_id: row.label for row in material.board.rows for c in row.cells.values() for run in c.runs}
    records = [item.record for item in material.evidence.values()]
    made = [
        _differences(records, labels),
        _shares(records, labels),
        _controls(records, labels),
        _fewer_labels(records, labels),
    ]
    return [grid for grid in made if grid.rows or "hidden" in grid.remark]


def _differences(records: Iterable[Record], labels: Mapping[str, str]) -> Grid:
    rows = [
        (
            *_run(record, labels),
            Spot(control.trained_on),
            Spot(f"ordered − {control.frames}"),
            Spot(f"{lost.value:+.1f}".replace("-", "−"), lost.value, f"{lost.low:+.1f} to {lost.high:+.1f}"),
        )
        for record in records
        for control in record.controls
        if (lost := control.difference)
    ]
    remark = (
        "Points that are lost against ordered clips, each with the 95 % interval of paired samples. A probe that was "
    )
    remark += "trained on ordered clips meets the others for the first time."
    heading = ("model", "task", "seed", "trained on", "difference", "points")
    return Grid("Ordered clips minus other orders of frames", heading, tuple(rows), remark)


def _shares(records: Sequence[Record], labels: Mapping[str, str]) -> Grid:
    found = [(record, share) for record in records for share in record.motion_shares]
    rows = [
        (
            *_run(record, labels),
            Spot(LOST[share.without]),
            Spot(f"{100 * share.value:.0f} %", share.value, f"{100 * share.low:.0f} to {100 * share.high:.0f}"),
        )
        for record, share in found
        if is_shown(share, record.scores[0].value)
    ]
    remark = "Shares of what the ordered score is above chance; they overlap. "
    if hidden := len(found) - len(rows):
        remark += (
            f"{hidden} more hidden: of scores less than {LEAST_ABOVE_CHANCE:g} points above chance they say little."
        )
    return Grid(
        "Shares of scores that are lost", ("model", "task", "seed", "what", "lost"), tuple(rows), remark.strip()
    )


def _controls(records: Iterable[Record], labels: Mapping[str, str]) -> Grid:
    rows = [
        (
            *_run(record, labels),
            Spot(control.trained_on),
            Spot(control.frames),
            percent(control.score.value, control.score.low, control.score.high),
        )
        for record in records
        for control in record.controls
    ]
    heading = ("model", "task", "seed", "trained on", "tested on", "score in %")
    return Grid("Scores with other orders of frames", heading, tuple(rows))


def _fewer_labels(records: Iterable[Record], labels: Mapping[str, str]) -> Grid:
    rows = [
        (
            *_run(record, labels),
            Spot(f"{100 * part.share:g} %", part.share),
            Spot(f"{part.num_train:,}", part.num_train),
            Spot(str(part.draw), part.draw),
            percent(part.score.value, part.score.low, part.score.high),
        )
        for record in records
        for part in record.fewer_labels
    ]
    heading = ("model", "task", "seed", "labels", "training samples", "draw", "score in %")
    return Grid("Scores with fewer labels", heading, tuple(rows))


def _run(record: Record, labels: Mapping[str, str]) -> tuple[Spot, Spot, Spot]:
    label = labels.get(record.run_id, record.model)
    return Spot(label), Spot(f"{record.task}, {record.probe}"), Spot(str(record.seed), record.seed)


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
