"""What records hold besides their score, in words: frame orders, motion shares, fewer labels. Empty for most runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.records.schema import Record
from bench.report.page.gather import Material
from bench.report.page.grid import Grid, Spot, percent


def findings(material: Material) -> list[Grid]:
    """The tables that the records have something for."""
    labels = {run.record.run_id: row.label for row in material.board.rows for c in row.cells.values() for run in c.runs}
    records = [item.record for item in material.evidence.values()]
    made = [_shares(records, labels), _controls(records, labels), _fewer_labels(records, labels)]
    return [grid for grid in made if grid.rows]


def _shares(records: Iterable[Record], labels: Mapping[str, str]) -> Grid:
    rows = [
        (
            *_run(record, labels),
            Spot(share.without),
            Spot(f"{100 * share.value:.0f} %", share.value, f"{100 * share.low:.0f} to {100 * share.high:.0f}"),
        )
        for record in records
        for share in record.motion_shares
    ]
    remark = "How much of the score above chance is lost without the order of frames, or without motion."
    return Grid("Motion shares", ("model", "task", "seed", "without", "lost"), tuple(rows), remark)


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
