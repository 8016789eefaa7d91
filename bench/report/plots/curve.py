"""How a score curve looks: one line a task with its interval as a band, chance as a dashed line, the legend outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.analysis.select import Evidence, read_curves
from bench.core.types import AXES
from bench.records.curve import CurvePoint
from bench.report.plots.plot import GREY, Plot, canvas, fold, mark, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each curve that `bench run` left beside these runs, with their tasks and probes."""
    tasks = {run.record.task for run in evidence}
    probes = {run.record.probe for run in evidence}
    first = {run.record.task: run.record for run in evidence}
    chance = {task: 100 / record.num_classes for task, record in first.items() if record.scores[0].metric == "top1"}
    plots = []
    for name, points in read_curves({run.folder.parent: None for run in evidence})[0]:
        series, _, probe = name.rpartition("-") if name.rpartition("-")[2] in probes else (name, "", "")
        own = [point for point in points if point.task in tasks]
        if own and (probe or not any(name.endswith(known) for known in probes)):
            title = f"{series.rpartition('-')[0] or series}, {probe} probe" if probe else name
            plots.append(curve_plot(own, title=title, chance=chance))
    return plots


def curve_pictures(points: Sequence[CurvePoint], title: str, chance: Mapping[str, float]) -> tuple[bytes, bytes]:
    """The curve as SVG and as PNG, as `bench.records.curve` keeps it."""
    plot = curve_plot(points, title=title, chance=chance)
    return plot.svg().encode(), plot.png()


def curve_plot(points: Sequence[CurvePoint], *, title: str, chance: Mapping[str, float]) -> Plot:
    """The curve of some points; `chance` is the score of guessing, 0 to 100, by task.

    Raises ValueError where points can share no axis: some without samples, others without epoch.
    """
    field, label = _x_axis(points)
    order = (*AXES, None)
    tasks = sorted({(point.axis, point.task) for point in points}, key=lambda key: (order.index(key[0]), key[1]))
    with style():
        figure = canvas(8, 4.5, title, legend=2.2)
        axes = figure.add_subplot()
        for number, (_, task) in enumerate(tasks):
            _line(axes, sorted((p for p in points if p.task == task), key=lambda p: getattr(p, field)), field, number)
        _chance_lines(axes, [task for _, task in tasks], chance)
        _finish(axes, points, field, label)
        figure.legend(loc="outside right upper", labelspacing=0.9)
    checkpoints = len({getattr(point, field) for point in points})
    caption = f"Scores of {checkpoints} checkpoints against {label}. Bands are 95 % intervals for the test samples."
    return Plot("curve", title, caption + (" Dashed: chance." if chance else ""), figure)


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
    colour, marker = mark(number)
    task, axis = points[0].task, points[0].axis
    label = fold(task if not axis or axis in task else f"{task} ({axis})", lines=9)
    axes.plot(x, [point.score for point in points], color=colour, marker=marker, markersize=4.5, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.vlines(x, low, high, color=colour, alpha=0.5, linewidth=1)


def _chance_lines(axes: Axes, tasks: Sequence[str], chance: Mapping[str, float]) -> None:
    """One grey line where all tasks share it, else one in the colour of each task."""
    known = {task: chance[task] for task in tasks if task in chance}
    for number, value in enumerate(dict.fromkeys(known.values())):
        shared = [task for task in known if known[task] == value]
        colour = mark(tasks.index(shared[0]))[0] if len(shared) == 1 and len(known) > 1 else GREY
        name = "chance" if len(shared) == len(tasks) else f"chance, {', '.join(shared)}"
        axes.axhline(value, color=colour, linestyle=(2 * number, (4, 3)), linewidth=1, label=fold(name, lines=9))


def _finish(axes: Axes, points: Sequence[CurvePoint], field: str, label: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlabel(label)
    axes.set_ylabel("score (%) and its 95 % interval")
    axes.set_ylim(0, min(101.0, 1.1 * max(5.0, *(point.high for point in points))))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True))
    if field == "samples":
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
