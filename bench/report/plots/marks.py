"""What several kinds draw: points with intervals, seeds, chance, legends, and labels that stay off each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.plots.style import GREY, INK, fold, mark

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.report.plots.models import Model

FEW = 8
"""Models that colours and markers alone can tell apart; more have numbers too."""
_RINGS = (9, 15, 22, 30, 39, 49, 60)
_ANGLES = np.deg2rad(np.arange(45, 405, 22.5))
_CHARACTER, _LINE = 5.2, 9.5
"""Width and height of a small digit, points."""


def reach(low: float, value: float, high: float) -> list[list[float]]:
    """The two lengths of an error bar."""
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def seed_dots(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """One small open dot for each seed; nothing for one seed."""
    if len(x) > 1:
        axes.scatter(x, y, s=11, facecolors="none", edgecolors=colour, linewidths=0.8, zorder=4)


def chance_line(axes: Axes, value: float | None, *, vertical: bool = False) -> Any:
    """The score of guessing, as a dashed line; None where it is not known."""
    if value is None:
        return None
    draw = axes.axvline if vertical else axes.axhline
    return draw(value, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)


def model_legend(figure: Figure, models: Sequence[Model], *others: tuple[Any, str]) -> None:
    """Names beside the axes, with numbers where there are many; `others` are (artist, words), None left out."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = []
    labels = []
    for model in models:
        colour, marker = mark(model.number)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, linestyle="none"))
        labels.append(fold(f"{model.number + 1}  {model.label}" if len(models) > FEW else model.label))
    for artist, words in others:
        if artist is not None:
            handles.append(artist)
            labels.append(fold(words))
    figure.legend(handles, labels, loc="outside right upper", fontsize=8.5, labelspacing=0.6, handletextpad=0.5)


def legend_height(models: Sequence[Model], others: int = 1) -> float:
    """Inches that the legend of these models takes."""
    lines = sum(1 + fold(model.label).count("\n") for model in models) + 2 * others
    return 0.14 * lines + 0.07 * len(models) + 0.8


def number_points(axes: Axes, places: Sequence[tuple[float, float, str]]) -> None:
    """Write a short text beside each point (x, y, text), off the other points and texts.

    A text that finds its place only further away gets a thin line. Call it when everything else is drawn.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    points = axes.transData.transform([(x, y) for x, y, _ in places]) * scale
    frame = axes.get_window_extent()
    inside = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) * scale
    taken = [np.array([x - 4, y - 4, x + 4, y + 4]) for x, y in points]
    for (x, y, text), at in zip(places, points, strict=True):
        half = np.array([_CHARACTER * len(text) / 2 + 1, _LINE / 2])
        offset = _free(at, half, taken, inside)
        taken.append(np.concatenate([at + offset - half, at + offset + half]))
        far = float(np.hypot(*offset)) > _RINGS[0] + 3
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2} if far else None
        axes.annotate(
            text, (x, y), xytext=tuple(offset), textcoords="offset points", ha="center", va="center", fontsize=7.5,
            color=INK, arrowprops=line, zorder=6,
        )  # fmt: skip


def _free(at: Any, half: Any, taken: Sequence[Any], inside: Any) -> Any:
    """The nearest offset, in points, at which a box of this half size meets nothing; the furthest if there is none."""
    boxes = np.array(taken)
    offset = np.zeros(2)
    for ring in _RINGS:
        for angle in _ANGLES:
            offset = np.array([np.cos(angle), np.sin(angle)]) * ring + np.array(
                [np.sign(np.cos(angle)) * (half[0] - 3), 0]
            )
            low, high = at + offset - half, at + offset + half
            meets = (boxes[:, :2] < high).all(axis=1) & (boxes[:, 2:] > low).all(axis=1)
            if not meets.any() and (low > inside[:2]).all() and (high < inside[2:]).all():
                return offset
    return offset


def end_labels(axes: Axes, ends: Sequence[tuple[float, float, str, str]], spacing: float = 9.0) -> None:
    """Write (x, y, text, colour) at the ends of lines, to the right of the axes, spread so that none covers another."""
    figure: Any = axes.figure
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    ordered = sorted(ends, key=lambda end: end[1])
    heights = [float(axes.transData.transform((x, y))[1]) * scale for x, y, _, _ in ordered]
    spread = _spread(heights, spacing)
    right = float(axes.get_window_extent().x1) * scale
    for (x, y, text, colour), height, place in zip(ordered, heights, spread, strict=True):
        at = float(axes.transData.transform((x, y))[0]) * scale
        axes.annotate(
            text, (x, y), xytext=(right - at + 14, place - height), textcoords="offset points", va="center",
            fontsize=7.5, color=INK, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip


def _spread(heights: Sequence[float], spacing: float) -> list[float]:
    """Heights in their order, moved as little as it takes to be `spacing` apart."""
    groups: list[list[float]] = []  # of each: the sum of its wished-for lowest places, and its size
    for height in heights:
        groups.append([height, 1.0])
        while len(groups) > 1 and _place(groups[-2]) + groups[-2][1] * spacing > _place(groups[-1]):
            total, size = groups.pop()
            groups[-1][0] += total - size * groups[-1][1] * spacing
            groups[-1][1] += size
    return [_place(group) + i * spacing for group in groups for i in range(int(group[1]))]


def _place(group: Sequence[float]) -> float:
    return group[0] / group[1]


def panels(figure: Figure, count: int, columns: int, **options: Any) -> list[Axes]:
    """`count` axes in rows of at most `columns`."""
    width = min(count, columns)
    grid: Any = figure.subplots(-(-count // width), width, squeeze=False, **options)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    return list(grid.flat[:count])
