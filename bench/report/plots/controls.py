"""What is left of a score when frames are shuffled, repeated or reversed, and the share that motion has in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.analysis.runs import Evidence
from bench.records.schema import Record
from bench.report.plots.marks import chance_line, reach, seed_dots
from bench.report.plots.models import INTERVALS, Comparison, Model, of_first_scores, seed_words, sentences
from bench.report.plots.plot import Plot
from bench.report.plots.style import COLOURS, INK, MARKERS, canvas, fold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ORDERS = ("ordered", "reversed", "shuffled", "static")
_SHARES = ("order", "motion")
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


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard in which a run has controls."""
    plots = []
    for found in of_first_scores(evidence):
        models = [model for model in found.models if any(run.record.controls for run in model.runs)]
        if models:
            plots.append(_plot(found, models))
    return plots


def _plot(found: Comparison, models: Sequence[Model]) -> Plot:
    panels = [key for key in _HEADINGS if any(_score(model, order, key) for model in models for order in _ORDERS[1:])]
    shares = any(run.record.motion_shares for model in models for run in model.runs)
    figure = canvas(3.2 + 2.9 * (len(panels) + shares), 2.0 + 0.62 * len(models), f"Frame orders: {found.title}")
    grid: Any = figure.subplots(1, len(panels) + shares, sharey=True, squeeze=False)[0]
    for axes, key in zip(grid, panels, strict=False):
        _panel(axes, models, [(order, _scores(order, key)) for order in _ORDERS], colours=0)
        chance_line(axes, found.chance, vertical=True)
        axes.set_title(_HEADINGS[key], fontsize=9, loc="left")
        axes.set_xlabel(found.metric)
        axes.set_xlim(0, None)
    if shares:
        _panel(grid[-1], models, [(without, _shares(without)) for without in _SHARES], colours=4)
        grid[-1].axvline(0, color=INK, linewidth=0.6)
        grid[-1].set_title("share of the score above chance\nthat is lost without", fontsize=9, loc="left")
        grid[-1].set_xlabel("motion share")
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
        "A motion share is (ordered - control) / (ordered - chance), the control with shuffled frames (without order) "
        "or one frame repeated (without motion)" if shares else "",
    )  # fmt: skip
    return Plot("controls", f"Frame orders: {found.title}", caption, figure)


def _panel(
    axes: Axes, models: Sequence[Model], series: Sequence[tuple[str, Callable[[Model], Mark | None]]], colours: int
) -> None:
    for number, (name, value_of) in enumerate(series):
        colour, marker = COLOURS[(colours + number) % 6], MARKERS[(colours + number) % 5]
        shift = 0.56 * (number / (len(series) - 1) - 0.5)
        label: str | None = name if colours == 0 else f"without {name}"
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


def _shares(without: str) -> Callable[[Model], Mark | None]:
    def of(model: Model) -> Mark | None:
        found = [share for run in model.runs for share in run.record.motion_shares if share.without == without]
        return _mean([(share.value, share.low, share.high) for share in found])

    return of


def _mean(values: Sequence[tuple[float, float, float]]) -> Mark | None:
    """The mean over seeds of (value, low, high): all seeds see the same test samples."""
    if not values:
        return None
    middle, low, high = (fmean(column) for column in zip(*values, strict=True))
    return Mark(middle, low, high, tuple(value for value, _, _ in values))
