"""The settings of the probe that were tried: their accuracy over learning rate and weight decay, a panel a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.runs import Evidence
from bench.records.schema import Head
from bench.report.plots.models import Comparison, Model, of_first_scores, rest_words, sentences
from bench.report.plots.plot import COLOURS, GREY, INK, Plot, canvas, fold, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS, _MOST_MODELS = 4, 12


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard in which a run chose between settings."""
    plots = []
    for found in of_first_scores(evidence):
        models = [model for model in found.models if len(_tried(model)) > 1]
        if models:
            plots.append(_plot(found, models[:_MOST_MODELS], len(models)))
    return plots


def _tried(model: Model) -> list[Head]:
    """The settings of the first seed that have an accuracy to be chosen by, or diverged on the way to one."""
    heads = model.runs[0].record.heads
    if all(head.accuracy is None for head in heads):
        return []
    return [head for head in heads if head.accuracy is not None or head.diverged]


def _plot(found: Comparison, models: Sequence[Model], num_models: int) -> Plot:
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
        _panel(axes, model, colours)
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


def _panel(axes: Axes, model: Model, colours: Any) -> None:
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
