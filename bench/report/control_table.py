"""What `bench run` prints below the leaderboard: controls and fewer labels, one table for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from bench.core.types import FrameOrder
from bench.metrics.score import FewerLabels
from bench.records.naming import identity, labels
from bench.records.schema import Record
from bench.records.summary import summarise

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = dict[str, str]
"""Heading -> cell."""

_OTHER_ORDERS: tuple[FrameOrder, ...] = ("shuffled", "static", "reversed")
_CONTROLS = (
    "a: trained and tested on such clips, what can be read of them. b: trained on ordered clips, what that probe leans "
    "on. Owed to order = (ordered - shuffled a) / (ordered - chance), to motion = (ordered - static a) / (ordered - "
    "chance): in %, with their 95 % intervals; none where the ordered score is too near chance."
)
_LABELS = "Mean over draws of the training samples, its standard deviation, and what is lost against all of them."


def further_tables(records: Sequence[Record]) -> Iterator[RenderableType]:
    """The tables of records that have controls or fewer labels, each with a title, and a legend below."""
    yield from _tables("Frame order", [r for r in records if len(r.controls) > 1], _control_row, _CONTROLS)
    yield from _tables("Fewer labels", [r for r in records if r.fewer_labels], _label_row, _LABELS)


def _tables(
    title: str, records: Sequence[Record], row: Callable[[Record], Row], legend: str
) -> Iterator[RenderableType]:
    from rich.text import Text

    called = labels([summarise(record) for record in records])
    for task in dict.fromkeys(record.task for record in records):
        chosen = [record for record in records if record.task == task]
        yield Text(f"\n{title}: {task}{_chance(chosen)}\n", style="bold")
        yield _table([{**row(record), "model": called[identity(summarise(record))]} for record in chosen])
    if records:
        yield Text(f"\n{legend}", style="dim")


def _table(rows: Sequence[Row]) -> RenderableType:
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


def _control_row(record: Record) -> Row:
    scores = {(control.frames, control.trained_on): control.score for control in record.controls}
    cells = {"model": record.model, "ordered": f"{record.scores[0].value:.1f}"}
    for frames in _OTHER_ORDERS:
        pair = [scores.get((frames, frames)), scores.get((frames, "ordered"))]
        if any(pair):
            cells[f"{frames}\na/b"] = "/".join(f"{score.value:.1f}" if score else "-" for score in pair)
    for share in record.motion_shares:
        value, low, high = (f"{100 * number:.0f}" for number in (share.value, share.low, share.high))
        cells[f"owed to\n{share.without}"] = f"{value} {low}–{high}"
    return cells


def _label_row(record: Record) -> Row:
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
    return cells
