"""The board for other programs: Markdown, flat rows, JSON, CSV, and LaTeX as one table in the style of booktabs.

HTML is a template; these are not: jinja2 escapes for HTML alone, its braces are those of LaTeX, and cells that are
joined by separators are shorter as lists.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from bench.analysis.board import Cell, Leaderboard, Row, Run
from bench.analysis.contamination import exposure
from bench.analysis.published import Section
from bench.analysis.sheet import MISSING, Entry, PrintedColumn, Sheet, lay_out
from bench.core.console import csv_cell, json_text, latex, markdown


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
        {**_flat(row.label, run), **_compared(row.cells[column], reference), **_lead(row)}
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
    rows = [{**row, "notes": "; ".join(row["notes"]), **_flat_lead(row["motion_lead"])} for row in to_rows(board)]
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
        "seeds": score.seeds,
        "sampling_se": score.sampling_se,
        "training_sd": score.training_sd,
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


def _lead(row: Row) -> dict[str, Any]:
    """The motion lead of the model, the same in all its rows."""
    return {"motion_lead": asdict(row.motion_lead) if row.motion_lead else None}


def _flat_lead(lead: dict[str, Any] | None) -> dict[str, Any]:
    """The same in cells of a table, under names of their own."""
    found = lead or {}
    parts = {f"motion_lead_{name}": found.get(name) for name in ("low", "high", "reference")}
    return {"motion_lead": found.get("value"), **parts}


def _compared(cell: Cell, reference: str | None) -> dict[str, Any]:
    """What the seeds of a cell have in common: its ranks, and its difference from the reference in points."""
    found = cell.difference
    return {
        "rank": cell.rank,
        "rank_low": cell.rank_low,
        "rank_high": cell.rank_high,
        "reference": reference if found else None,
        "difference": found.value if found else None,
        "difference_low": found.low if found else None,
        "difference_high": found.high if found else None,
    }


def to_latex(board: Leaderboard, sections: Iterable[Section] = ()) -> str:
    """The board as a `table` for a document with booktabs, notes below it; published scores in tables of their own."""
    sheet = lay_out(board)
    if not sheet.models:
        return "% No scores.\n"
    parts = [_latex_board(sheet)]
    for title, heading, rows, remark in (table for section in sections for table in section.tables):
        lines = [_latex_row(map(latex, heading)), r"\midrule", *(_latex_row(map(latex, row)) for row in rows)]
        parts.append(_latex_table(title, "l" * len(heading), lines, [latex(remark)]))
    return "% \\usepackage{booktabs}\n" + "\n".join(parts)


def _latex_board(sheet: Sheet) -> str:
    rows = [
        _latex_row(
            [
                latex(model.value) + _raised_in_latex(model.marks),
                *(_latex_entry(column.entries[index]) for column in sheet.columns),
            ]
        )
        for index, model in enumerate(sheet.models)
    ]
    notes = [rf"\textit{{{latex(term)}}}: {latex(meaning)}" for term, meaning in sheet.legend]
    notes += [rf"\textsuperscript{{{number}}} {latex(text)}" for number, text in sheet.footnotes]
    columns = "l" + "".join("l" if any(e.interval for e in column.entries) else "r" for column in sheet.columns)
    return _latex_table(sheet.title, columns, [*_latex_heading(sheet.columns), r"\midrule", *rows], notes)


def _latex_table(title: str, columns: str, lines: Sequence[str], notes: Sequence[str]) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{latex(title)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\medskip\raggedright\footnotesize",
            *(f"{note}\\par" for note in notes),
            r"\end{table}",
            "",
        ]
    )


def _latex_heading(columns: Sequence[PrintedColumn]) -> list[str]:
    """The groups with a rule below each, then the lines of the headings."""
    groups, rules, start = [""], [], 2
    for name, members in groupby(columns, key=lambda column: column.group):
        width = len(list(members))
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{latex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    depth = max(len(column.heading) for column in columns)
    lines = []
    for line in range(depth):
        cells = ["model" if line == depth - 1 else ""]
        for column in columns:
            index = line - depth + len(column.heading)
            text = latex(column.heading[index]) if index >= 0 else ""
            cells.append(text + (_raised_in_latex(column.marks) if index == 0 else ""))
        lines.append(_latex_row(cells))
    return [_latex_row(groups), " ".join(rules), *lines]


def _latex_entry(entry: Entry) -> str:
    if entry.value == MISSING:
        return latex(MISSING)
    value = rf"\textbf{{{latex(entry.value)}}}" if entry.best else latex(entry.value)
    small = [entry.interval, f"#{entry.rank}" if entry.rank else "", *entry.below]
    details = "; ".join(latex(text) for text in small if text)
    return value + (rf" {{\scriptsize {details}}}" if details else "") + _raised_in_latex(entry.marks)


def _raised_in_latex(marks: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, marks))}}}" if marks else ""


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
