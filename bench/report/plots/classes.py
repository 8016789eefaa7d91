"""The score of each class: the accuracy on its samples, or what a metric says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from bench.analysis.runs import Evidence
from bench.analysis.sheet import METRIC_NAMES
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import wilson_interval
from bench.report.plots.marks import FEW, model_legend, reach, seed_dots
from bench.report.plots.models import Comparison, Model, answered, of_first_scores, rest_words, seed_words, sentences
from bench.report.plots.plot import Plot
from bench.report.plots.style import GREY, INK, canvas, fold, mark

_MOST_MODELS, _MOST_CLASSES = 5, 30

Mark = tuple[float, float, float, tuple[float, ...]]
"""Value and the ends of its interval, 0 to 100, and the value of each seed."""


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard and for each breakdown of its scores, with its best models."""
    plots = []
    for found in of_first_scores(evidence):
        broken = list(_breakdowns(found))
        for metric, by in broken:
            plots += _of_breakdown(found, metric, by)
        if not any(by == "class" for _, by in broken):
            shown, remarks = answered(found, _MOST_MODELS)
            if shown:
                names = found.models[0].runs[0].record.class_names
                made = [(model, _accuracies(answers, names)) for model, answers in shown]
                words = "accuracy on the samples of a class (%)"
                intervals = "Lines through the marks are 95 % intervals for the samples of the class (Wilson)"
                plots += _plot(found, made, words, [intervals, *seed_words([m for m, _ in made]), *remarks])
    return plots


def _accuracies(answers: Sequence[ClassAnswers], names: Sequence[str]) -> dict[str, Mark]:
    """The accuracy on each class that has samples."""
    found = {}
    for label, name in enumerate(names):
        hits = [run.hits[run.labels == label] for run in answers]
        if all(len(own) for own in hits):
            ends = [wilson_interval(int(own.sum()), len(own)) for own in hits]
            seeds = tuple(100 * float(own.mean()) for own in hits)
            low, high = (100 * float(end) for end in np.mean(ends, axis=0))
            found[name] = (fmean(seeds), low, high, seeds)
    return found


def _breakdowns(found: Comparison) -> dict[tuple[str, str], None]:
    return {(b.metric, b.by): None for model in found.models for run in model.runs for b in run.record.breakdowns}


def _of_breakdown(found: Comparison, metric: str, by: str) -> list[Plot]:
    made = []
    for model in found.models:
        parts = [b.values for run in model.runs for b in run.record.breakdowns if (b.metric, b.by) == (metric, by)]
        values: dict[str, Mark] = {}
        for name in parts[0] if parts else ():
            seeds = tuple(value for part in parts if (value := part.get(name)) is not None)
            if seeds:
                mean = fmean(seeds)
                values[name] = (mean, mean, mean, seeds)
        if values:
            made.append((model, values))
    shown = made[:_MOST_MODELS]
    remarks = ["These scores have no interval", *seed_words([m for m, _ in shown]), rest_words(len(shown), len(made))]
    return _plot(found, shown, f"{METRIC_NAMES.get(metric, metric)} of each {by} (%)", remarks, by)


def _plot(
    found: Comparison,
    made: Sequence[tuple[Model, Mapping[str, Mark]]],
    words: str,
    remarks: Sequence[str],
    by: str = "class",
) -> list[Plot]:
    names, left_out = _rows([values for _, values in made])
    if not names:
        return []
    title = f"By {by}: {found.title}"
    figure = canvas(8.5, 1.4 + max(0.3, 0.14 + 0.09 * len(made)) * len(names), title, legend=2.5)
    axes = figure.add_subplot()
    for place, (model, values) in enumerate(made):
        colour, marker = mark(model.number)
        shift = 0.0 if len(made) == 1 else 0.6 * (place / (len(made) - 1) - 0.5)
        for row, name in enumerate(names):
            if name in values:
                value, low, high, seeds = values[name]
                axes.errorbar(value, row + shift, xerr=reach(low, value, high), color=colour, marker=marker,
                              markersize=4, elinewidth=0.9, alpha=0.9)  # fmt: skip
                seed_dots(axes, seeds, [row + shift] * len(seeds), colour)
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color=INK, alpha=0.1, linewidth=0.6)
    if left_out:
        axes.axhline(_MOST_CLASSES // 2 - 0.5, color=GREY, linewidth=1.2)
    axes.set_yticks(range(len(names)), [fold(name, 44, 2) for name in names], fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-1, 101)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(words)
    models = [model for model, _ in made]
    model_legend(figure, models[:FEW])
    half = _MOST_CLASSES // 2
    which = f"the {half} highest and the {half} lowest of {len(names) + left_out}" if left_out else "highest first"
    caption = sentences(found.facts, f"Rows are sorted by their mean over the models shown, {which}", *remarks)
    return [Plot("classes", title, caption, figure)]


def _rows(made: Sequence[Mapping[str, Mark]]) -> tuple[list[str], int]:
    """The names to show, highest mean first, and how many of the middle are left out."""
    means = {
        name: fmean(values[name][0] for values in made if name in values)
        for name in dict.fromkeys(name for values in made for name in values)
    }
    ordered = sorted(means, key=lambda name: -means[name])
    if len(ordered) <= _MOST_CLASSES:
        return ordered, 0
    half = _MOST_CLASSES // 2
    return ordered[:half] + ordered[-half:], len(ordered) - 2 * half
