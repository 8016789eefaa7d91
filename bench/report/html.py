"""The board in HTML: light and dark, every name escaped. As one page without script, or as a part of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.board import Leaderboard
from bench.analysis.published import HIGH, LOW, WITHIN, Section
from bench.analysis.sheet import PrintedColumn, Sheet, lay_out
from bench.core.console import html

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_FOLDER = Path(__file__).parent
_VERDICTS = {WITHIN: "good", LOW: "bad", HIGH: "bad"}


def to_html(board: Leaderboard, sections: Iterable[Section] = ()) -> str:
    """The board as a whole page, with its legend; published scores in tables of their own."""
    sheet = lay_out(board)
    return str(_macros().page(sheet.title, style(), [board_part(sheet), published_part(sections)]))


def board_part(sheet: Sheet, anchors: Sequence[str] = ()) -> Markup:
    """The table of a board and its legend. `anchors`: for each row, the id of what its name leads to, if anything."""
    from markupsafe import Markup

    if not sheet.models:
        return Markup("<p>No scores.</p>")
    groups = [(name, len(list(members))) for name, members in groupby(sheet.columns, key=lambda column: column.group)]
    starts = set(accumulate((width for _, width in groups), initial=0))
    kinds = [_kind(column, place in starts) for place, column in enumerate(sheet.columns)]
    part: Markup = _macros().board(sheet, groups, kinds, anchors).strip()
    return part


def published_part(sections: Iterable[Section]) -> Markup:
    """Published scores, one table for each task, and what was held against them."""
    part: Markup = _macros().published([table for section in sections for table in section.tables], _VERDICTS).strip()
    return part


def style() -> Markup:
    """How a board looks."""
    from markupsafe import Markup

    return Markup((_FOLDER / "board.css").read_text(encoding="utf-8").strip())  # noqa: S704 - ours


def templates(folder: Path, shown: Callable[[str], str]) -> Environment:
    """The templates of a folder: autoescape is on, and `shown` is what becomes of a text before."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def finalize(value: Any) -> Any:
        return shown(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _macros() -> Any:
    from markupsafe import Markup

    return templates(_FOLDER, lambda text: Markup(html(text))).get_template("board.html.jinja").module  # noqa: S704


def _kind(column: PrintedColumn, first: bool) -> str:
    """Where a group of columns begins, and what is set flush right."""
    numeric = not any(entry.interval for entry in column.entries)
    return " ".join([*(["first"] if first else []), *(["number"] if numeric else [])])
