"""The board as one HTML file: no script, nothing fetched, light and dark, every name escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from bench.scores.leaderboard import Leaderboard
from bench.scores.published import Section
from bench.scores.references import HIGH, LOW, WITHIN
from bench.scores.sheet import Entry, PrintedColumn, Sheet, lay_out

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --dim: #5c5c5c; --rule: #c8c8c8; --paper: #fff }
:root { --good: #0a6b2d; --bad: #b00020 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --dim: #a6a6a6; --rule: #484848; --paper: #161616; --good: #6bd48f; --bad: #ff8a94 }
}
body { margin: 1.5rem; font: 15px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1, h2 { font-size: 1.1rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top }
thead th { vertical-align: bottom; font-weight: 600 }
thead tr:last-child th { border-bottom: 1px solid var(--rule) }
tbody th { font-weight: normal; overflow-wrap: anywhere; min-width: 9rem }
tbody tr + tr > * { border-top: 1px solid color-mix(in srgb, var(--rule) 40%, transparent) }
small, dl, p, sup { color: var(--dim); font-weight: normal }
small { white-space: nowrap }
.number { text-align: right; white-space: nowrap }
.good { color: var(--good) } .bad { color: var(--bad) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; font-size: .85rem } dd { margin: 0 }
@media print { body { margin: 0; font-size: 10px } .scroll { overflow: visible } }
""".strip()
_VERDICTS = {WITHIN: "good", LOW: "bad", HIGH: "bad"}


def to_html(board: Leaderboard, sections: Iterable[Section] = ()) -> str:
    """The board as a whole page, with its legend; published scores in tables of their own."""
    sheet = lay_out(board)
    body = [f"<h1>{_text(sheet.title)}</h1>", *(_board(sheet) if sheet.models else ["<p>No scores.</p>"])]
    for title, heading, rows, remark in (table for section in sections for table in section.tables):
        head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heading)
        lines = ["".join(f"<td{_verdict(word)}>{_text(word)}</td>" for word in row) for row in rows]
        body += [f"<h2>{_text(title)}</h2>", *_table([head], lines), f"<p>{_text(remark)}</p>"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(sheet.title)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            *body,
            "</html>",
            "",
        ]
    )


def _text(text: str) -> str:
    """A name as text: no element, attribute or control character can come out of it."""
    return escape("".join(letter if letter.isprintable() else "�" for letter in text))


def _board(sheet: Sheet) -> list[str]:
    groups = [(name, len(list(members))) for name, members in groupby(sheet.columns, key=lambda column: column.group)]
    first = "<td></td>" + "".join(
        f'<th scope="colgroup" colspan="{width}">{_text(name)}</th>' for name, width in groups
    )
    second = '<th scope="col">model</th>' + "".join(map(_heading, sheet.columns))
    rows = [
        f'<th scope="row">{_text(model.value)}{_raised(model.marks)}</th>'
        + "".join(_entry(column.entries[index]) for column in sheet.columns)
        for index, model in enumerate(sheet.models)
    ]
    terms = [*sheet.legend, *sheet.footnotes]
    legend = "".join(f"<dt>{_text(term)}</dt><dd>{_text(meaning)}</dd>" for term, meaning in terms)
    return [*_table([first, second], rows), f"<dl>{legend}</dl>"]


def _table(heads: Sequence[str], rows: Sequence[str]) -> list[str]:
    return [
        '<div class="scroll"><table>',
        *("<thead>", *(f"<tr>{head}</tr>" for head in heads), "</thead>"),
        *("<tbody>", *(f"<tr>{row}</tr>" for row in rows), "</tbody>"),
        "</table></div>",
    ]


def _heading(column: PrintedColumn) -> str:
    name, *rest = column.heading
    lines = "".join(f"<br><small>{_text(line)}</small>" for line in rest)
    return f'<th scope="col"{_numeric(column)}>{_text(name)}{_raised(column.marks)}{lines}</th>'


def _numeric(column: PrintedColumn) -> str:
    return "" if any(entry.interval for entry in column.entries) else ' class="number"'


def _entry(entry: Entry) -> str:
    value = f"<b>{_text(entry.value)}</b>" if entry.best else _text(entry.value)
    beside = " ".join(part for part in (entry.interval, f"#{entry.rank}" if entry.rank else "") if part)
    small = "".join(f"<br><small>{_text(line)}</small>" for line in entry.below)
    kind = "" if entry.interval else ' class="number"'
    return f"<td{kind}>{value}{f' <small>{_text(beside)}</small>' if beside else ''}{_raised(entry.marks)}{small}</td>"


def _verdict(word: str) -> str:
    return f' class="{_VERDICTS[word]}"' if word in _VERDICTS else ""


def _raised(marks: Sequence[int]) -> str:
    return "".join(f" <sup>{mark}</sup>" for mark in marks)
