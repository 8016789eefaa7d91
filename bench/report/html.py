"""The board in HTML: light and dark, every name escaped. As one page without script, or as a part of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from bench.analysis.leaderboard import Leaderboard
from bench.analysis.published import Section
from bench.analysis.references import HIGH, LOW, WITHIN
from bench.analysis.sheet import PrintedColumn, Sheet, lay_out
from bench.core.escape import html

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --dim: #5c5c5c; --rule: #c8c8c8; --paper: #fff; --shade: #f4f4f4 }
:root { --good: #0a6b2d; --bad: #b00020; --link: #0b57a4; --edge: #0003 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --dim: #a6a6a6; --rule: #484848; --paper: #161616; --shade: #212121 }
  :root { --good: #6bd48f; --bad: #ff8a94; --link: #8ab8f0; --edge: #fff4 }
}
body { margin: 1.5rem; font: 15px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1, h2 { font-size: 1.1rem }
a { color: var(--link) }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
/* A box that scrolls has a shadow on the side where there is more; covers of paper hide it at the ends. */
.scroll { overflow-x: auto; max-width: 100%; background-repeat: no-repeat; background-color: var(--paper) }
.scroll { background-size: 2.5rem 100%, 2.5rem 100%, .8rem 100%, .8rem 100% }
.scroll { background-attachment: local, local, scroll, scroll; background-position: left, right, left, right }
.scroll { background-image: linear-gradient(to right, var(--paper) 35%, transparent),
    linear-gradient(to left, var(--paper) 35%, transparent), linear-gradient(to right, var(--edge), transparent),
    linear-gradient(to left, var(--edge), transparent) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 3rem) }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top }
thead th { vertical-align: bottom; font-weight: 600 }
thead th[scope=colgroup] { border-bottom: 1px solid var(--rule) }
thead tr:last-child th { border-bottom: 1px solid var(--ink) }
th.first, td.first { padding-left: .9rem }
th:first-child { position: sticky; left: 0; background: var(--paper) }
tbody th { font-weight: normal; overflow-wrap: anywhere; min-width: clamp(8rem, 20vw, 11rem); max-width: 24rem }
tbody tr + tr > * { border-top: 1px solid color-mix(in srgb, var(--rule) 40%, transparent) }
small, dl, p.remark, sup { color: var(--dim); font-weight: normal }
small { white-space: nowrap }
sup { line-height: 0 } sup a { color: inherit }
.number { text-align: right; white-space: nowrap }
.good { color: var(--good) } .bad { color: var(--bad) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem; font-size: .85rem }
dd { margin: 0; overflow-wrap: anywhere }
dt:target, dd:target { color: var(--ink); outline: 1px solid var(--link) }
@media print {
  @page { size: A4 landscape; margin: 12mm }
  :root { color-scheme: light; --ink: #000; --dim: #444; --rule: #bbb; --paper: #fff; --shade: #f4f4f4 }
  :root { --good: #0a6b2d; --bad: #b00020; --link: #000 }
  html { font-size: 9pt } body { margin: 0; font-size: 9pt }
  .scroll { overflow: visible; background: none }
  /* As many columns as there are fit the width of the page. */
  .board { font-size: min(9pt, calc(700pt / (14 + 8 * var(--columns)))) }
  .board th, .board td { padding-right: .6em }
  thead { display: table-header-group } thead, tr, .scroll { break-inside: avoid } th:first-child { position: static }
}
""".strip()
_VERDICTS = {WITHIN: "good", LOW: "bad", HIGH: "bad"}


def to_html(board: Leaderboard, sections: Iterable[Section] = ()) -> str:
    """The board as a whole page, with its legend; published scores in tables of their own."""
    sheet = lay_out(board)
    body = ["<h1>Leaderboard</h1>", board_part(sheet), published_part(sections)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html(sheet.title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            *(part for part in body if part),
            "</html>",
            "",
        ]
    )


def board_part(sheet: Sheet, anchors: Sequence[str] = ()) -> str:
    """The table of a board and its legend. `anchors`: for each row, the id of what its name leads to, if anything."""
    if not sheet.models:
        return "<p>No scores.</p>"
    groups = [(name, len(list(members))) for name, members in groupby(sheet.columns, key=lambda column: column.group)]
    starts = {sum(width for _, width in groups[:index]) for index in range(len(groups))}
    first = "<td></td>" + "".join(
        f'<th scope="colgroup" colspan="{width}" class="first">{html(name)}</th>' for name, width in groups
    )
    second = '<th scope="col"><span class="name">model</span></th>' + "".join(
        _heading(column, index in starts) for index, column in enumerate(sheet.columns)
    )
    rows = []
    for index, model in enumerate(sheet.models):
        name = f'<span class="name">{html(model.value)}</span>'
        name = f'<a href="#{html(anchors[index])}">{name}</a>' if anchors else name
        entries = (_entry(column, index, place in starts) for place, column in enumerate(sheet.columns))
        rows.append(f'<th scope="row">{name}{_raised(model.marks)}</th>{"".join(entries)}')
    legend = "".join(f"<dt>{html(term)}</dt><dd>{html(meaning)}</dd>" for term, meaning in sheet.legend)
    notes = "".join(f'<dt>{html(n)}</dt><dd id="note-{html(n)}">{html(words)}</dd>' for n, words in sheet.footnotes)
    width = f' class="board sortable" style="--columns: {len(sheet.columns)}"'
    return "\n".join([*_table(sheet.title, [first, second], rows, width), f"<dl>{legend}{notes}</dl>"])


def published_part(sections: Iterable[Section]) -> str:
    """Published scores, one table for each task, and what was held against them."""
    parts = []
    for title, heading, rows, remark in (table for section in sections for table in section.tables):
        head = "".join(f'<th scope="col">{html(name)}</th>' for name in heading)
        lines = [
            f'<th scope="row">{html(name)}</th>' + "".join(f"<td{_verdict(word)}>{html(word)}</td>" for word in rest)
            for name, *rest in rows
        ]
        parts += [*_table(title, [head], lines), f'<p class="remark">{html(remark)}</p>']
    return "\n".join(parts)


def _table(caption: str, heads: Sequence[str], rows: Sequence[str], attributes: str = "") -> list[str]:
    """A table in a box of its own, which scrolls where the table is wider than the screen, by keyboard too."""
    return [
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html(caption)}"><table{attributes}>',
        f"<caption><span>{html(caption)}</span></caption>",
        *("<thead>", *(f"<tr>{head}</tr>" for head in heads), "</thead>"),
        *("<tbody>", *(f"<tr>{row}</tr>" for row in rows), "</tbody>"),
        "</table></div>",
    ]


def _heading(column: PrintedColumn, first: bool) -> str:
    name, *rest = column.heading
    lines = "".join(f"<br><small>{html(line)}</small>" for line in rest)
    order = "ascending" if column.group == "Cost" else "descending"
    return (
        f'<th scope="col"{_kind(column, first)} data-first="{order}">'
        f'<span class="name">{html(name)}</span>{_raised(column.marks)}{lines}</th>'
    )


def _entry(column: PrintedColumn, index: int, first: bool) -> str:
    entry = column.entries[index]
    value = f"<b>{html(entry.value)}</b>" if entry.best else html(entry.value)
    beside = " ".join(part for part in (entry.interval, f"#{entry.rank}" if entry.rank else "") if part)
    small = "".join(f"<br><small>{html(line)}</small>" for line in entry.below)
    number = "" if entry.number is None else f"{entry.number:.6g}"
    return (
        f'<td{_kind(column, first)} data-value="{number}">'
        f"{value}{f' <small>{html(beside)}</small>' if beside else ''}{_raised(entry.marks)}{small}</td>"
    )


def _kind(column: PrintedColumn, first: bool) -> str:
    """Where a group of columns begins, and what is set flush right."""
    numeric = not any(entry.interval for entry in column.entries)
    kinds = [*(["first"] if first else []), *(["number"] if numeric else [])]
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _verdict(word: str) -> str:
    return f' class="{_VERDICTS[word]}"' if word in _VERDICTS else ""


def _raised(marks: Sequence[int]) -> str:
    return "".join(f' <sup><a href="#note-{mark}">{mark}</a></sup>' for mark in marks)
