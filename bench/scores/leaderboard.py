"""From records to one board: who scored what, on which task, under which protocol.

Two records share a column only where task, metric, probe, protocol and sample lists are equal, and a row only
where model name and weights are. How the board looks is in `tables`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from bench.errors import BenchError, nearest
from bench.scores.records import Record, Score, read_records

Place = Literal["all", "rows", "columns", "cells"]
_AXES = ("motion", "appearance", None)


@dataclass(frozen=True)
class Column:
    """What must be equal for two scores to be compared."""

    axis: str | None
    task: str
    probe: str
    protocol: str
    metric: str
    num_train: int
    """Samples on the training list, readable or not."""
    num_test: int
    lists: str
    """Digests of both lists, training first; empty where the record has none."""


@dataclass(frozen=True)
class Run:
    """One record with one of its scores."""

    record: Record
    score: Score


@dataclass(frozen=True)
class Cell:
    """The runs of one model in one column, one for each seed, in order of the seed."""

    runs: tuple[Run, ...]

    @property
    def value(self) -> float:
        """Mean over the seeds, 0 to 100."""
        return fmean(run.score.value for run in self.runs)

    @property
    def low(self) -> float:
        """Low end of the sampling interval, 0 to 100: a mean, because all seeds see the same test samples."""
        return fmean(run.score.low for run in self.runs)

    @property
    def high(self) -> float:
        """High end of the sampling interval, 0 to 100."""
        return fmean(run.score.high for run in self.runs)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds, in points; None for one seed."""
        return stdev(run.score.value for run in self.runs) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Row:
    """One encoder: a model name and its weights."""

    label: str
    """Model name, with its input or the digest of its weights where the name alone does not tell it apart."""
    cells: Mapping[Column, Cell]

    @property
    def mean(self) -> float:
        """Mean of the scores that are there; rows are sorted by it."""
        return fmean(cell.value for cell in self.cells.values())

    @cached_property
    def records(self) -> list[Record]:
        """The records behind the row, each once."""
        return list({id(run.record): run.record for cell in self.cells.values() for run in cell.runs}.values())

    @property
    def encoder_clips(self) -> int:
        """Clips encoded by the runs of the row; clips read from the cache are not counted."""
        return sum(record.cost.encoder_clips for record in self.records)

    @property
    def seconds(self) -> float:
        """Wall time of the runs of the row."""
        return sum(record.cost.total_s for record in self.records)


@dataclass(frozen=True)
class GroupMean:
    """Unweighted mean over the tasks of one axis, under one probe, that every row has."""

    axis: str
    probe: str
    columns: tuple[Column, ...]

    def of(self, row: Row) -> float:
        """The mean of one row, 0 to 100."""
        return fmean(row.cells[column].value for column in self.columns)


@dataclass(frozen=True)
class Footnote:
    """A note of the records and where its number goes: beside a model, a column heading or single scores."""

    text: str
    place: Place
    cells: frozenset[tuple[int, int]]
    """(row, column) of every score that it is about."""


@dataclass(frozen=True)
class Leaderboard:
    """Rows, best first, and columns grouped by axis: motion, appearance, none."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    means: tuple[GroupMean, ...]
    footnotes: tuple[Footnote, ...]
    superseded: int
    """Records left out because a newer one has the same model, task, protocol and seed."""


def load_board(folders: Iterable[Path], tasks: Sequence[str] = ()) -> tuple[Leaderboard, list[BenchError]]:
    """The board of every record under the results folders, and the records that could not be read.

    `tasks` keeps only these tasks. Raises BenchError where a folder does not exist, nothing was found in any
    of them, or no record is of a task that was asked for.
    """
    unique = list({folder.resolve(): folder for folder in folders}.values())
    for folder in unique:
        if not folder.is_dir():
            raise BenchError("no such folder", where=str(folder), fix="`bench run` writes records to its --results")
    found = list(read_records(unique))
    records = [entry for entry in found if isinstance(entry, Record)]
    problems = [entry for entry in found if isinstance(entry, BenchError)]
    if not found:
        raise BenchError("no records yet", where=", ".join(map(str, unique)), fix="`bench run` writes one")
    known = {record.task for record in records}
    for task in tasks:
        if task not in known:
            raise BenchError(f"no record of task '{task}'", fix=nearest(task, known) if known else None)
    return build([record for record in records if not tasks or record.task in tasks]), problems


def build(records: Sequence[Record]) -> Leaderboard:
    """The board of these records. The same record given twice counts once."""
    current, superseded = _newest({(record.run_id, record.moment): record for record in records}.values())
    labels = _labels(current)
    grouped: dict[tuple[str, str], dict[Column, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(current, key=lambda record: record.seed):
        for score in record.scores:
            row = record.model, labels[_identity(record)]
            grouped[row][_column(record, score)].append(Run(record, score))
    rows = [
        Row(label, {column: Cell(tuple(runs)) for column, runs in cells.items()})
        for (_, label), cells in grouped.items()
    ]
    rows.sort(key=lambda row: (-row.mean, natural(row.label)))
    columns = sorted({column for row in rows for column in row.cells}, key=_column_order)
    return Leaderboard(tuple(columns), tuple(rows), _means(rows, columns), _footnotes(rows, columns), superseded)


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts vit2 before vit10."""
    parts = re.split(r"([0-9]+)", text.lower())
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def _identity(record: Record) -> tuple[str, str, str]:
    return record.model, record.digests.get("encoder", ""), record.input


def _newest(records: Iterable[Record]) -> tuple[list[Record], int]:
    """The newest record of every encoder, task, protocol and seed, and how many older ones there were."""
    ordered = sorted(records, key=lambda record: (record.moment, record.run_id))
    newest = {
        (_identity(record), record.seed, *(_column(record, score) for score in record.scores)): record
        for record in ordered
    }
    return list(newest.values()), len(ordered) - len(newest)


def _labels(records: Sequence[Record]) -> dict[tuple[str, str, str], str]:
    """What each encoder is called: its name, with input and weights where the name is there more than once.

    One set of weights that saw several inputs on the same task is several rows; where only the tasks differ
    in their input, it is one.
    """
    inputs: dict[Any, set[str]] = defaultdict(set)
    for record in records:
        inputs[record.model, record.digests.get("encoder", ""), record.task, record.probe].add(record.input)
    split = {(model, digest) for (model, digest, *_), seen in inputs.items() if len(seen) > 1}
    members: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model, digest, shape in map(_identity, records):
        members[model][digest, shape if (model, digest) in split else ""].add(shape)
    labels = {}
    for model, rows in members.items():
        shown = {row: "/".join(sorted(shapes, key=natural)) for row, shapes in rows.items()}
        for row, shapes in rows.items():
            parts = [shown[row]] if len(set(shown.values())) > 1 else []
            parts += [f"weights {row[0][:7]}"] if list(shown.values()).count(shown[row]) > 1 else []
            label = f"{model} ({', '.join(parts)})" if parts else model
            labels.update({(model, row[0], shape): label for shape in shapes})
    return labels


def _column(record: Record, score: Score) -> Column:
    return Column(
        axis=record.axis,
        task=record.task,
        probe=record.probe,
        protocol=record.protocol,
        metric=score.metric,
        num_train=record.num_train + sum(failure.split == "train" for failure in record.failures),
        num_test=score.n + score.failed,
        lists=" ".join(record.digests[key] for key in ("train_list", "test_list") if key in record.digests),
    )


def _column_order(column: Column) -> tuple[Any, ...]:
    names = natural(column.probe), natural(column.task), natural(column.protocol)
    sizes = -column.num_test, -column.num_train
    return _AXES.index(column.axis), *names, column.metric, *sizes, column.lists


def _means(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[GroupMean, ...]:
    """One mean for each axis and probe with two or more tasks that every row has under one protocol."""
    groups: dict[tuple[str, str, str], dict[str, list[Column]]] = defaultdict(lambda: defaultdict(list))
    for column in columns:
        if column.axis:
            groups[column.axis, column.probe, column.metric][column.task].append(column)
    means = []
    for (axis, probe, _), tasks in groups.items():
        # With two protocols of one task there is no telling which of them the mean should hold.
        clear = [own[0] for own in tasks.values() if len(own) == 1]
        common = tuple(column for column in clear if all(column in row.cells for row in rows))
        if len(common) > 1:
            means.append(GroupMean(axis, probe, common))
    return tuple(means)


def _footnotes(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Footnote, ...]:
    """Every distinct note, in reading order."""
    present = {(r, c) for r, row in enumerate(rows) for c, column in enumerate(columns) if column in row.cells}
    places: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for r, c in sorted(present):
        for run in rows[r].cells[columns[c]].runs:
            for text in _notes(run):
                places[text].add((r, c))
    return tuple(Footnote(text, _place(cells, present), frozenset(cells)) for text, cells in places.items())


def _notes(run: Run) -> list[str]:
    record, score = run.record, run.score
    unread = sum(failure.split == "train" for failure in record.failures)
    notes = [f"encoder input {record.input}", *record.notes]
    if score.failed:
        notes.append(f"{score.failed:,} of {score.n + score.failed:,} test samples could not be read")
    if unread:
        notes.append(f"{unread:,} of {record.num_train + unread:,} training samples could not be read")
    return notes


def _place(cells: set[tuple[int, int]], present: set[tuple[int, int]]) -> Place:
    """The fewest marks that say the same: none, whole rows, whole columns, or single scores."""
    if cells == present:
        return "all"
    if cells == {cell for cell in present if cell[0] in {row for row, _ in cells}}:
        return "rows"
    if cells == {cell for cell in present if cell[1] in {column for _, column in cells}}:
        return "columns"
    return "cells"
