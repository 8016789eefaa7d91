"""Score against what the encoder computes for one sample; models that were run at several clip budgets are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import floor, log10
from typing import TYPE_CHECKING, Any

from bench.analysis.runs import Evidence
from bench.core.errors import BenchError
from bench.records.schema import Record
from bench.report.plots.marks import FEW, chance_line, legend_height, model_legend, number_points, reach, seed_dots
from bench.report.plots.models import INTERVALS, Comparison, Model, comparisons, count_words, seed_words, sentences
from bench.report.plots.plot import Plot
from bench.report.plots.style import GREY, canvas, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """A model at one budget."""

    model: Model
    flops: float
    """Of the encoder, for one sample: all its clips and views."""
    clips: int
    """Clips times views of one sample."""


def draw(evidence: Sequence[Evidence]) -> list[Plot]:
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
    return [_plot(group[0], points, unknown)]


def _plot(found: Comparison, points: Sequence[Point], unknown: Sequence[str]) -> Plot:
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
    """The model of a line: without the input that tells its budgets apart, where the name is one line's alone."""
    first, name = line[0].model, line[0].model.runs[0].record.model
    return first if [other for other, _ in lines].count(name) > 1 else replace(first, label=name)
