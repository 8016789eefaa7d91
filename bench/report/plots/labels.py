"""Label efficiency: the score of probes that were trained on a part of the training samples."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from bench.analysis.runs import Evidence
from bench.metrics.score import Score
from bench.report.plots.marks import FEW, chance_line, end_labels, legend_height, model_legend, reach, seed_dots
from bench.report.plots.models import INTERVALS, Comparison, Model, of_first_scores, sentences
from bench.report.plots.plot import Plot
from bench.report.plots.style import canvas, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard in which a run has scores with fewer labels."""
    plots = []
    for found in of_first_scores(evidence):
        models = [model for model in found.models if any(run.record.fewer_labels for run in model.runs)]
        if models:
            plots.append(_plot(found, models))
    return plots


def scores_by_share(model: Model) -> dict[float, list[Score]]:
    """The scores of every draw and seed, by the part of the labels that was kept, 1 last."""
    found: dict[float, list[Score]] = {}
    for run in model.runs:
        for part in run.record.fewer_labels:
            found.setdefault(part.share, []).append(part.score)
        found.setdefault(1.0, []).append(run.record.scores[0])
    return dict(sorted(found.items()))


def _plot(found: Comparison, models: Sequence[Model]) -> Plot:
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
