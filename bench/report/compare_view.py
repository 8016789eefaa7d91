"""A comparison in words and tables for the terminal, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.compare import Comparison, Side
from bench.analysis.pairing import ClassChange
from bench.core.console import plain
from bench.metrics.metric import form_of, title_of
from bench.report.terminal import definitions

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

_CLASSES_SHOWN = 12


@dataclass(frozen=True)
class ComparisonView:
    """A comparison as something that a rich console prints at its own width."""

    comparison: Comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What rich calls to print it."""
        from rich.text import Text

        found = self.comparison
        seeds = f", {_seeds(found)}" if _several(found) else ""
        yield Text(plain(f"{found.a.model} (A) against {found.b.model} (B) on {found.task}"), style="bold")
        yield Text(plain(f"{found.protocol}, n = {found.n:,}{seeds}"), style="dim")
        yield Text()
        yield _scores(found)
        yield Text()
        yield Text(plain(found.verdict))
        shown = [c for c in found.classes if c.wins or c.losses or (c.wins is None and c.value_a != c.value_b)]
        if shown:
            yield Text()
            yield _classes(shown[:_CLASSES_SHOWN], several=_several(found))
        if found.changed:
            yield Text()
            yield _samples(found)
        yield Text()
        yield definitions(_legend(found, len(shown)))


def _seeds(found: Comparison) -> str:
    """Which probe seeds both sides have, or each of them."""
    if found.a.seeds == found.b.seeds:
        return f"seeds {_listed(found.a.seeds)}"
    sides = (f"{letter} seed{'s' * (len(side.seeds) > 1)} {_listed(side.seeds)}" for letter, side in _letters(found))
    return "; ".join(sides)


def _several(found: Comparison) -> bool:
    """Whether a side has several probe seeds."""
    return len(found.a.seeds) + len(found.b.seeds) > 2


def _letters(found: Comparison) -> tuple[tuple[str, Side], ...]:
    return ("A", found.a), ("B", found.b)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def points(value: float) -> str:
    """A difference with its sign, such as +1.2; a true minus for people."""
    text = f"{value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def p_text(value: float) -> str:
    """A p value that never pretends to be zero."""
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}" if value < 0.1 else f"p = {value:.2f}"


def _scores(found: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(overflow="fold")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="dim", overflow="fold")
    for letter, side in _letters(found):
        interval = f"{side.low:.1f}–{side.high:.1f}"
        grid.add_row(Text(plain(f"{letter}  {side.model}")), f"{side.value:.1f}", interval, Text(plain(side.input)))
    counts = f"{found.wins:,} times only A right, {found.losses:,} times only B"
    if _several(found):
        counts = f"{found.wins:,} samples more often right in A, {found.losses:,} in B"
    if form_of(found.metric) != "classes":
        units = "samples" if found.clusters == found.n else "videos"
        counts = f"{found.wins:,} of {found.clusters:,} {units} add more to A, {found.losses:,} to B"
    grid.add_row(
        "A − B", points(found.difference), f"{points(found.low)} to {points(found.high)}", p_text(found.p_value)
    )
    grid.add_row("", "", "", counts)
    for more in found.further:
        interval = f"{points(more.low)} to {points(more.high)}"
        grid.add_row(f"{more.metric}, A − B", points(more.difference), interval, p_text(more.p_value))
    return grid


def _classes(shown: Sequence[ClassChange], *, several: bool) -> Table:
    counted = shown[0].wins is not None
    heading = () if not counted else ("more in A", "more in B") if several else ("only A", "only B")
    table = _table(("class", "n", "A", "B", *heading), right=5 if counted else 3)
    for change in shown:
        table.add_row(
            *_texts(
                change.name,
                f"{change.n:,}",
                f"{change.value_a:.1f}",
                f"{change.value_b:.1f}",
                *((f"{change.wins}", f"{change.losses}") if counted else ()),
            )
        )
    return table


def _samples(found: Comparison) -> Table:
    table = _table(("changed most", "label", "A says", "B says"), right=0)
    for change in found.changed:
        table.add_row(
            *_texts(
                change.sample,
                change.label,
                f"{change.predicted_a} {change.probability_a:.2f}",
                f"{change.predicted_b} {change.probability_b:.2f}",
            )
        )
    return table


def _table(heading: Sequence[str], *, right: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(heading):
        table.add_column(name, overflow="fold", justify="right" if index > len(heading) - 1 - right else "left")
    return table


def _texts(*values: str) -> Iterator[RenderableType]:
    from rich.text import Text

    return (Text(plain(value)) for value in values)


def _legend(found: Comparison, num_classes: int) -> Iterator[tuple[str, str]]:
    what = "accuracy" if form_of(found.metric) == "classes" else title_of(found.metric)
    yield "points", f"{what} in %, A minus B; {found.interval}"
    yield "p", f"{found.test} test, two-sided"
    if found.mde is None:
        yield "detectable", f"nothing: {found.n} samples can show no difference at all"
    else:
        yield "detectable", f"true differences of {found.mde:.1f} points or more, in 80 % of such comparisons"
    if num_classes > _CLASSES_SHOWN:
        yield "classes", f"{num_classes - _CLASSES_SHOWN} more in --json"
    for note in found.notes:
        yield "note", note
