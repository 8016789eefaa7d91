"""Models as points: motion against appearance with intervals both ways, and score against the cost of a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from math import floor, log10, sqrt
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.analysis.motion_lead import UNTRAINED
from bench.analysis.select import Evidence
from bench.core.errors import BenchError
from bench.records.schema import Record
from bench.report.plots.models import INTERVALS, Comparison, Model, comparisons, count_words, seed_words, sentences
from bench.report.plots.plot import (
    FEW,
    GREY,
    Plot,
    canvas,
    chance_line,
    legend_height,
    mark,
    model_legend,
    number_points,
    reach,
    seed_dots,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def draw_scatter(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each probe and metric, or several where no pair of tasks has been run by all models."""
    found = [one for one in comparisons(evidence) if not one.column.selected_on_test]
    groups = dict.fromkeys((c.column.probe, c.column.metric) for c in found)
    sides = [
        pair for group in groups for pair in _sides([c for c in found if (c.column.probe, c.column.metric) == group])
    ]
    return [_motion_plot(*pair) for pair in sides]


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


def _motion_plot(motion: Side, appearance: Side, labels: Sequence[str]) -> Plot:
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
    base = UNTRAINED if UNTRAINED in labels else None
    alike = _equal_lead(axes, appearance.mean(base), motion.mean(base)) if base else None
    axes.set_xlabel(appearance.words)
    axes.set_ylabel(motion.words)
    axes.grid(visible=True, axis="both")
    axes.margins(0.07)
    model_legend(figure, models, (lines[0] or lines[1], "chance"), (alike, f"motion lead of 0 over {base}"))
    if len(models) > FEW:
        places = [(appearance.mean(m.label), motion.mean(m.label), str(m.number + 1)) for m in models]
        number_points(axes, places)
    return Plot("scatter", title, _motion_caption(motion, appearance, models, base), figure)


def _equal_lead(axes: Axes, x: float, y: float) -> Any:
    """A dotted line through the reference: where motion minus appearance is the same as there."""
    return axes.axline((x, y), slope=1, color=GREY, linestyle=":", linewidth=1, zorder=1)


def _seeds(axes, motion: Side, appearance: Side, label: str, colour: str) -> None:  # type: ignore[no-untyped-def]
    """A dot for each seed that all tasks have."""
    cells = [*motion.cells(label), *appearance.cells(label)]
    scores = [{run.record.seed: run.score.value for run in model.cell.runs} for model in cells]
    seeds = sorted(set.intersection(*(set(own) for own in scores)))
    y = [fmean(own[seed] for own in scores[: len(motion.tasks)]) for seed in seeds]
    x = [fmean(own[seed] for own in scores[len(motion.tasks) :]) for seed in seeds]
    seed_dots(axes, x, y, colour)


def _motion_caption(motion: Side, appearance: Side, models: Sequence[Model], base: str | None) -> str:
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
        f"Dotted: motion minus appearance is that of {base}; the height of a mark above it is its motion lead over "
        "these tasks"
        if base
        else "",
    )


@dataclass(frozen=True)
class Point:
    """A model at one budget."""

    model: Model
    flops: float
    """Operations of the encoder for one sample: all its clips and views."""
    clips: int
    """Clips times views of one sample."""


def draw_cost(evidence: Sequence[Evidence]) -> list[Plot]:
    """One plot for each task, metric and recipe; the clip protocols of one are budgets, and stand together."""
    groups: dict[tuple[Any, ...], list[Comparison]] = {}
    for found in comparisons(evidence):
        c = found.column
        recipe, _, clips = c.protocol.partition(" ")  # clips: segments x views, and how they are placed
        key = (c.task, c.metric, c.probe, recipe, clips.partition(" ")[2], c.num_train, c.num_test)
        groups.setdefault(key, []).append(found)
    return [plot for group in groups.values() for plot in _plots(group)]


def sample_flops(record: Record) -> tuple[float, int] | None:
    """Floating-point operations of the encoder for one test sample, and the clips times views that it has.

    0 without a transformer or network; None where the record does not say.
    """
    from bench.encoders.contract import EncoderFacts, InputSpec

    known, clips = record.resolved.get("encoder"), record.resolved.get("test_clips")
    if not isinstance(known, dict) or not isinstance(clips, dict):
        return None
    names = {field.name for field in fields(EncoderFacts)}
    try:
        own = {k: v for k, v in known.items() if k in names}
        facts = EncoderFacts(**{**own, "input_spec": InputSpec(**known["input_spec"])})
        tokens = facts.num_tokens(clips["frames_per_clip"], clips["size"], clips["size"])
        views = int(clips["num_segments"]) * int(clips["views"])
        flops = facts.flops(tokens)
    except (BenchError, KeyError, TypeError, ValueError):  # edited, or of an encoder that is no longer known
        return None
    # Records of before it was measured for networks that are no plain transformer.
    unknown = flops == 0 and facts.architecture.get("kind") != "pixels"
    return None if unknown else (flops * views, views)


def _plots(group: Sequence[Comparison]) -> list[Plot]:
    points, unknown = [], []
    for model in (model for found in group for model in found.models):
        found = sample_flops(model.runs[0].record)
        if found is None:
            unknown.append(model.label)
        else:
            points.append(Point(model, *found))
    if not any(point.flops for point in points):
        return []
    return [_cost_plot(group[0], points, unknown)]


def _cost_plot(found: Comparison, points: Sequence[Point], unknown: Sequence[str]) -> Plot:
    title = f"Score against encoder operations: {found.column.task}, {found.column.probe} probe"
    lines: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.flops):
        record = point.model.runs[0].record
        lines.setdefault((record.model, record.digests.get("encoder", "")), []).append(point)
    models = [_named(line, lines) for line in sorted(lines.values(), key=lambda line: line[0].model.number)]
    figure = canvas(8.5, max(4.8, legend_height(models)), title, legend=2.5)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    zero = 10.0 ** floor(log10(min(point.flops for point in points if point.flops)) - 0.5)
    places_x = [point.flops or zero for point in points]
    axes.set_xlim(min(places_x) / 2.2, max(places_x) * 2.2)  # one place alone leaves matplotlib without a scale
    for line in lines.values():
        _line(axes, line, zero)
    chance = chance_line(axes, found.chance)
    _ticks(axes, zero if any(point.flops == 0 for point in points) else None)
    axes.set_xlabel("encoder operations for one sample (FLOP)")
    axes.set_ylabel(found.metric)
    axes.set_ylim(0, None)
    axes.grid(visible=True, axis="both")
    model_legend(figure, models, (chance, "chance"))
    if len(models) > FEW:
        places = [(line[-1].flops or zero, line[-1].model.cell.value, str(line[0].model.number + 1))
                  for line in lines.values()]  # fmt: skip
        number_points(axes, places)
    budgets = sorted({point.clips for point in points})
    every = [point.model for point in points]
    caption = sentences(
        f"Task {found.column.task} ({found.column.protocol.partition(' ')[0]}), {count_words(every)}",
        "Operations are multiply-adds x 2 of the encoder's forward passes over all clips and views of one test sample, "
        f"{' or '.join(map(str, budgets))} here",
        "A line joins one encoder at several budgets" if len(lines) < len(points) else "",
        INTERVALS,
        *seed_words(every),
        "Dashed: chance" if chance is not None else "",
        f"Operations of {', '.join(unknown)} are not known" if unknown else "",
    )
    return Plot("cost", title, caption, figure)


def _line(axes: Axes, line: Sequence[Point], zero: float) -> None:
    colour, marker = mark(line[0].model.number)
    x = [point.flops or zero for point in line]
    axes.plot(x, [point.model.cell.value for point in line], color=colour, linewidth=1.2)
    for place, model in zip(x, (point.model for point in line), strict=True):
        cell = model.cell
        axes.errorbar(place, cell.value, yerr=reach(cell.low, cell.value, cell.high), color=colour, marker=marker,
                      markersize=6, elinewidth=1)  # fmt: skip
        seed_dots(axes, [place] * len(model.seeds), model.seeds, colour)


def _ticks(axes: Axes, zero: float | None) -> None:
    """Powers of ten with their prefix; the place of encoders that compute nothing is set apart."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter

    prefixed = EngFormatter(sep=" ")

    def say(value: float, _: int | None = None) -> str:
        if zero is None or value > 2 * zero:
            return prefixed.format_eng(value)
        return "0" if value > zero / 2 else ""

    axes.xaxis.set_major_formatter(FuncFormatter(say))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if zero is not None:
        axes.axvline(zero * 2.2, color=GREY, linewidth=0.8)
        axes.set_xlim(zero / 2.2, None)


def _named(line: Sequence[Point], lines: Mapping[tuple[str, str], Any]) -> Model:
    """The model of a line: without the input that distinguishes its budgets, where one line alone has the name."""
    first, name = line[0].model, line[0].model.runs[0].record.model
    return first if [other for other, _ in lines].count(name) > 1 else replace(first, label=name)
