"""Whether probabilities can be believed: accuracy against confidence, and the expected calibration error.

Shapes: n samples, K bins, G groups of samples that are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.analysis.runs import Evidence
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.intervals import Interval, wilson_interval
from bench.report.plots.models import Comparison, answered, of_first_scores, sentences
from bench.report.plots.plot import GREY, Plot, canvas, fold, mark, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.report.plots.models import Model

BINS = 15
_MOST_MODELS = 6
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


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each column of the leaderboard, with the best models whose predictions can be read."""
    plots = []
    for found in of_first_scores(evidence):
        shown, remarks = answered(found, _MOST_MODELS)
        if shown:
            plots.append(_plot(found, shown, remarks))
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


def _plot(found: Comparison, shown: Sequence[tuple[Model, list[ClassAnswers]]], remarks: Sequence[str]) -> Plot:
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
