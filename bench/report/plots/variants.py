"""Scores of one encoder under other trainings: frames that are shuffled, repeated or reversed and the share that motion
has in a score, a part of the training samples, and the settings of the probe that were tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.select import Evidence
from bench.metrics.score import LEAST_ABOVE_CHANCE, LOST, Score, is_shown
from bench.records.schema import Head, Record
from bench.report.plots.models import INTERVALS, Comparison, Model, of_first_scores, rest_words, seed_words, sentences
from bench.report.plots.plot import (
    COLOURS,
    FEW,
    GREY,
    INK,
    MARKERS,
    Plot,
    canvas,
    chance_line,
    end_labels,
    fold,
    legend_height,
    mark,
    model_legend,
    panels,
    reach,
    seed_dots,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ORDERS = ("ordered", "reversed", "shuffled", "static")
_HEADINGS = {
    "read": "trained on the same frames:\nwhat can be read of them",
    "leaned": "trained on ordered clips:\nwhat that probe leans on",
}


@dataclass(frozen=True)
class Mark:
    """A value with its interval, and that of each seed."""

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


def draw_controls(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard in which a run has controls."""
    plots = []
    for found in of_first_scores(evidence):
        models = [model for model in found.models if any(run.record.controls for run in model.runs)]
        if models:
            plots.append(_control_plot(found, models))
    return plots


def _control_plot(found: Comparison, models: Sequence[Model]) -> Plot:
    panels = [key for key in _HEADINGS if any(_score(model, order, key) for model in models for order in _ORDERS[1:])]
    shares = any(_shares(without)(model) for model in models for without in LOST)
    lost = any(_lost(order)(model) for model in models for order in _ORDERS[1:])
    width = lost + len(panels) + shares
    figure = canvas(3.2 + 2.9 * width, 2.0 + 0.62 * len(models), f"Frame orders: {found.title}")
    grid: Any = figure.subplots(1, width, sharey=True, squeeze=False)[0]
    if lost:
        _panel(grid[0], models, [(order, _lost(order)) for order in _ORDERS[1:]], colours=1)
        grid[0].axvline(0, color=INK, linewidth=0.6)
        grid[0].set_title("ordered minus, each trained on\nwhat it is tested on", fontsize=9, loc="left")
        grid[0].set_xlabel("points")
    for axes, key in zip(grid[int(lost) :], panels, strict=False):
        _panel(axes, models, [(order, _scores(order, key)) for order in _ORDERS], colours=0)
        chance_line(axes, found.chance, vertical=True)
        axes.set_title(_HEADINGS[key], fontsize=9, loc="left")
        axes.set_xlabel(found.metric)
        axes.set_xlim(0, None)
    if shares:
        _panel(grid[-1], models, [(name, _shares(without)) for without, name in LOST.items()], colours=4)
        grid[-1].axvline(0, color=INK, linewidth=0.6)
        grid[-1].set_title("shares of the score above chance\n(they overlap)", fontsize=9, loc="left")
        grid[-1].set_xlabel("share lost")
    grid[0].set_yticks(range(len(models)), [fold(model.label, 30, 2) for model in models], fontsize=8.5)
    grid[0].set_ylim(len(models) - 0.5, -0.5)
    handles: dict[str, Any] = {}
    for axes in grid:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=9)
    caption = sentences(
        found.facts,
        "Static: the middle frame, repeated. Where static clips score as much as ordered ones, nothing of the score "
        "needs motion",
        INTERVALS,
        *seed_words(models),
        "Dashed: chance" if found.chance is not None else "",
        "A share is (ordered - control) / (ordered - chance), the control with shuffled frames (lost without order) or "
        "one frame repeated (lost with one frame)" if shares else "",
        f"Shares of scores less than {LEAST_ABOVE_CHANCE:g} points above chance say little, and are hidden"
        if any(run.record.motion_shares for model in models for run in model.runs) else "",
    )  # fmt: skip
    return Plot("controls", f"Frame orders: {found.title}", caption, figure)


def _panel(
    axes: Axes, models: Sequence[Model], series: Sequence[tuple[str, Callable[[Model], Mark | None]]], colours: int
) -> None:
    for number, (name, value_of) in enumerate(series):
        colour, marker = COLOURS[(colours + number) % 6], MARKERS[(colours + number) % 5]
        shift = 0.56 * (number / (len(series) - 1) - 0.5)
        label: str | None = name
        for row, model in enumerate(models):
            mark = value_of(model)
            if mark is None:
                continue
            axes.errorbar(mark.value, row + shift, xerr=reach(mark.low, mark.value, mark.high), color=colour,
                          marker=marker, markersize=5, linestyle="none", elinewidth=1.1, label=label)  # fmt: skip
            seed_dots(axes, mark.seeds, [row + shift + 0.09] * len(mark.seeds), colour)
            label = None
    for row in range(1, len(models)):
        axes.axhline(row - 0.5, color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def _scores(order: str, panel: str) -> Callable[[Model], Mark | None]:
    return lambda model: _score(model, order, panel)


def _score(model: Model, order: str, panel: str) -> Mark | None:
    return _mean([(s.value, s.low, s.high) for run in model.runs for s in _controls(run.record, order, panel)])


def _controls(record: Record, order: str, panel: str) -> Iterator[Any]:
    """The score of clips in this order: the run's own where they are ordered."""
    if order == "ordered":
        if record.controls:
            yield record.scores[0]
        return
    trained_on = "ordered" if panel == "leaned" else order
    for control in record.controls:
        if (control.frames, control.trained_on) == (order, trained_on) and control.score.metric == record.scores[
            0
        ].metric:
            yield control.score


def _lost(order: str) -> Callable[[Model], Mark | None]:
    def of(model: Model) -> Mark | None:
        found = [
            control.difference
            for run in model.runs
            for control in run.record.controls
            if control.frames == control.trained_on == order and control.difference
        ]
        return _mean([(lost.value, lost.low, lost.high) for lost in found])

    return of


def _shares(without: str) -> Callable[[Model], Mark | None]:
    def of(model: Model) -> Mark | None:
        found = [share for run in model.runs for share in run.record.motion_shares if share.without == without
                 and is_shown(share, run.record.scores[0].value)]  # fmt: skip
        return _mean([(share.value, share.low, share.high) for share in found])

    return of


def _mean(values: Sequence[tuple[float, float, float]]) -> Mark | None:
    """The mean over seeds of (value, low, high): all seeds see the same test samples."""
    if not values:
        return None
    middle, low, high = (fmean(column) for column in zip(*values, strict=True))
    return Mark(middle, low, high, tuple(value for value, _, _ in values))


def draw_labels(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard in which a run has scores with fewer labels."""
    plots = []
    for found in of_first_scores(evidence):
        models = [model for model in found.models if any(run.record.fewer_labels for run in model.runs)]
        if models:
            plots.append(_label_plot(found, models))
    return plots


def scores_by_share(model: Model) -> dict[float, list[Score]]:
    """The scores of every draw and seed, by the part of the labels that was kept, 1 last."""
    found: dict[float, list[Score]] = {}
    for run in model.runs:
        for part in run.record.fewer_labels:
            found.setdefault(part.share, []).append(part.score)
        found.setdefault(1.0, []).append(run.record.scores[0])
    return dict(sorted(found.items()))


def _label_plot(found: Comparison, models: Sequence[Model]) -> Plot:
    title = f"Fewer labels: {found.title}"
    figure = canvas(8.5, max(4.6, legend_height(models)), title, legend=2.5)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    for place, model in enumerate(models):
        _line(axes, model, _shift(place, models))
    line = chance_line(axes, found.chance)
    _ticks(axes, models)
    axes.set_xlabel("share of the training labels")
    axes.set_ylabel(found.metric)
    axes.set_ylim(0, None)
    model_legend(figure, models, (line, "chance"))
    if len(models) > FEW:
        ends = [
            (_shift(place, models), model.cell.value, str(model.number + 1), mark(model.number)[0])
            for place, model in enumerate(models)
        ]
        end_labels(axes, ends)
    draws = {len(scores) for model in models for share, scores in scores_by_share(model).items() if share < 1}
    caption = sentences(
        found.facts,
        f"Marks are means over {_range(draws)} draws of the labels, the small dots; on the right, all labels",
        INTERVALS,
        "Marks of one share stand side by side so that all can be seen",
        "Dashed: chance" if line is not None else "",
    )
    return Plot("labels", title, caption, figure)


def _shift(place: int, models: Sequence[Model]) -> float:
    """What shares are multiplied by, so that the marks of models stand side by side: at most 6 % up and down."""
    return 1 + min(0.012, 0.12 / len(models)) * (place - (len(models) - 1) / 2)


def _line(axes: Axes, model: Model, shift: float) -> None:
    colour, marker = mark(model.number)
    points = scores_by_share(model)
    x = [share * shift for share in points]
    means = [fmean(score.value for score in scores) for scores in points.values()]
    axes.plot(x, means, color=colour, marker=marker, markersize=5, linewidth=1.2)
    for place, mean, scores in zip(x, means, points.values(), strict=True):
        low, high = fmean(score.low for score in scores), fmean(score.high for score in scores)
        axes.errorbar(place, mean, yerr=reach(low, mean, high), color=colour, elinewidth=1, alpha=0.7)
        seed_dots(axes, [place * 1.02] * len(scores), [score.value for score in scores], colour)


def _ticks(axes: Axes, models: Sequence[Model]) -> None:
    """A tick at each share, with the number of training samples below."""
    from matplotlib.ticker import NullLocator

    counts: dict[float, set[int]] = {}
    for record in (run.record for model in models for run in model.runs):
        counts.setdefault(1.0, set()).add(record.num_train)
        for part in record.fewer_labels:
            counts.setdefault(part.share, set()).add(part.num_train)
    shares = sorted(counts)
    axes.set_xticks(shares, [f"{100 * share:g} %\n({_range(counts[share])})" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())


def _range(counts: set[int]) -> str:
    return f"{min(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}"


_COLUMNS, _MOST_MODELS = 4, 12


def draw_sweep(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard in which a run chose between settings."""
    plots = []
    for found in of_first_scores(evidence):
        models = [model for model in found.models if len(_tried(model)) > 1]
        if models:
            plots.append(_sweep_plot(found, models[:_MOST_MODELS], len(models)))
    return plots


def _tried(model: Model) -> list[Head]:
    """The settings of the first seed that have an accuracy to be chosen by, or diverged on the way to one."""
    heads = model.runs[0].record.heads
    if all(head.accuracy is None for head in heads):
        return []
    return [head for head in heads if head.accuracy is not None or head.diverged]


def _sweep_plot(found: Comparison, models: Sequence[Model], num_models: int) -> Plot:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = [h.accuracy for m in models for h in _tried(m) if h.accuracy is not None]
    colours = ScalarMappable(Normalize(min(known), max(max(known), min(known) + 1e-6)), "cividis")
    title = f"Probe settings: {found.title}"
    columns = min(_COLUMNS, len(models))
    rows = -(-len(models) // columns)
    figure = canvas(1.4 + 2.7 * max(columns, 2), 1.2 + 2.3 * rows, title)
    grid = panels(figure, len(models), columns)
    for axes, model in zip(grid, models, strict=True):
        _sweep_panel(axes, model, colours)
    on_test = models[0].runs[0].record.selected_on_test
    label = "test accuracy (%)" if on_test else "held-out accuracy (%)"
    bar = figure.colorbar(colours, ax=grid, label=label, shrink=min(0.9, 1.6 / rows), anchor=(0, 1))
    bar.outline.set_visible(False)
    seeds = [f"{model.label} seed {model.runs[0].record.seed}" for model in models if len(model.runs) > 1]
    caption = sentences(
        f"Task {found.column.task} ({found.column.protocol})",
        "Accuracy on the test split itself, which the settings are chosen by: the best of them is optimistic"
        if on_test
        else "Accuracy on held-out training samples, which the settings are chosen by: no test sample is in it",
        "Framed: chosen. Hatched: diverged",
        f"Of several seeds the first is shown: {', '.join(seeds)}" if seeds else "",
        rest_words(len(models), num_models),
    )
    return Plot("sweep", title, caption, figure)


def _sweep_panel(axes: Axes, model: Model, colours: Any) -> None:
    from matplotlib.patches import Rectangle

    heads = _tried(model)
    by_neighbours = all(head.lr is None for head in heads)
    across = sorted({_across(head, by_neighbours) for head in heads})
    up = sorted({head.weight_decay or 0.0 for head in heads})
    for head in heads:
        column, row = across.index(_across(head, by_neighbours)), up.index(head.weight_decay or 0.0)
        value = None if head.diverged else head.accuracy
        face = colours.to_rgba(value) if value is not None else "none"
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor=GREY,
                                 linewidth=0.3, hatch=None if value is not None else "////"))  # fmt: skip
        if value is not None:
            light = np.dot(face[:3], (0.299, 0.587, 0.114)) > 0.5
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6.5,
                      color="#000000" if light else "#ffffff")  # fmt: skip
        if head.chosen:
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, facecolor="none", edgecolor=COLOURS[1],
                                     linewidth=2.2, zorder=3))  # fmt: skip
    axes.set_xlim(-0.5, len(across) - 0.5)
    axes.set_ylim(-0.5, len(up) - 0.5)
    axes.set_xticks(range(len(across)), [_tick(value, across) for value in across], fontsize=7)
    axes.set_yticks(range(len(up)), [f"{value:g}" for value in up] if len(up) > 1 else [""], fontsize=7)
    axes.set_xlabel("neighbours" if by_neighbours else "learning rate", fontsize=8)
    axes.set_ylabel("weight decay" if len(up) > 1 else "", fontsize=8)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_title(fold(model.label, 30, 2), fontsize=8.5, color=INK)


def _across(head: Head, by_neighbours: bool) -> tuple[float, float]:
    """Where a setting stands: its learning rate or neighbours, then the epochs of its warm-up where it has its own."""
    return float((head.neighbours if by_neighbours else head.lr) or 0), head.warmup_epochs or 0.0


def _tick(value: tuple[float, float], across: Sequence[tuple[float, float]]) -> str:
    warm = any(warmup for _, warmup in across)
    return f"{value[0]:g}\nwarm-up {value[1]:g}" if warm else f"{value[0]:g}"
