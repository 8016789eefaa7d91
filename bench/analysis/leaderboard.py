"""From records to one board: who scored what, on which task, under which protocol.

Two records share a column only where task, metric, probe, protocol and sample lists are equal, and a row only
where model name and weights are. What is read and chosen from results folders is in `choice`, how the board looks in
`sheet` and `tables`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bench.analysis.board import Cell, Column, Difference, Footnote, GroupMean, Leaderboard, Place, Row, Run, best_first
from bench.analysis.contamination import exposure
from bench.analysis.motion_lead import with_leads
from bench.analysis.tested import difference_of, ranks_of
from bench.core.types import AXES
from bench.metrics.score import Score
from bench.records.schema import Record
from bench.records.summary import Summary, identity, labels, natural, of_other_seeds, probe_seeds, summarise

ALPHA = 0.05
"""Chance that any two equal models of a column are told apart."""


def build(records: Sequence[Record]) -> Leaderboard:
    """The board of these records. The same record given twice counts once."""
    return assemble([summarise(record) for record in records])


def assemble(summaries: Sequence[Summary]) -> Leaderboard:
    """The board of shortened records, with ranks as far as they have outcomes. One given twice counts once."""
    current, superseded = newest({(record.run_id, record.moment): record for record in summaries}.values())
    called = labels(current)
    grouped: dict[tuple[str, str], dict[Column, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(current, key=lambda record: record.seed):
        for score in record.scores:
            row = record.model, called[identity(record)]
            grouped[row][_column(record, score)].append(Run(record, score))
    rows = [
        Row(label, {column: Cell(tuple(runs)) for column, runs in cells.items()})
        for (_, label), cells in grouped.items()
    ]
    columns = sorted({column for row in rows for column in row.cells}, key=_column_order)
    fair = [column for column in columns if not column.selected_on_test]
    rows, order = best_first(sorted(rows, key=lambda row: natural(row.label)), fair)
    rows = with_leads(_with_ranks(rows, fair), fair, None)
    return Leaderboard(tuple(columns), tuple(rows), _means(rows, fair), _footnotes(rows, columns), superseded, order)


def reordered(board: Leaderboard, rows: Sequence[Row], order: str) -> Leaderboard:
    """The board with its rows in another order, and a word on that."""
    return replace(board, rows=tuple(rows), footnotes=_footnotes(rows, board.columns), order=order)


def compared(board: Leaderboard, reference: Row) -> Leaderboard:
    """The board with the difference of every score from that of the reference row in its column."""
    rows = []
    for row in board.rows:
        cells = dict(row.cells)
        both = {column for column in row.cells.keys() & reference.cells.keys() if not column.selected_on_test}
        for column in both if row.label != reference.label else ():
            cell, other = row.cells[column], reference.cells[column]
            found = difference_of(column.metric, cell.runs, other.runs)
            made = Difference(*found) if found else Difference(cell.value - other.value)
            cells[column] = replace(cell, difference=made)
        rows.append(replace(row, cells=cells))
    fair = [column for column in board.columns if not column.selected_on_test]
    return replace(board, rows=tuple(with_leads(rows, fair, reference)), reference=reference)


def newest(records: Iterable[Summary]) -> tuple[list[Summary], int]:
    """The newest record of every encoder, task, protocol and seed, and how many others there were.

    Of records that trained a probe of one seed, only one counts: that of more seeds, else the newer one.
    """
    ordered = _by_age(records)
    rows: dict[tuple[Any, ...], dict[int, Summary]] = defaultdict(dict)
    for record in ordered:
        columns = tuple(_column(record, score) for score in record.scores)
        rows[identity(record), columns][record.seed] = record
    kept = [record for seeds in rows.values() for record in of_other_seeds(_by_age(seeds.values()), probe_seeds)]
    return kept, len(ordered) - len(kept)


def _by_age(records: Iterable[Summary]) -> list[Summary]:
    """Oldest first."""
    return sorted(records, key=lambda record: (record.moment, record.run_id))


def _with_ranks(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """The rows with the ranks of every score that a paired test can compare with another, in its own metric."""
    found: dict[tuple[int, Column], tuple[int, int]] = {}
    for column in columns:
        cells = {number: row.cells[column].runs for number, row in enumerate(rows) if column in row.cells}
        found.update({(number, column): ranks for number, ranks in ranks_of(column.metric, cells, ALPHA).items()})

    def ranked(number: int, column: Column, cell: Cell) -> Cell:
        low, high = found.get((number, column), (None, None))
        return replace(cell, rank_low=low, rank_high=high)

    return [
        replace(row, cells={column: ranked(number, column, cell) for column, cell in row.cells.items()})
        for number, row in enumerate(rows)
    ]


def _column(record: Summary, score: Score) -> Column:
    return Column(
        axis=record.axis,
        task=record.task,
        probe=record.probe,
        protocol=record.protocol,
        metric=score.metric,
        num_train=record.num_train + record.num_unread,
        num_test=score.n + score.failed,
        lists=" ".join(record.digests[key] for key in ("train_list", "test_list") if key in record.digests),
        selected_on_test=record.selected_on_test,
    )


def _column_order(column: Column) -> tuple[Any, ...]:
    names = natural(column.probe), natural(column.task), natural(column.protocol)
    sizes = -column.num_test, -column.num_train
    return (*AXES, None).index(column.axis), *names, column.metric, *sizes, column.lists


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
    """What a reader must know of a score."""
    record, score = run.record, run.score
    notes = [f"encoder input {record.input}", *record.notes, *record.doubts]
    if score.failed:
        notes.append(f"{score.failed:,} of {score.n + score.failed:,} test samples could not be read")
    if record.num_unread:
        total = record.num_train + record.num_unread
        notes.append(f"{record.num_unread:,} of {total:,} training samples could not be read")
    if seen := exposure(record):
        notes.append(seen.note)
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
