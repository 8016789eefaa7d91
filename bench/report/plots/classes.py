"""What the answers to single samples show: the score of each class, its accuracy or what a metric says of it; which
classes are taken for which; and whether probabilities can be believed, accuracy against confidence.

Shapes of reliability: n samples, K bins, G groups of samples that are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.analysis.select import Evidence
from bench.analysis.sheet import METRIC_NAMES
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import Interval, wilson_interval
from bench.report.plots.models import Comparison, Model, answered, of_first_scores, rest_words, seed_words, sentences
from bench.report.plots.plot import (
    COLOURS,
    FEW,
    GREY,
    INK,
    Plot,
    canvas,
    fold,
    mark,
    model_legend,
    panels,
    reach,
    seed_dots,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.report.plots.models import Model

_MOST_MODELS, _MOST_CLASSES = 5, 30

Mark = tuple[float, float, float, tuple[float, ...]]
"""Value and the ends of its interval, 0 to 100, and the value of each seed."""


def draw_classes(evidence: Sequence[Evidence]) -> list[Plot]:
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


MOST_NAMED = 20
"""Classes of a matrix with names."""
_MOST_NUMBERED = 12
_MOST_MATRICES, _MOST_LARGE = 6, 3
_PAIRS = 12
_BLUE = tuple(int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5))


def draw_confusion(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard, with the best models whose predictions can be read."""
    plots = []
    for found in of_first_scores(evidence):
        classes = found.models[0].runs[0].record.num_classes
        shown, remarks = answered(found, _MOST_MATRICES if classes <= MOST_NAMED else _MOST_LARGE)
        if shown:
            counts = [(model, confusion_counts(answers, classes), len(answers)) for model, answers in shown]
            plots.append((_small if classes <= MOST_NAMED else _large)(found, counts, remarks))
    return plots


def confusion_counts(answers: Sequence[ClassAnswers], classes: int) -> NDArray[np.int64]:
    """[C, C] numbers of samples, true class by predicted class, summed over seeds."""
    counts = np.zeros((classes, classes), np.int64)
    for run in answers:
        np.add.at(counts, (run.labels, run.predicted), 1)
    return counts


def _small(found: Comparison, counts: Sequence[tuple[Model, NDArray[np.int64], int]], remarks: Sequence[str]) -> Plot:
    names = [fold(name, 16, 1) for name in found.models[0].runs[0].record.class_names]
    columns = min(3, len(counts))
    size = 1.1 + 0.24 * len(names) + 0.065 * max(len(name) for name in names)
    title = f"Confusion: {found.title}"
    figure = canvas(max(6, columns * size), 1.0 + (size + 0.2) * -(-len(counts) // columns), title)
    for axes, (model, matrix, _) in zip(panels(figure, len(counts), columns), counts, strict=True):
        shares = _matrix(axes, matrix, gamma=1)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_title(fold(model.label, 34, 2), fontsize=9)
        for (row, column), share in np.ndenumerate(shares) if len(names) <= _MOST_NUMBERED else ():
            if round(100 * share):
                colour = "#ffffff" if share > 0.55 else INK
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
        axes.set_xlabel("predicted", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
    return Plot("confusion", title, _caption(found, counts, remarks, "Numbers are percent of the true class"), figure)


def _large(found: Comparison, counts: Sequence[tuple[Model, NDArray[np.int64], int]], remarks: Sequence[str]) -> Plot:
    names = found.models[0].runs[0].record.class_names
    title = f"Confusion: {found.title}"
    figure = canvas(11.5, 0.8 + 4.6 * len(counts), title)
    grid: Any = figure.subplots(len(counts), 2, squeeze=False, width_ratios=[1.2, 1])
    for (left, right), (model, matrix, seeds) in zip(grid, counts, strict=True):
        _matrix(left, matrix, gamma=0.5)
        left.set_xticks([])
        left.set_yticks([])
        left.set_xlabel(f"predicted: {len(names)} classes", fontsize=8.5)
        left.set_ylabel("true", fontsize=8.5)
        left.set_title(fold(model.label, 50, 2), fontsize=9)
        _pairs(right, matrix, names, seeds)
    what = f"Left, the whole matrix in the order of the labels; right, the {_PAIRS} pairs with most samples"
    return Plot("confusion", title, _caption(found, counts, remarks, what), figure)


def _matrix(axes: Axes, matrix: NDArray[np.int64], gamma: float) -> NDArray[np.float64]:
    """Draw shares of each true class, white where they are 0; returns them, 0 to 1."""
    shares: NDArray[np.float64] = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pixels = np.empty((*shares.shape, 4))
    pixels[..., :3], pixels[..., 3] = _BLUE, shares**gamma
    axes.imshow(pixels, interpolation="none", aspect="equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.4)
    return shares


def most_confused(matrix: NDArray[np.int64], most: int = _PAIRS) -> list[tuple[int, int]]:
    """(true, predicted) of the pairs of different classes with most samples, most first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [divmod(int(place), len(wrong)) for place in order if wrong.flat[place]]


def _pairs(axes: Axes, matrix: NDArray[np.int64], names: Sequence[str], seeds: int) -> None:
    pairs = most_confused(matrix)
    for row, (true, said) in enumerate(pairs):
        n, count = matrix[true].sum() // seeds, matrix[true, said] / seeds
        share = 100 * count / n
        low, high = wilson_interval(round(count), int(n))
        axes.barh(row, share, height=0.62, color=COLOURS[1], alpha=0.6)
        axes.errorbar(share, row, xerr=reach(100 * low, share, 100 * high), color=INK, elinewidth=1)
        axes.annotate(f"{count:.3g} of {n}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)
    labels = [f"{fold(names[true], 56, 1)}\n→ {fold(names[said], 56, 1)}" for true, said in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=7)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.set_xlim(0, None)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("percent of the true class", fontsize=8.5)


def _caption(
    found: Comparison, counts: Sequence[tuple[Model, NDArray[np.int64], int]], remarks: Sequence[str], what: str
) -> str:
    several = any(seeds > 1 for _, _, seeds in counts)
    return sentences(
        found.facts,
        "Rows are true classes, columns what the probe says; the darker, the larger the share of the true class",
        what,
        "Lines are 95 % intervals for the test samples" if len(counts[0][1]) > MOST_NAMED else "",
        "Means over seeds" if several else "",
        *remarks,
    )


BINS = 15
_MOST_CURVES = 6
_DRAWS, _GROUPS_AT_ONCE = 1000, 1 << 22


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy of one run go together; all 0 to 1."""

    confidence: NDArray[np.float64]
    """[K], mean probability of the predicted class in each bin."""
    accuracy: NDArray[np.float64]
    """[K]"""
    counts: NDArray[np.int64]
    """[K], samples; bins of equal mass differ by one at most."""
    error: float
    """Expected calibration error: mean distance of confidence and accuracy over the bins, weighted by samples."""
    interval: Interval
    """95 %: basic bootstrap of samples, or of videos where samples share them."""


def draw_reliability(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard, with the best models whose predictions can be read."""
    plots = []
    for found in of_first_scores(evidence):
        shown, remarks = answered(found, _MOST_CURVES)
        if shown:
            plots.append(_reliability_plot(found, shown, remarks))
    return plots


def calibration(answers: ClassAnswers, bins: int = BINS, draws: int = _DRAWS, seed: int = 0) -> Calibration:
    """Calibration in bins of equal mass, by the probability of the predicted class.

    Gaps of bins are taken by their size, so chance alone makes an error, and resampling makes a larger one. The basic
    interval, mirrored at the estimate, takes that back. It begins at 0 where right probabilities would give as large
    an error in one of twenty test sets (Broecker and Smith's consistency resampling, 2007, of the sums of the bins).
    """
    confidence = answers.probabilities.max(axis=1).astype(np.float64)
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
    member = np.empty(len(confidence), np.int64)
    for number, part in enumerate(parts):
        member[part] = number
    gaps = confidence - answers.hits
    groups = np.arange(len(gaps)) if answers.groups is None else np.unique(answers.groups, return_inverse=True)[1]
    sums = np.zeros((int(groups.max()) + 1, len(parts)))
    np.add.at(sums, (groups, member), gaps)
    sizes = np.bincount(groups)
    error = float(np.abs(sums.sum(axis=0)).sum() / len(gaps))
    resampled = _resampled(sums, sizes, draws, seed)
    high, low = 2 * error - np.quantile(resampled, [0.025, 0.975])
    if error <= _error_of_right_probabilities(confidence, member, draws, seed):
        low = 0.0
    return Calibration(
        confidence=np.array([confidence[part].mean() for part in parts]),
        accuracy=np.array([answers.hits[part].mean() for part in parts]),
        counts=np.array([len(part) for part in parts]),
        error=error,
        interval=Interval(max(0.0, float(low)), max(error, float(high))),
    )


def _error_of_right_probabilities(
    confidence: NDArray[np.float64], member: NDArray[np.int64], draws: int, seed: int
) -> float:
    """The 95 % quantile of the error where every sample is right with the probability that its confidence says."""
    deviations = np.sqrt(np.bincount(member, weights=confidence * (1 - confidence)))
    sums = np.random.RandomState(seed).normal(0, deviations, size=(draws, len(deviations)))
    return float(np.quantile(np.abs(sums).sum(axis=1) / len(confidence), 0.95))


def _resampled(sums: NDArray[np.float64], sizes: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.float64]:
    """Calibration errors of resampled groups; sums of gaps [G, K], sizes [G]."""
    random = np.random.RandomState(seed)
    at_once = max(1, _GROUPS_AT_ONCE // len(sizes))
    errors = []
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        weights = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=rows)
        errors.append(np.abs(weights @ sums).sum(axis=1) / (weights @ sizes))
    return np.concatenate(errors)


def _reliability_plot(
    found: Comparison, shown: Sequence[tuple[Model, list[ClassAnswers]]], remarks: Sequence[str]
) -> Plot:
    title = f"Reliability: {found.title}"
    columns = min(3, len(shown))
    figure = canvas(max(5.5, 3.1 * columns), 0.9 + 3.3 * -(-len(shown) // columns), title)
    grid = panels(figure, len(shown), columns)
    for axes, (model, answers) in zip(grid, shown, strict=True):
        _panel(axes, model, [calibration(run) for run in answers])
    several = any(len(answers) > 1 for _, answers in shown)
    caption = sentences(
        found.facts,
        f"Test samples in {BINS} bins of equal size by the probability of the predicted class; on the dashed line, "
        "probabilities are right, below it the probe is too sure",
        "Lines through the marks are 95 % intervals of the accuracy in a bin (Wilson)",
        "ECE, the expected calibration error, is the mean distance from the line in points, with its 95 % interval "
        "(basic bootstrap, 1000 draws)",
        "Where there are several seeds, marks are the first one, and ECE and both its ends are means over seeds"
        if several else "",
        *remarks,
    )  # fmt: skip
    return Plot("reliability", title, caption, figure)


def _panel(axes: Axes, model: Model, seeds: Sequence[Calibration]) -> None:
    found = seeds[0]
    colour, marker = mark(model.number)
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    ends = np.array([
        wilson_interval(round(n * accuracy), int(n)) for n, accuracy in zip(found.counts, found.accuracy, strict=True)
    ])  # fmt: skip
    below, above = found.accuracy - ends[:, 0], ends[:, 1] - found.accuracy
    axes.errorbar(100 * found.confidence, 100 * found.accuracy, yerr=100 * np.maximum(0, [below, above]), color=colour,
                  marker=marker, markersize=4.5, elinewidth=1, linewidth=1)  # fmt: skip
    error, low, high = (100 * fmean(values) for values in zip(*((s.error, *s.interval) for s in seeds), strict=True))
    axes.set_title(f"{fold(model.label, 32, 2)}\nECE {error:.1f} [{low:.1f}, {high:.1f}]", fontsize=9)
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_aspect("equal")
    axes.grid(visible=True, axis="both")
    axes.set_xlabel("confidence (%)", fontsize=8.5)
    axes.set_ylabel("accuracy (%)", fontsize=8.5)
