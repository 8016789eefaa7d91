"""How every plot looks, whatever the user's matplotlib settings: colours, marks, the words of names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.core.escape import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1b1b1d"
"""Text and axes. Nothing else has this colour, so that a page can put its own in its place."""
GREY = "#7a7a7a"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which colour-blind readers tell apart, without black and yellow."""
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
