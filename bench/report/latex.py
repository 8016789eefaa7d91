"""The board as LaTeX: one table in the style of booktabs, every name escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from bench.analysis.leaderboard import Leaderboard
from bench.analysis.published import Section
from bench.analysis.sheet import MISSING, Entry, PrintedColumn, Sheet, lay_out
from bench.core.escape import latex


def to_latex(board: Leaderboard, sections: Iterable[Section] = ()) -> str:
    """The board as a `table` for a document with booktabs, notes below it; published scores in tables of their own."""
    sheet = lay_out(board)
    if not sheet.models:
        return "% No scores.\n"
    parts = [_board(sheet)]
    for title, heading, rows, remark in (table for section in sections for table in section.tables):
        lines = [_row(map(latex, heading)), r"\midrule", *(_row(map(latex, row)) for row in rows)]
        parts.append(_table(title, "l" * len(heading), lines, [latex(remark)]))
    return "% \\usepackage{booktabs}\n" + "\n".join(parts)


def _board(sheet: Sheet) -> str:
    rows = [
        _row([latex(model.value) + _raised(model.marks), *(_entry(column.entries[index]) for column in sheet.columns)])
        for index, model in enumerate(sheet.models)
    ]
    notes = [rf"\textit{{{latex(term)}}}: {latex(meaning)}" for term, meaning in sheet.legend]
    notes += [rf"\textsuperscript{{{number}}} {latex(text)}" for number, text in sheet.footnotes]
    columns = "l" + "".join("l" if any(e.interval for e in column.entries) else "r" for column in sheet.columns)
    return _table(sheet.title, columns, [*_heading(sheet.columns), r"\midrule", *rows], notes)


def _table(title: str, columns: str, lines: Sequence[str], notes: Sequence[str]) -> str:
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


def _heading(columns: Sequence[PrintedColumn]) -> list[str]:
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
            cells.append(text + (_raised(column.marks) if index == 0 else ""))
        lines.append(_row(cells))
    return [_row(groups), " ".join(rules), *lines]


def _entry(entry: Entry) -> str:
    if entry.value == MISSING:
        return latex(MISSING)
    value = rf"\textbf{{{latex(entry.value)}}}" if entry.best else latex(entry.value)
    small = [entry.interval, f"#{entry.rank}" if entry.rank else "", *entry.below]
    details = "; ".join(latex(text) for text in small if text)
    return value + (rf" {{\scriptsize {details}}}" if details else "") + _raised(entry.marks)


def _raised(marks: Sequence[int]) -> str:
    return rf"\textsuperscript{{{','.join(map(str, marks))}}}" if marks else ""


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
