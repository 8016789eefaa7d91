"""Scores of each task as bars, best first, with published scores as marks: on the bar of a model that was measured
under the same protocol, and in rows of their own below otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.analysis.leaderboard import build
from bench.analysis.published import Check, PublishedScore, Section, sections_of
from bench.analysis.select import Evidence
from bench.report.plots.models import INTERVALS, Comparison, comparisons, seed_words, sentences
from bench.report.plots.plot import COLOURS, GREY, INK, Plot, canvas, chance_line, fold, reach, seed_dots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS = {"motion": COLOURS[1], "appearance": COLOURS[0], "anticipation": COLOURS[3], None: COLOURS[2]}
_WIDTH, _LINES = 40, 2
"""Characters and lines of a name."""


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard."""
    board = build([run.record for run in evidence])
    sections = {section.task: section for section in sections_of(board)}
    return [_plot(found, sections.get(found.column.task)) for found in comparisons(evidence)]


def _plot(found: Comparison, section: Section | None) -> Plot:
    checks = [check for check in section.checks if check.probe == found.column.probe] if section else []
    # A score that a bar of its own is held against says no more in a row of its own.
    held = {(check.published, check.source) for check in checks}
    shown = section.shown if section and found.column.metric == section.metric else ()
    published = [score for score in shown if (score.value, score.source) not in held]
    rows = len(found.models) + len(published)
    figure = canvas(8.5, 1.6 + 0.34 * rows, found.title)
    axes = figure.add_subplot()
    _bars(axes, found)
    sources = list(dict.fromkeys([*(check.source for check in checks), *(score.source for score in published)]))
    _checks(axes, found, checks)
    _published(axes, published, len(found.models), sources)
    line = chance_line(axes, found.chance, vertical=True)
    names = [model.label for model in found.models] + [_name(score, sources) for score in published]
    axes.set_yticks(range(rows), [fold(name, _WIDTH, _LINES) for name in names], fontsize=8.5)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, None)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(found.metric)
    numbered = "; ".join(f"[{number}] {source}" for number, source in enumerate(sources, 1))
    caption = sentences(
        found.facts,
        INTERVALS,
        *seed_words(found.models),
        "Dashed: chance" if line is not None else "",
        _check_words(checks, sources),
        "Hollow diamonds are published scores under other protocols: probe depth, views and schedules differ, so a gap "
        "of one to two points says nothing" if published else "",
        f"Sources: {numbered}" if sources else "",
    )  # fmt: skip
    return Plot("bars", found.title, caption, figure)


def _bars(axes: Axes, found: Comparison) -> None:
    for row, model in enumerate(found.models):
        cell = model.cell
        axes.barh(row, cell.value, height=0.66, color=_BARS[found.column.axis], alpha=0.55)
        axes.errorbar(cell.value, row, xerr=reach(cell.low, cell.value, cell.high), color=INK, elinewidth=1.2)
        seed_dots(axes, model.seeds, [row + 0.2] * len(model.seeds), INK)
        _say(axes, row, f"{cell.value:.1f}")


def _checks(axes: Axes, found: Comparison, checks: Sequence[Check]) -> None:
    """The reference of a model under the same protocol, with its tolerance, on the model's bar."""
    rows = {model.label: row for row, model in enumerate(found.models)}
    for check in checks:
        if check.model in rows:
            axes.errorbar(check.published, rows[check.model], xerr=check.tolerance, color=INK, marker="D", markersize=5,
                          capsize=3, elinewidth=0.8, zorder=5)  # fmt: skip


def _published(axes: Axes, published: Sequence[PublishedScore], start: int, sources: Sequence[str]) -> None:
    if not published:
        return
    axes.axhline(start - 0.5, color=GREY, linewidth=0.8)
    rows = range(start, start + len(published))
    values = [score.value for score in published]
    axes.scatter(values, list(rows), marker="D", s=34, facecolors="none", edgecolors=GREY, linewidths=1.4)
    for row, value in zip(rows, values, strict=True):
        _say(axes, row, f"{value:.1f}")


def _say(axes: Axes, row: int, text: str) -> None:
    """A number in a column to the right of the axes."""
    axes.annotate(
        text, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, annotation_clip=False
    )


def _name(score: PublishedScore, sources: Sequence[str]) -> str:
    backbone = f", {score.backbone}" if score.backbone else ""
    return f"{score.model}{backbone}, {score.probe} [{1 + sources.index(score.source)}]"


def _check_words(checks: Sequence[Check], sources: Sequence[str]) -> str:
    if not checks:
        return ""
    said = [
        f"{check.model} {check.published:.1f} ± {check.tolerance:g} [{1 + sources.index(check.source)}]"
        for check in checks
    ]
    return f"Full diamonds are published scores under the same protocol, with the tolerance: {', '.join(said)}"
