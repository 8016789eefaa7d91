"""How a score curve looks: one line a task with its interval as a band, chance as a dashed line, the legend outside."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.scores.curves import CurvePoint

# Okabe and Ito's colours, which colour-blind readers tell apart, without black and yellow.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "os^Dv"
_GREY = "#666666"
_AXES = ("motion", "appearance", None)
_LEGEND_WIDTH, _TITLE_WIDTH = 26, 60  # characters; what is longer goes on in a second line
_STYLE = {
    "text.parse_math": False,  # a task may be called $x$
    "svg.hashsalt": "vjepa-bench",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
}


def draw(points: Sequence[CurvePoint], *, title: str, chance: Mapping[str, float]) -> tuple[bytes, bytes]:
    """The curve as SVG and PNG, free of dates and of the user's matplotlib settings."""
    import matplotlib.style
    from matplotlib.figure import Figure

    field, label = _x_axis(points)
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # A name in a script that the font lacks shows boxes; the CSV has it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(8, 4.5))
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        axes = figure.add_subplot()
        tasks = sorted({(point.axis, point.task) for point in points}, key=lambda key: (_AXES.index(key[0]), key[1]))
        for number, (_, task) in enumerate(tasks):
            of_task = sorted((p for p in points if p.task == task), key=lambda p: getattr(p, field))
            _line(axes, of_task, field, number)
        _chance_lines(axes, [task for _, task in tasks], chance)
        _finish(axes, points, field, label)
        axes.set_title(textwrap.fill(title, _TITLE_WIDTH), loc="left", fontsize=11)
        figure.legend(loc="outside right upper", labelspacing=0.9)
        return _save(figure, "svg", {"Date": None}), _save(figure, "png", {"Software": None})


def _x_axis(points: Sequence[CurvePoint]) -> tuple[str, str]:
    """The field that places the points, and its name."""
    if points and all(point.samples is not None for point in points):
        return "samples", "samples seen in pretraining"
    if points and all(point.epoch is not None for point in points):
        return "epoch", "epochs of pretraining"
    raise ValueError("a curve needs points that all know their samples, or all their epoch")


def _line(axes: Axes, points: Sequence[CurvePoint], field: str, number: int) -> None:
    x = [getattr(point, field) for point in points]
    low, high = [point.low for point in points], [point.high for point in points]
    colour, marker = _style(number)
    task, axis = points[0].task, points[0].axis
    name = task if not axis or axis in task else f"{task} ({axis})"
    # Labels that begin with an underscore are left out of legends.
    label = textwrap.fill(name, _LEGEND_WIDTH).replace("_", "\u200b_", 1 if name.startswith("_") else 0)
    axes.plot(x, [point.score for point in points], color=colour, marker=marker, markersize=4.5, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1)


def _chance_lines(axes: Axes, tasks: Sequence[str], chance: Mapping[str, float]) -> None:
    """One grey line where all tasks share it, else one in the colour of each task."""
    known = {task: chance[task] for task in tasks if task in chance}
    for number, value in enumerate(dict.fromkeys(known.values())):
        shared = [task for task in known if known[task] == value]
        colour = _style(tasks.index(shared[0]))[0] if len(shared) == 1 and len(known) > 1 else _GREY
        name = "chance" if len(shared) == len(tasks) else f"chance, {', '.join(shared)}"
        label = textwrap.fill(name, _LEGEND_WIDTH)
        axes.axhline(value, color=colour, linestyle=(2 * number, (4, 3)), linewidth=1, label=label)


def _finish(axes: Axes, points: Sequence[CurvePoint], field: str, label: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlabel(label)
    axes.set_ylabel("score (%) and its 95 % interval")
    axes.set_ylim(0, min(101.0, 1.1 * max(5.0, *(point.high for point in points))))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True))
    if field == "samples":
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


def _style(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _save(figure: Any, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
