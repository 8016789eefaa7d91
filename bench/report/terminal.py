"""Scores as tables for the terminal: the board, published scores, controls and fewer labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import mean, stdev
from typing import TYPE_CHECKING

from bench.analysis.board import Difference, Leaderboard
from bench.analysis.published import HIGH, LOW, WITHIN, Section
from bench.analysis.sheet import Entry, PrintedColumn, Sheet, lay_out, points
from bench.core.console import plain
from bench.core.types import FrameOrder
from bench.metrics.score import LEAST_ABOVE_CHANCE, LOST, Control, FewerLabels, is_shown
from bench.records.schema import Record
from bench.records.summary import identity, labels, summarise

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType
    from rich.table import Table
    from rich.text import Text

_COLOURS = {
    "Motion": "cyan",
    "Appearance": "magenta",
    "Anticipation": "yellow",
    "No axis": "blue",
    "Lead": "green",
    "Cost": "dim",
}
_VERDICTS = {WITHIN: "green", LOW: "red", HIGH: "red"}
_NUMBERS = ("top-1", "measured", "difference")
_GAP = 3
"""Spaces between two columns."""
_MAX_HEADING = 18
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class BoardView:
    """A sheet for the terminal: as many tables below each other as the width asks for, then the legend."""

    sheet: Sheet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What rich calls to print it."""
        from rich.cells import cell_len
        from rich.text import Text

        if not self.sheet.models:
            yield Text("No scores.")
            return
        models = [plain(entry.value) + superscript(entry.marks) for entry in self.sheet.models]
        model_width = min(max(map(cell_len, ["model", *models])), max(16, options.max_width // 4))
        models = [_broken(model, model_width) for model in models]
        yield Text(self.sheet.title, style="bold")
        for block in _blocks([_Printed(column) for column in self.sheet.columns], options.max_width - model_width):
            yield Text()
            yield _table(models, model_width, block)
        yield Text()
        yield definitions([*self.sheet.legend, *self.sheet.footnotes])


def to_rich(board: Leaderboard) -> BoardView:
    """The board as something that a rich console prints at its own width."""
    return BoardView(lay_out(board))


def published_to_rich(sections: Iterable[Section]) -> Group:
    """Published scores, one table for each task, and what was held against them, in green and red."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for title, heading, rows, remark in (table for section in sections for table in section.tables):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
        for name in heading:
            folds = name in ("model", "source")
            justify: JustifyMethod = "right" if name in _NUMBERS else "left"
            table.add_column(Text(name), overflow="fold", no_wrap=not folds, justify=justify)
        for words in rows:
            table.add_row(*(Text(plain(word), style=_VERDICTS.get(word, "")) for word in words))
        parts += [Text(title, style="bold"), Text(), table, Text(), Text(remark, style="dim"), Text()]
    return Group(*parts)


def definitions(pairs: Iterable[tuple[str, str]]) -> Table:
    """Terms and their meanings, dim, with a hanging indent."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim", justify="right")
    grid.add_column(style="dim", overflow="fold")
    for term, meaning in pairs:
        grid.add_row(Text(term), Text(plain(meaning)))
    return grid


def superscript(marks: Iterable[int]) -> str:
    """Footnote numbers, raised, each after a space."""
    return "".join(f" {mark}" for mark in marks).translate(_SUPERSCRIPTS)


def _broken(name: str, width: int) -> str:
    """A long name with line breaks after its own separators, where they help."""
    lines = [""]
    for piece in re.findall(r"[^/._ -]*[/._ -]*", name):
        if len(lines[-1]) + len(piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


class _Printed:
    """A column with its texts and the width they need."""

    def __init__(self, column: PrintedColumn) -> None:
        self.group, self.probe = column.group, column.probe
        self.numeric = not any(entry.interval for entry in column.entries)
        self.heading = [plain(line) for line in column.heading]
        self.heading[0] += superscript(column.marks)
        value_width = max(len(entry.value) for entry in column.entries)
        self.texts = [_text(entry, value_width) for entry in column.entries]
        needed = max(len(line) for text in self.texts for line in text.plain.split("\n"))
        self.width = max(needed, min(max(map(len, [self.group, *self.heading])), _MAX_HEADING))
        self.heading = [_broken(line, self.width) for line in self.heading]
        self.depth = sum(line.count("\n") + 1 for line in self.heading)


def _text(entry: Entry, value_width: int) -> Text:
    from rich.text import Text

    text = Text(f"{entry.value:>{value_width}}", style="bold" if entry.best else "")
    text.append(f" {entry.interval}" if entry.interval else "", style="not bold dim")
    text.append(f" #{entry.rank}" if entry.rank else "", style="not bold")
    text.append(superscript(entry.marks), style="not bold")
    for line in entry.below:
        text.append(f"\n{line}", style="not bold dim")
    return text


def _blocks(columns: list[_Printed], room: int) -> list[list[_Printed]]:
    """Columns cut into tables that fit the room: between groups, else between probes, else anywhere."""
    blocks: list[list[_Printed]] = [[]]
    left = room

    def make_room(members: list[_Printed]) -> None:
        nonlocal left
        needed = sum(column.width + _GAP for column in members)
        if left < needed and (needed <= room or len(members) == 1) and blocks[-1]:
            blocks.append([])
            left = room

    for _, group in groupby(columns, key=lambda column: column.group):
        members = list(group)
        make_room(members)
        for _, same_probe in groupby(members, key=lambda column: column.probe):
            part = list(same_probe)
            make_room(part)
            for column in part:
                make_room([column])
                blocks[-1].append(column)
                left -= column.width + _GAP
    return blocks


def _table(models: list[str], model_width: int, columns: list[_Printed]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    table.add_column(Text("model"), width=model_width, overflow="fold", vertical="top")
    depth = max(column.depth for column in columns)
    group = ""
    for column in columns:
        heading = Text(column.group if column.group != group else "", style=f"bold {_COLOURS[column.group]}")
        group = column.group
        heading.append("\n" * (1 + depth - column.depth) + column.heading[0], style="not dim bold default")
        heading.append("".join(f"\n{line}" for line in column.heading[1:]), style="not bold dim default")
        table.add_column(
            heading,
            width=column.width,
            overflow="fold",
            justify="right" if column.numeric else "left",
        )
    for index, model in enumerate(models):
        table.add_row(Text(model), *(column.texts[index] for column in columns))
    return table


_Cells = dict[str, str]
"""Heading -> cell."""

_OTHER_ORDERS: tuple[FrameOrder, ...] = ("shuffled", "static", "reversed")
_LOST = (
    "Points that are lost against ordered clips, with the 95 % interval of paired samples. a: trained and tested on "
    "such clips, what can be read of them. b: trained on ordered clips, what that probe leans on."
)
_CONTROLS = (
    "a and b as above. Lost without order = (ordered - shuffled a) / (ordered - chance), lost with one frame = "
    "(ordered - static a) / (ordered - chance): in %, with 95 % intervals. "
    f"Hidden (-) where ordered is less than {LEAST_ABOVE_CHANCE:g} points above chance: shares of so little say little."
)
_LABELS = "Mean over draws of the training samples, its standard deviation, and what is lost against all of them."


def further_tables(records: Sequence[Record]) -> Iterator[RenderableType]:
    """The tables of records that have controls or fewer labels, each with a title, and a legend below."""
    controlled = [record for record in records if len(record.controls) > 1]
    yield from _further_tables("Ordered minus other frame orders", controlled, _lost_rows, _LOST)
    yield from _further_tables("Frame order", controlled, _control_row, _CONTROLS)
    yield from _further_tables("Fewer labels", [r for r in records if r.fewer_labels], _label_row, _LABELS)


def _further_tables(
    title: str, records: Sequence[Record], rows: Callable[[Record], list[_Cells]], legend: str
) -> Iterator[RenderableType]:
    from rich.text import Text

    called = labels([summarise(record) for record in records])
    for task in dict.fromkeys(record.task for record in records):
        chosen = [record for record in records if record.task == task]
        yield Text(f"\n{title}: {task}{_chance(chosen)}\n", style="bold")
        yield _further_table(
            [{**row, "model": called[identity(summarise(record))]} for record in chosen for row in rows(record)]
        )
    if records:
        yield Text(f"\n{legend}", style="dim")


def _further_table(rows: Sequence[_Cells]) -> RenderableType:
    """Where it is too wide, the names of models wrap."""
    from rich.table import Table
    from rich.text import Text

    headings = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in headings:
        table.add_column(Text(name), no_wrap=name != "model", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row.get(name, "")) for name in headings))
    return table


def _chance(records: Sequence[Record]) -> str:
    chances = [share.chance for record in records for share in record.motion_shares if share.chance is not None]
    return f", chance {chances[0]:.1f}" if chances else ""


def _lost_rows(record: Record) -> list[_Cells]:
    """A row for the probes of such clips, and one for the probe of ordered ones, where there are any."""
    made = []
    for name, own in (("a", True), ("b", False)):
        cells = {"model": record.model, "": name}
        for frames in _OTHER_ORDERS:
            trained_on = frames if own else "ordered"
            found = [c for c in record.controls if (c.frames, c.trained_on) == (frames, trained_on)]
            cells |= {f"minus\n{frames}": points(_lost(record.scores[0].value, control)) for control in found}
        made += [cells] if len(cells) > 2 else []
    return made


def _control_row(record: Record) -> list[_Cells]:
    controls = {(control.frames, control.trained_on): control for control in record.controls}
    ordered = record.scores[0].value
    cells = {"model": record.model, "ordered": f"{ordered:.1f}"}
    for frames in _OTHER_ORDERS:
        pair = [controls.get((frames, frames)), controls.get((frames, "ordered"))]
        if any(pair):
            cells[f"{frames}\na/b"] = "/".join(f"{control.score.value:.1f}" if control else "-" for control in pair)
    for share in record.motion_shares:
        value, low, high = (f"{100 * number:.0f}" for number in (share.value, share.low, share.high))
        shown = is_shown(share, ordered)
        cells["\n".join(LOST[share.without].rsplit(" ", 1)).replace(" ", "\n", 1)] = (
            f"{value} {low}–{high}" if shown else "-"
        )
    return [cells]


def _lost(ordered: float, control: Control) -> Difference:
    """Ordered minus this one; without an interval in records that have none."""
    found = control.difference
    return Difference(found.value, found.low, found.high) if found else Difference(ordered - control.score.value)


def _label_row(record: Record) -> list[_Cells]:
    whole = record.scores[0].value
    cells = {"model": record.model, f"all\n{record.num_train}": f"{whole:.1f}"}
    parts: dict[float, list[FewerLabels]] = {}
    for part in record.fewer_labels:
        parts.setdefault(part.share, []).append(part)
    for share, draws in parts.items():
        values = [draw.score.value for draw in draws]
        spread = f" ±{stdev(values):.1f}" if len(values) > 1 else ""
        lost = f"{mean(values) - whole:+.1f}"
        cells[f"{100 * share:g}%\n{draws[0].num_train}"] = f"{mean(values):.1f}{spread} ({lost})"
    return [cells]
