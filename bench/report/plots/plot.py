"""One plot, how it looks whatever the user's matplotlib settings, how it becomes a file or a part of a page; and what
several kinds draw: points with intervals, seeds, chance, legends, and labels that stay off each other.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.console import plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.report.plots.models import Model

INK = "#1b1b1d"
"""Text and axes. Nothing else has this colour, so that a page can put its own in its place."""
GREY = "#7a7a7a"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, distinct for colour-blind readers, without black and yellow."""
MARKERS = "os^Dv"
TITLE_ID = "title"
_LEGEND_WIDTH = 26
"""Characters of a line in a legend; what is longer goes on in a second line."""

_STYLE = {
    "text.parse_math": False,  # a task may be called $x$
    "svg.hashsalt": "vjepa-bench",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


@contextmanager
def style(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Draw and save inside this, with `settings` on top: matplotlib makes some texts only when a figure is saved."""
    import matplotlib.style

    with matplotlib.style.context(["default", {**_STYLE, **(settings or {})}]), warnings.catch_warnings():
        # A name in a script that the font lacks shows boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def mark(number: int) -> tuple[str, str]:
    """Colour and marker of the model or task of this number; they repeat after 30."""
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]


def canvas(width: float, height: float, title: str, *, legend: float = 0) -> Figure:
    """An empty figure, in inches, under its title. Whatever is added to it finds its place by itself.

    `legend` is the width that a legend takes beside the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    text = figure.suptitle(fold(title, int((width - legend) * 10), 4), x=0.01, ha="left", fontsize=11)
    text.set_gid(TITLE_ID)
    return figure


def clean(text: str) -> str:
    """Text in one line, without characters that cannot be printed."""
    return plain(" ".join(text.split()))


def fold(name: str, width: int = _LEGEND_WIDTH, lines: int = 3) -> str:
    """A name in lines of at most `width` characters; of one that is too long, the middle is left out.

    Labels that begin with an underscore are left out of legends: theirs begin with a space of no width.
    """
    words = clean(name)
    longest = width * lines - lines
    if len(words) > longest:
        words = f"{words[: longest // 2]}…{words[-(longest // 2) :]}"
    folded = _wrapped(words, width)
    if len(folded) > lines:
        folded = [words[i : i + width] for i in range(0, len(words), width)]
    return "\n".join(folded).replace("_", "\u200b_", 1 if words.startswith("_") else 0)


def _wrapped(words: str, width: int) -> list[str]:
    """Lines that end after a space or another mark where they can."""
    lines = [""]
    for piece in re.findall(r"[^ _/+,:@-]*[ _/+,:@-]*", words):
        if len(lines[-1]) + len(piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return [line.strip() for line in lines]


_SVG, _LINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Plot:
    """A figure with the words that belong to it."""

    name: str
    """A slug, unique within the kind."""
    title: str
    caption: str
    """Plain text: what is seen, of how many samples, with which intervals."""
    figure: Figure

    def svg(self, themed: bool = False) -> str:
        """The figure as SVG, with its caption as the description.

        `themed` is for a page that says title and caption itself: without the title, text as text, text and axes in
        the page's own colour, transparent, and ids that begin with the plot's name, so that many fit in one page.
        """
        if not themed:
            words = {"Date": None, "Title": self.title, "Description": self.caption}
            return _saved(self.figure, "svg", words).decode()
        titles = [(text, text.get_text()) for text in self.figure.texts if text.get_gid() == TITLE_ID]
        for text, _ in titles:
            text.set_text("")
        try:
            silent = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            drawn = _saved(self.figure, "svg", silent, {"svg.fonttype": "none"}, transparent=True)
        finally:
            for text, words_of_title in titles:
                text.set_text(words_of_title)
        return _themed(drawn.decode(), prefix=f"{self.name}-", title=self.title)

    def png(self) -> bytes:
        """The figure as PNG, 150 pixels an inch, with its caption as the description."""
        return _saved(self.figure, "png", {"Software": None, "Title": self.title, "Description": self.caption})


def _saved(
    figure: Figure, kind: str, words: dict[str, str | None], settings: dict[str, Any] | None = None, **options: Any
) -> bytes:
    buffer = io.BytesIO()
    with style(settings):
        figure.savefig(buffer, format=kind, dpi=150, metadata=words, **options)
    return buffer.getvalue()


def _themed(drawn: str, *, prefix: str, title: str) -> str:
    """The drawing as an element of a page: colours and ids are changed in attributes only, never in names."""
    root = ET.fromstring(drawn)  # noqa: S314 - just made here
    for parent in list(root.iter()):
        for child in list(parent):
            # A style sheet inside would hold for the whole page.
            if child.tag == f"{{{_SVG}}}style":
                parent.remove(child)
    for element in root.iter():
        # In a page only the plain name is sure to be a link.
        if link := element.attrib.pop(_LINK, None):
            element.set("href", f"#{prefix}{link[1:]}" if link.startswith("#") else link)
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, prefix + value)
            elif key != "href":
                element.set(key, value.replace("url(#", f"url(#{prefix}").replace(INK, "currentColor"))
    root.set("role", "img")
    root.set("aria-label", title)
    root.set("stroke-linejoin", "round")
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")


FEW = 8
"""Models that colours and markers alone can distinguish; more have numbers too."""
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
