"""Scores that papers and authors print, to stand beside a board but never in it; and how far those of a board are off.

`results/published.csv` holds one printed number a line with the table it was read in, and whether it was read there:
`verified` is no of numbers that only notes of others tell. Probes, views and schedules differ between papers, so these
are reference points: a gap of one to two points between labs is normal. A task's card may hold reference scores with a
tolerance; what was measured under their protocol is held against them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis.board import Cell, Column, Leaderboard, Row
from bench.cards.fields import layers_name
from bench.cards.load import ClipProtocol, TaskCard, load_probe_card, load_task, task_names
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
"""The metrics, as task cards name them, that published scores are shown in."""


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
        """Metric of the scores, as a record names it."""
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


CHECK_HEADING = ("model", "probe", "measured", "published", "difference", "verdict", "source")
"""Heading of a table of checks: the fields of `Check.words`."""
WITHIN, LOW, HIGH = "within tolerance", "too low", "too high"


@dataclass(frozen=True)
class Check:
    """One score of the board and the reference it should reproduce, in points."""

    task: str
    model: str
    probe: str
    measured: float
    published: float
    tolerance: float
    source: str

    @property
    def difference(self) -> float:
        """Measured minus published."""
        return self.measured - self.published

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerance. A score that is too high is no reproduction either."""
        return abs(self.difference) <= self.tolerance + 1e-9

    @property
    def words(self) -> tuple[str, ...]:
        """The fields of a table of checks."""
        verdict = WITHIN if self.ok else HIGH if self.difference > 0 else LOW
        published = f"{self.published:.1f} ± {self.tolerance:g}"
        sign = f"{self.difference:+.1f}".replace("-", "−")
        return self.model, self.probe, f"{self.measured:.1f}", published, sign, verdict, self.source


def reference_checks(board: Leaderboard) -> list[Check]:
    """Every score of the board whose task card has a reference of its model and protocol, in the order of the board."""
    return [check for column in board.columns if column.task in task_names() for check in _checks(board, column)]


def _checks(board: Leaderboard, column: Column) -> Iterator[Check]:
    card = load_task(column.task)
    references: Sequence[Any] = [r for r in getattr(card, "references", ()) if _same_protocol(r, column, card)]
    for row in board.rows if references else ():
        for reference in references:
            alike = column in row.cells and _plain(reference.model) in _names(row)
            if alike and _same_input(reference, row.cells[column], card):
                yield Check(
                    task=column.task,
                    model=row.label,
                    probe=column.probe,
                    measured=row.cells[column].value,
                    published=float(reference.value),
                    tolerance=float(reference.tolerance),
                    source=str(reference.source),
                )


def _same_protocol(reference: Any, column: Column, card: TaskCard) -> bool:
    """Whether a reference was measured as the column was: probe, clips and views, nothing limited or changed.

    The probes that the authors of a paper released stand for its recipe.
    """
    recipe, _, rest = column.protocol.partition(" ")
    released = reference.probe.removesuffix("-paper") + "-released"
    if column.probe not in (reference.probe, released):
        return False
    if column.probe == reference.probe and recipe != f"{reference.probe}/{load_probe_card(reference.probe).version}":
        return False
    clip = _clip(reference, card)
    words = ["image"] if card.media == "image" else [f"{clip.segments}x{clip.views}", clip.sampling]
    words += [f"step {clip.step}"] if clip.step else []
    words += [f"{clip.crop} crop"] if clip.crop != "official" else []
    words += [layers_name(clip.layers)] if clip.layers else []
    return rest == " ".join(words)


def _clip(reference: Any, card: TaskCard) -> ClipProtocol:
    return card.clips.get(reference.clip, card.clip)


def _same_input(reference: Any, cell: Cell, card: TaskCard) -> bool:
    """Whether the encoder saw the frames and the resolution of the reference, as far as the catalog knows them."""
    from bench.encoders.catalog import model_cards

    model, clip = cell.runs[0].record.model, _clip(reference, card)
    known = next((entry for entry in model_cards() if entry.name == model), None)
    shown = re.match(r"(?:(\d+)x)?(\d+)px(?: image(?: x(\d+))?)?", cell.runs[0].record.input)
    if shown is None or "8-bit tokens" in cell.runs[0].record.input:
        return False
    size = clip.resolution or (known.resolution if known else int(shown[2]))
    frames = clip.frames or (known.num_frames if known and card.media == "video" else None)
    return int(shown[2]) == size and (frames is None or int(shown[1] or shown[3] or 1) == frames)


def _names(row: Row) -> set[str]:
    """How a reference may call the model of a row: its name, or the title of its card."""
    from bench.encoders.catalog import model_cards

    name = row.records[0].model
    return {_plain(name), *(_plain(card.title) for card in model_cards() if card.name == name)}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())
