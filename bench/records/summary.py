"""What a board needs of a record: everything but sweeps, class names and lists of failures. Small enough to index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bench.metrics.score import Score
from bench.records.naming import given_spec, weights_place
from bench.records.schema import Cost, Record
from bench.records.tables.outcomes import Outcomes


@dataclass(frozen=True)
class Summary:
    """One record, shortened. Fields that a record has too mean the same here."""

    run_id: str
    created: str
    moment: float
    """`created` as seconds since 1970: comparable between records."""
    task: str
    axis: str | None
    model: str
    probe: str
    protocol: str
    seed: int
    input: str
    num_train: int
    num_unread: int
    """Training samples that could not be read."""
    selected_on_test: bool
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    digests: Mapping[str, str]
    device: str
    """What the encoder ran on, such as `cpu` or `cuda:0`; empty where the record does not say."""
    dataset: str
    """What the task's samples are taken from: `digits`, the task's name among published scores, or its own name."""
    spec: str
    """What `--model` named, such as a path or a name of the catalog."""
    place: str
    """Path of the weights as it was given, without its suffix; empty for weights that are no file."""
    weights_file: str
    """File name of weights that were made elsewhere; empty for others."""
    cost: Cost
    path: Path | None = None
    """The record's file."""
    outcomes: Outcomes | None = None
    """Which test samples were right; None where the metric has no outcome for each sample."""
    resampled: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Other metrics: by name, the digest of the samples and the numbers of a `bench.metrics.resample.Resampled`."""
    doubts: tuple[str, ...] = ()
    """What is said of the record, beside its scores, and does not fit; or why its scores could not be made anew."""

    @property
    def where(self) -> str:
        """What errors call the record."""
        return str(self.path) if self.path else self.run_id

    def same_record(self, other: Summary) -> bool:
        """Whether both are copies of one record with the same answers, wherever they lie."""
        answers = [(one.outcomes.samples, one.outcomes.right) if one.outcomes else None for one in (self, other)]
        return (answers[0], self.resampled, self.content) == (answers[1], other.resampled, other.content)

    @property
    def content(self) -> Summary:
        """What the record alone says, wherever it lies."""
        return replace(self, path=None, outcomes=None, resampled={}, doubts=())


def summarise(record: Record) -> Summary:
    """A record, shortened."""
    return Summary(
        run_id=record.run_id,
        created=record.created,
        moment=record.moment.timestamp(),
        task=record.task,
        axis=record.axis,
        model=record.model,
        probe=record.probe,
        protocol=record.protocol,
        seed=record.seed,
        input=record.input,
        num_train=record.num_train,
        num_unread=sum(failure.split == "train" for failure in record.failures),
        selected_on_test=record.selected_on_test,
        scores=tuple(record.scores),
        notes=tuple(record.notes),
        digests=record.digests,
        device=str(record.hardware.get("device", "")),
        dataset=_dataset(record),
        spec=given_spec(record),
        place=weights_place(record),
        weights_file=_weights_file(record),
        cost=record.cost,
    )


def to_text(summary: Summary) -> str:
    """A summary as JSON, without its path and outcomes."""
    content = {part.name: getattr(summary, part.name) for part in fields(Summary)}
    del content["path"], content["outcomes"]
    content["scores"] = [score.model_dump() for score in summary.scores]
    return json.dumps({**content, "cost": summary.cost.model_dump()})


def from_text(text: str, path: Path, outcomes: Outcomes | None) -> Summary:
    """A summary from what `to_text` made, and where its record lies. The text is not checked again."""
    content = json.loads(text)
    content["scores"] = tuple(Score.model_construct(**score) for score in content["scores"])
    content["resampled"] = {metric: (samples, numbers) for metric, (samples, numbers) in content["resampled"].items()}
    content["notes"], content["doubts"] = tuple(content["notes"]), tuple(content["doubts"])
    content["cost"] = Cost.model_construct(**content["cost"])
    return Summary(**content, path=path, outcomes=outcomes)


def _dataset(record: Record) -> str:
    task = _section(record.resolved, "task")
    return "digits" if task.get("data") == "digits" else str(task.get("published_task") or record.task)


def _weights_file(record: Record) -> str:
    report = _section(_section(record.resolved, "encoder"), "report")
    # Files that this project's pretraining wrote name their objective; no name makes them official ones.
    return "" if "objective" in report else str(report.get("file", ""))


def _section(content: Any, key: str) -> dict[str, Any]:
    section = content.get(key)
    return section if isinstance(section, dict) else {}
