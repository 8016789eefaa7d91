"""Motion against appearance: one point a model, intervals both ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from statistics import fmean

from bench.analysis.runs import Evidence
from bench.report.plots.marks import FEW, chance_line, legend_height, model_legend, number_points, reach, seed_dots
from bench.report.plots.models import Comparison, Model, comparisons, count_words, seed_words, sentences
from bench.report.plots.plot import Plot
from bench.report.plots.style import canvas, mark

_AXES = ("motion", "appearance")


@dataclass(frozen=True)
class Side:
    """The tasks of one axis, and the models' means over them."""

    tasks: tuple[Comparison, ...]

    def cells(self, label: str) -> list[Model]:
        """The model of this label in each task."""
        return [model for task in self.tasks for model in task.models if model.label == label]

    def mean(self, label: str) -> float:
        """Unweighted mean over the tasks, 0 to 100."""
        return fmean(model.cell.value for model in self.cells(label))

    def interval(self, label: str) -> tuple[float, float]:
        """95 % interval of the mean of independent tasks, from theirs (Zou and Donner's MOVER, 2008)."""
        cells, mean = [model.cell for model in self.cells(label)], self.mean(label)
        below = sqrt(sum((cell.value - cell.low) ** 2 for cell in cells)) / len(cells)
        above = sqrt(sum((cell.high - cell.value) ** 2 for cell in cells)) / len(cells)
        return mean - below, mean + above

    @property
    def chance(self) -> float | None:
        """Mean score of guessing; None where it is not known for all tasks."""
        known = [task.chance for task in self.tasks if task.chance is not None]
        return fmean(known) if len(known) == len(self.tasks) else None

    @property
    def words(self) -> str:
        """What is measured, for the axis of the plot."""
        axis, names = self.tasks[0].column.axis, ", ".join(task.column.task for task in self.tasks)
        what = names if len(self.tasks) == 1 else f"mean of {len(self.tasks)} tasks"
        return f"{axis}: {what}, {self.tasks[0].metric}"


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each probe and metric, or several where no pair of tasks has been run by all models."""
    found = [one for one in comparisons(evidence) if not one.column.selected_on_test]
    groups = dict.fromkeys((c.column.probe, c.column.metric) for c in found)
    sides = [
        pair for group in groups for pair in _sides([c for c in found if (c.column.probe, c.column.metric) == group])
    ]
    return [_plot(*pair) for pair in sides]


def _sides(found: Sequence[Comparison]) -> Iterator[tuple[Side, Side, list[str]]]:
    """Motion, appearance, and the labels of the models: the pair of tasks that most models share, and all other tasks
    that these models share too; then the same of the models that are left."""
    motion, appearance = ([c for c in found if c.column.axis == axis] for axis in _AXES)
    drawn: set[str] = set()
    while True:
        shared = [_labels(m) & _labels(a) - drawn for m, a in product(motion, appearance)]
        labels = max(shared, key=len, default=set())
        if not labels:
            return
        both = (_first_of_each([c for c in own if labels <= _labels(c)]) for own in (motion, appearance))
        first, second = (Side(tuple(tasks)) for tasks in both)
        yield first, second, sorted(labels)
        drawn |= labels


def _first_of_each(found: Sequence[Comparison]) -> list[Comparison]:
    """One column a task: the first, which has the most samples."""
    return list({c.column.task: c for c in reversed(found)}.values())[::-1]


def _labels(found: Comparison) -> set[str]:
    return {model.label for model in found.models}


def _plot(motion: Side, appearance: Side, labels: Sequence[str]) -> Plot:
    models = sorted((motion.cells(label)[0] for label in labels), key=lambda model: model.number)
    probe = motion.tasks[0].column.probe
    title = f"Motion against appearance, {probe} probe"
    figure = canvas(8.5, max(5.2, legend_height(models)), title, legend=2.5)
    axes = figure.add_subplot()
    for model in models:
        colour, marker = mark(model.number)
        x, y = appearance.mean(model.label), motion.mean(model.label)
        ends = [reach(low, value, high) for value, (low, high) in
                ((x, appearance.interval(model.label)), (y, motion.interval(model.label)))]  # fmt: skip
        axes.errorbar(x, y, xerr=ends[0], yerr=ends[1], color=colour, marker=marker, markersize=6, elinewidth=1,
                      alpha=0.9)  # fmt: skip
        _seeds(axes, motion, appearance, model.label, colour)
    lines = [chance_line(axes, motion.chance), chance_line(axes, appearance.chance, vertical=True)]
    axes.set_xlabel(appearance.words)
    axes.set_ylabel(motion.words)
    axes.grid(visible=True, axis="both")
    axes.margins(0.07)
    model_legend(figure, models, (lines[0] or lines[1], "chance"))
    if len(models) > FEW:
        places = [(appearance.mean(m.label), motion.mean(m.label), str(m.number + 1)) for m in models]
        number_points(axes, places)
    return Plot("scatter", title, _caption(motion, appearance, models), figure)


def _seeds(axes, motion: Side, appearance: Side, label: str, colour: str) -> None:  # type: ignore[no-untyped-def]
    """A dot for each seed that all tasks have."""
    cells = [*motion.cells(label), *appearance.cells(label)]
    scores = [{run.record.seed: run.score.value for run in model.cell.runs} for model in cells]
    seeds = sorted(set.intersection(*(set(own) for own in scores)))
    y = [fmean(own[seed] for own in scores[: len(motion.tasks)]) for seed in seeds]
    x = [fmean(own[seed] for own in scores[len(motion.tasks) :]) for seed in seeds]
    seed_dots(axes, x, y, colour)


def _caption(motion: Side, appearance: Side, models: Sequence[Model]) -> str:
    cells = [cell for side in (motion, appearance) for model in models for cell in side.cells(model.label)]
    tasks = [
        f"{side.tasks[0].column.axis}: "
        + ", ".join(
            f"{task.column.task} ({task.column.protocol}, {count_words([m for m in task.models if m in cells])})"
            for task in side.tasks
        )
        for side in (motion, appearance)
    ]
    several = (
        "; those of a mean take its tasks for independent" if len(motion.tasks) + len(appearance.tasks) > 2 else ""
    )
    return sentences(
        f"{len(models)} models, a mark each, further up is better at motion, further right at appearance",
        *tasks,
        f"Lines through the marks are 95 % intervals for the test samples{several}",
        *seed_words(cells),
        "Dashed: chance" if motion.chance or appearance.chance else "",
    )
