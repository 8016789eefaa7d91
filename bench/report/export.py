"""The board for other programs: Markdown, flat rows, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from bench.analysis.contamination import exposure
from bench.analysis.leaderboard import Cell, Leaderboard, Run
from bench.analysis.published import Section
from bench.analysis.sheet import Entry, lay_out
from bench.core.escape import csv_cell, json_text, markdown


def to_markdown(board: Leaderboard) -> str:
    """The board as one Markdown table with its legend and footnotes; names stay plain text."""
    sheet = lay_out(board)
    if not sheet.models:
        return "No scores.\n"
    heads = [
        f"{markdown(column.group)}<br>" + "<br>".join(map(markdown, column.heading)) + _raised(column.marks)
        for column in sheet.columns
    ]
    rows = [
        [
            markdown(model.value) + _raised(model.marks),
            *(_written(column.entries[index]) for column in sheet.columns),
        ]
        for index, model in enumerate(sheet.models)
    ]
    legend = [f"- {term}: {markdown(meaning)}" for term, meaning in sheet.legend]
    # Numbered by hand: a Markdown list would renumber itself.
    notes = [f"- <sup>{number}</sup> {markdown(text)}" for number, text in sheet.footnotes]
    table = _markdown_table(["model", *heads], rows)
    return "\n".join([f"**{sheet.title}**", "", *table, "", *legend, *notes, ""])


def published_to_markdown(sections: Iterable[Section]) -> str:
    """Published scores, one table for each task, and what was held against them."""
    lines: list[str] = []
    for section in sections:
        for title, heading, rows, remark in section.tables:
            escaped_rows = [[markdown(part) for part in row] for row in rows]
            lines += [f"**{markdown(title)}**", "", *_markdown_table(heading, escaped_rows), ""]
            lines += [markdown(remark), ""]
    return "\n".join(lines)


def to_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """One flat mapping for each score of the board, every seed apart, in the order of the table."""
    reference = board.reference.label if board.reference else None
    return [
        {**_flat(row.label, run), **_compared(row.cells[column], reference)}
        for row in board.rows
        for column in board.columns
        if column in row.cells
        for run in row.cells[column].runs
    ]


def to_json(board: Leaderboard, sections: Iterable[Section] = ()) -> str:
    """A list of objects, one for each score; published scores follow, which have a `source`."""
    return json_text([*to_rows(board), *_published(sections)])


def _published(sections: Iterable[Section]) -> list[dict[str, Any]]:
    """One flat mapping for each published score that is shown, and for each check of a score of the board."""
    return [
        {"task": section.task, **row}
        for section in sections
        for row in (*map(asdict, section.shown), *({**asdict(check), "ok": check.ok} for check in section.checks))
    ]


def to_csv(board: Leaderboard) -> str:
    """The same fields under a line of headings; the notes of a score are joined by semicolons. No cell is a formula."""
    rows = [{**row, "notes": "; ".join(row["notes"])} for row in to_rows(board)]
    rows = [{name: csv_cell(value) for name, value in row.items()} for row in rows]
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _written(entry: Entry) -> str:
    value = f"**{entry.value}**" if entry.best else entry.value
    # Not #1: in a comment on GitHub that would be a link to issue 1.
    rank = f" rank {entry.rank}" if entry.rank else ""
    return f"{value} {entry.interval}".strip() + rank + _raised(entry.marks) + "".join(f"<br>{t}" for t in entry.below)


def _raised(marks: Sequence[int]) -> str:
    return "".join(f" <sup>{mark}</sup>" for mark in marks)


def _markdown_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _flat(label: str, run: Run) -> dict[str, Any]:
    record, score = run.record, run.score
    seen = exposure(record)
    return {
        "model": record.model,
        "label": label,
        "task": record.task,
        "axis": record.axis,
        "probe": record.probe,
        "protocol": record.protocol,
        "selected_on_test": record.selected_on_test,
        "metric": score.metric,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "interval": score.interval,
        "correct": score.correct,
        "n": score.n,
        "failed": score.failed,
        "seed": record.seed,
        "input": record.input,
        "num_train": record.num_train,
        "encoder_clips": record.cost.encoder_clips,
        "cached_clips": record.cost.cached_clips,
        "seconds": record.cost.total_s,
        "notes": list(record.notes),
        "run_id": record.run_id,
        "created": record.created,
        "encoder_digest": record.digests.get("encoder", ""),
        "coverage": run.coverage,
        "device": record.device,
        "pretrained_on_task": seen.labels if seen else None,
    }


def _compared(cell: Cell, reference: str | None) -> dict[str, Any]:
    """What the seeds of a cell have in common: its rank, and its difference from the reference in points."""
    found = cell.difference
    return {
        "rank": cell.rank,
        "reference": reference if found else None,
        "difference": found.value if found else None,
        "difference_low": found.low if found else None,
        "difference_high": found.high if found else None,
    }
