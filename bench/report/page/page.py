"""The report as one HTML file that asks for nothing: one template, style and script inside, a policy that says so.

Its first lines say what was compared, on how many samples, when, and who leads.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.analysis.board import Column, Leaderboard, Row
from bench.analysis.published import Section
from bench.analysis.sheet import lay_out
from bench.core.console import plain
from bench.report.html import board_part, published_part, style, templates
from bench.report.page.parts import Material, breakdowns, class_tables, column_names, failed_samples, findings
from bench.report.page.pictures import galleries, key_frames
from bench.report.page.runs import runs_of_rows

_LISTED = 8
"""Models named in one line before the rest is counted."""


@dataclass(frozen=True)
class Lead:
    """Who is ahead in one column of the board."""

    axis: str
    column: str
    model: str
    score: str
    remark: str
    """What the ranks say of its lead over the others."""


@dataclass(frozen=True)
class Overview:
    """What a reader wants to know first."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """(name, value)."""
    leads: tuple[Lead, ...]


def overview(material: Material) -> Overview:
    """The headline of a report."""
    board, records = material.board, [item.record for item in material.evidence.values()]
    tasks = {column.task: column.num_test for column in board.columns}
    newest = max(records, key=lambda record: (record.moment, record.run_id))
    oldest = min(records, key=lambda record: (record.moment, record.run_id))
    first, last = f"{oldest.moment:%Y-%m-%d}", f"{newest.moment:%Y-%m-%d}"
    made = f"the last on {last}" if first == last else f"made {first} to {last}"
    unread = sum(len(record.failures) for record in records)
    facts = [
        ("models", _enumerated([row.label for row in board.rows])),
        ("tasks", ", ".join(f"{task} ({num_test:,} test samples)" for task, num_test in tasks.items())),
        ("runs", f"{_count(len(records), 'run')}, {made}"),
        ("failed samples", f"{unread:,}, listed below" if unread else "none"),
    ]
    if board.reference:
        facts.append(("reference", board.reference.label))
    if material.problems:
        facts.append(("left out", f"{_count(len(material.problems), 'record')} that could not be read, named below"))
    title = f"{_count(len(board.rows), 'frozen encoder')} on {_count(len(tasks), 'task')}"
    names = column_names(board.columns)
    leads = [_lead(board, column, names[column]) for column in board.columns if not column.selected_on_test]
    return Overview(title, tuple(facts), tuple(leads))


def _lead(board: Leaderboard, column: Column, name: str) -> Lead:
    rows = sorted((row for row in board.rows if column in row.cells), key=lambda row: -row.cells[column].value)
    best = rows[0].cells[column]
    return Lead(
        axis=column.axis or "",
        column=name,
        model=rows[0].label,
        score=f"{best.value:.1f} % ({best.low:.1f}–{best.high:.1f})",
        remark=_distinction(rows, column),
    )


def _distinction(rows: list[Row], column: Column) -> str:
    """What the ranks say of the first of `rows`, which are sorted by their score."""
    if len(rows) == 1:
        return "the only one"
    first = rows[0].cells[column]
    if first.rank_high is None:
        return f"highest of {len(rows)}, not tested"
    untested = any(row.cells[column].rank_high is None for row in rows)
    equal = first.rank_high - 1
    if not equal:
        return f"ahead of {'all others that could be tested' if untested else 'all others'}"
    # No model is significantly better than one of rank 1, so the first is not told apart from it either.
    named = [row.label for row in rows[1:] if row.cells[column].rank_low == 1]
    return f"not separable from {_enumerated(named) if len(named) == equal else _count(equal, 'other')}"


def _enumerated(names: list[str]) -> str:
    shown = names if len(names) <= _LISTED + 1 else [*names[:_LISTED], f"{len(names) - _LISTED} others"]
    return ", ".join(shown)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_FOLDER = Path(__file__).parent


def to_page(material: Material, sections: Sequence[Section] = (), *, frames: bool = True) -> str:
    """The whole file. The same records give the same text. `sections`: published scores to show below the board;
    `frames`: whether frames of videos go into it."""
    from markupsafe import Markup

    rows = runs_of_rows(material)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    sheet = lay_out(material.board)
    # What is marked as safe here is no part of any record. Control characters of a name, which could hide or reorder
    # what stands around it, are not shown.
    return (
        templates(_FOLDER, partial(plain, lines=True))
        .get_template("page.html.jinja")
        .render(
            policy=_policy(script),
            style=style() + Markup("\n" + (_FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704
            script=Markup(script),  # noqa: S704
            overview=overview(material),
            board=board_part(sheet, [row.anchor for row in rows]),
            published=published_part(sections),
            galleries=galleries(list(material.evidence.values())),
            findings=findings(material),
            classes=[*class_tables(material), *breakdowns(material)],
            key_frames=key_frames(material) if frames else [],
            failed=failed_samples(item.record for item in material.evidence.values()),
            rows=rows,
            problems=[str(problem) for problem in material.problems],
        )
    )


def _policy(script: str) -> str:
    """No request of any kind; no script but ours. Plots carry their style in attributes, pictures in them as data."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = (
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(rules)
