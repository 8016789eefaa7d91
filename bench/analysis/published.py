"""Scores that papers and authors print, to stand beside a board but never in it.

`results/published.csv` holds one printed number a line with the table it was read in, and whether it was read there:
`verified` is no of numbers that only notes of others tell. Probes, views and schedules differ between papers, so these
are reference points: a gap of one to two points between labs is normal. A task's card may hold reference scores with a
tolerance; what was measured under their protocol is held against them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bench.analysis.board import Leaderboard
from bench.analysis.references import CHECK_HEADING, Check, reference_checks
from bench.cards.load import load_task, task_names
from bench.core.errors import BenchError
from bench.core.files import content_folder
from bench.core.inputs import PUBLISHED, read_text

PROBES = ("attentive", "attentive-2block", "attentive-4block")
"""Probes of published.csv that are trained on frozen tokens the way the recipes here are."""
_SECOND_HAND = "[secondary"
_STUDIES = ("ablation", "masking=", "recipe:", "(phase")
"""Rows of studies that vary one setting; they say little about the model."""
_SHOWN = 12


@dataclass(frozen=True)
class PublishedScore:
    """One printed number and what is known of how it was measured; empty text where the source is silent."""

    model: str
    backbone: str
    resolution: str
    probe: str
    views: str
    """Frames x temporal clips x spatial crops."""
    value: float
    """In the metric of the task, 0 to 100."""
    source: str

    @property
    def words(self) -> tuple[str, ...]:
        """The fields of a `Section`, in order of its heading, as they are printed."""
        model = f"{self.model}, {self.backbone}" if self.backbone else self.model
        view = self.views or "—"
        return (
            model,
            f"{self.value:.1f}",
            self.probe,
            f"{view} at {self.resolution}" if self.resolution else view,
            self.source,
        )


class _Metric(NamedTuple):
    """How a metric is called in the table, in a title and in a heading, and of which probes it is shown."""

    column: str
    title: str
    heading: str
    probe: str = "attentive probe"
    probes: tuple[str, ...] = PROBES


_METRICS = {
    "top1": _Metric("top1", "top-1 accuracy", "top-1"),
    "action-recall@5": _Metric("recall@5", "class-mean recall at 5 of actions", "recall@5"),
    "mIoU": _Metric("miou", "mean IoU", "mIoU", "linear probe of every token", ("linear-dense",)),
}
"""Of tasks, those that published scores are shown of."""


class Table(NamedTuple):
    """A table in words, for any printer."""

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str


@dataclass(frozen=True)
class Section:
    """The published scores to show for one task."""

    task: str
    shown: tuple[PublishedScore, ...]
    total: int
    """Published scores of the task under the probes of this module."""
    checks: tuple[Check, ...] = ()
    """Scores of the board against the reference scores of the task's card."""

    @property
    def metric(self) -> str:
        """Of the scores, as a record calls it."""
        return _metric_name(self.task)

    @property
    def heading(self) -> tuple[str, ...]:
        """The names of the columns."""
        return ("model", _metric(self.task).heading, "probe", "views", "source")

    @property
    def title(self) -> str:
        """What the table is."""
        metric = _metric(self.task)
        return f"Published for {self.task}: {metric.title} in %, frozen encoder, {metric.probe}"

    @property
    def remark(self) -> str:
        """What the reader must know to read it."""
        return (
            f"{len(self.shown)} of {self.total}, the highest of each model. Not the protocols of the board "
            "above: probe depth, views and schedules differ. Views are frames x clips x crops."
        )

    @property
    def tables(self) -> list[Table]:
        """The tables of the section in words: the checks first, then the published scores."""
        made = []
        if self.checks:
            title = f"Measured for {self.task} under the protocol of a published score"
            remark = "A score that is too high is no reproduction either."
            made.append(Table(title, CHECK_HEADING, tuple(check.words for check in self.checks), remark))
        if self.shown:
            made.append(Table(self.title, self.heading, tuple(score.words for score in self.shown), self.remark))
        return made


def published_rows(task: str, path: Path | None = None) -> list[PublishedScore]:
    """Published scores, in the task's metric, of a frozen encoder under such a probe as is trained here, highest first.

    `task` is a task card's name, or the name of a task in published.csv; `path` replaces that file. Numbers
    read in second-hand sources only and rows of ablation studies are left out. Raises BenchError where the
    file is missing or damaged.
    """
    name = load_task(task).published_task if task in task_names() else task
    path = path or content_folder("results") / "published.csv"
    scores = []
    try:
        for row in csv.DictReader(io.StringIO(read_text(path, PUBLISHED))):
            if row["task"] == name and _is_wanted(row, _metric(task)):
                scores.append(_score(row))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BenchError(
            f"not a table of published scores ({type(error).__name__}: {error})",
            where=str(path),
            fix="restore it",
        ) from error
    return sorted(scores, key=lambda score: (-score.value, score.model, score.backbone))


def published_sections(tasks: Iterable[str], path: Path | None = None) -> list[Section]:
    """For each task that has any, what to show: the highest of each model, backbone and probe."""
    sections = []
    for task in dict.fromkeys(tasks):
        rows = published_rows(task, path)
        highest = list({(row.model, row.backbone, row.probe): row for row in reversed(rows)}.values())[::-1]
        if rows:
            sections.append(Section(task, tuple(highest[:_SHOWN]), len(rows)))
    return sections


def sections_of(board: Leaderboard) -> list[Section]:
    """The published scores of every task of a board, with the checks of what the board has under their protocol."""
    checks = reference_checks(board)
    sections = {section.task: section for section in published_sections(column.task for column in board.columns)}
    for task in dict.fromkeys(check.task for check in checks):
        own = tuple(check for check in checks if check.task == task)
        sections[task] = replace(sections.get(task, Section(task, (), 0)), checks=own)
    return list(sections.values())


def _metric(task: str) -> _Metric:
    return _METRICS.get(_metric_name(task), _METRICS["top1"])


def _metric_name(task: str) -> str:
    return load_task(task).metric if task in task_names() else "top1"


def _is_wanted(row: dict[str, str], metric: _Metric) -> bool:
    return (
        row["metric"] == metric.column
        and row["probe"] in metric.probes
        and _SECOND_HAND not in row["source"]
        and row["verified"] == "yes"
        and not any(word in row["model"] for word in _STUDIES)
    )


def _score(row: dict[str, str]) -> PublishedScore:
    return PublishedScore(
        model=row["model"],
        backbone=row["backbone"],
        resolution=f"{float(row['resolution']):.0f} px" if row["resolution"] else "",
        probe=row["probe"],
        views=row["views"],
        value=float(row["value"]),
        source=row["source"],
    )
