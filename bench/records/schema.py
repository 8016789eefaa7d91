"""The schema of a record, `RESULTS/<run id>/record.json`.

Records are the truth; every table is derived from them.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from bench.core.errors import BenchError
from bench.core.inputs import RECORD, read_json
from bench.core.types import Axis, Count, Split
from bench.metrics.score import Breakdown, Control, FewerLabels, MotionShare, RecordPart, Score

SCHEMA_VERSION = 5
"""2 added controls, fewer labels, breakdowns, and metrics that are no share of samples; 3 added selection on the test
split and schedules of single settings; 4 the group anticipation, in which older records of ek100 are read too; 5
several probes in one record, and the curve of their training. Other older records read as before."""


def _utc(text: str) -> datetime:
    # Python 3.10 does not read the Z.
    moment = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _moment(text: str) -> str:
    _utc(text)
    return text


Moment = Annotated[str, AfterValidator(_moment)]


class Failure(RecordPart):
    """A sample that could not be read, and why."""

    sample: str
    split: Split
    reason: str


class Head(RecordPart):
    """One setting of a sweep."""

    lr: float | None = None
    weight_decay: float | None = None
    neighbours: int | None = None
    held_out_accuracy: float | None = None
    """0 to 100, on the held-out training samples; mean average precision for boxes, recall at 5 for actions; empty
    where nothing was chosen on such."""
    held_out_loss: float | None = None
    test_accuracy: float | None = None
    """0 to 100, on the test split, where the setting was chosen on it."""
    test_loss: float | None = None
    train_loss: float | None = None
    diverged: bool = False
    chosen: bool = False
    start_lr: float | None = None
    """Only for sweeps whose settings have a schedule each, as are the next two."""
    warmup_epochs: float | None = None
    final_weight_decay: float | None = None

    @property
    def accuracy(self) -> float | None:
        """0 to 100, on the samples that the setting was chosen on; empty where nothing was chosen."""
        return self.held_out_accuracy if self.test_accuracy is None else self.test_accuracy


class CurvePoint(RecordPart):
    """How good probes were on the way."""

    steps: Count
    """Optimiser steps done."""
    held_out_accuracy: float
    """0 to 100, on held-out training samples, the mean over the probes; mean average precision, or recall, where that
    chooses."""


class Cost(RecordPart):
    """Cost of the run."""

    encoder_clips: int
    """Clips encoded now."""
    cached_clips: int
    """Clips whose features came from the cache."""
    extract_s: float
    probe_s: float
    """Seconds of probe training now, of all probes; 0 where they came from the cache."""
    cached_probe: bool = False
    """Whether the probe was trained by an earlier run on the same features, labels, recipe and seed."""
    total_s: float
    peak_memory_bytes: int
    feature_bytes: int
    """Size of the features that the probes read."""


class Record(RecordPart):
    """Everything about one run: one encoder, one task, one recipe, one seed."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created: Moment
    """UTC, ISO 8601."""
    task: str
    axis: Axis | None
    model: str
    """Name on the leaderboard."""
    probe: str
    protocol: str
    """Recipe, its version, and the clip protocol: scores share a column only where this is equal."""
    seed: int
    seeds: list[int] = Field(default_factory=list)
    """Seeds of the probes that were trained, `seed` first; empty in records of older versions, which have that one."""
    selected_on_test: bool = False
    """Whether the probe's setting is the best of a sweep on the test split, as some papers report: such a score is
    optimistic, and is never ranked, averaged or gated."""
    input: str
    """Frames and resolution that the encoder saw, such as `8x16px`."""
    num_train: int
    num_classes: int
    class_names: list[str]
    scores: list[Score]
    heads: list[Head]
    training: list[CurvePoint] = Field(default_factory=list)
    """The training of the settings that answer, at each quarter of its steps; empty where nothing was held out of
    cached tokens."""
    controls: list[Control] = Field(default_factory=list)
    motion_shares: list[MotionShare] = Field(default_factory=list)
    fewer_labels: list[FewerLabels] = Field(default_factory=list)
    breakdowns: list[Breakdown] = Field(default_factory=list)
    failures: list[Failure]
    notes: list[str]
    """What a reader of the score must know: limits, assumptions, selection on test."""
    arguments: dict[str, Any]
    """As given."""
    resolved: dict[str, Any]
    """Task card, recipe, input spec, sampling and devices as used."""
    digests: dict[str, str]
    """SHA-256 of the encoder, the features and the sample lists: `encoder`, `features`, `train_list`, `test_list`.

    Two encoders share a row of the leaderboard, and two lists a column, only where their digests are equal.
    """
    versions: dict[str, str]
    hardware: dict[str, Any]
    git_revision: str | None
    cost: Cost

    @property
    def moment(self) -> datetime:
        """When the record was made, with its time zone: comparable between records."""
        return _utc(self.created)


def read_record(path: Path) -> Record:
    """Read one `record.json`. Raises BenchError where it is damaged or from a newer version."""
    try:
        content = read_json(path, RECORD)
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int | float) and version > SCHEMA_VERSION:
            raise BenchError(
                f"written by a newer version (schema {version}, this one reads {SCHEMA_VERSION})",
                where=str(path),
                fix="update vjepa-bench",
            )
        return Record.model_validate(_in_its_group(content))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise _unreadable(path, f"{field}: {first['msg']}" if field else first["msg"]) from error
    except OSError as error:
        raise _unreadable(path, str(error)) from error


def _in_its_group(content: Any) -> Any:
    """The content of a record, of ek100 with the group that it has today: scores of old and new runs share a column."""
    if isinstance(content, dict) and content.get("task") == "ek100" and content.get("axis") == "appearance":
        return {**content, "axis": "anticipation"}
    return content


def _unreadable(path: Path, reason: str) -> BenchError:
    return BenchError(f"not a readable record ({reason})", where=str(path), fix="move it away or run again")
