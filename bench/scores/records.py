"""What a run leaves behind: `RESULTS/<run id>/record.json` and `predictions.parquet`, written atomically.

Records are the truth; every table is derived from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import BenchError
from bench.files import atomic_folder, writable_folder
from bench.inputs import RECORD, read_json

SCHEMA_VERSION = 4
"""2 added controls, fewer labels, breakdowns, and metrics that are no share of samples; 3 added selection on the test
split and schedules of single settings; 4 the group anticipation, in which older records of ek100 are read too. Other
older records read as before."""

Split = Literal["train", "test"]
Axis = Literal["motion", "appearance", "anticipation"]
"""What a task is about: its group on the leaderboard."""
AXES: tuple[Axis, ...] = get_args(Axis)
"""In the order in which they are shown; tasks without one come last."""


def _utc(text: str) -> datetime:
    # Python 3.10 does not read the Z.
    moment = datetime.fromisoformat(text.removesuffix("Z") + ("+00:00" if text.endswith("Z") else ""))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _moment(text: str) -> str:
    _utc(text)
    return text


Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Moment = Annotated[str, AfterValidator(_moment)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Part):
    """One metric of a run, with its 95 % interval."""

    metric: str
    value: Percent
    """0 to 100."""
    low: Percent
    high: Percent
    correct: Count | None
    """Number of samples that were right: value = 100 * correct / n. None for metrics that are no share of samples."""
    n: Count
    """Samples that were scored, each once."""
    failed: Count
    """Test samples that could not be read; listed under `failures`, never replaced."""
    interval: str
    """How the interval was made."""

    @model_validator(mode="after")
    def _adds_up(self) -> Score:
        right = self.correct
        if right is not None and (right > self.n or abs(self.value - 100 * right / max(1, self.n)) > 1e-6):
            raise ValueError("value is not 100 * correct / n")
        if not self.low - 1e-6 <= self.value <= self.high + 1e-6:
            raise ValueError("value lies outside its interval")
        return self


FrameOrder = Literal["ordered", "shuffled", "static", "reversed"]
"""What a clip's frames are shown as: as filmed, in a random order, the middle one repeated, backwards."""


class Control(_Part):
    """What a probe scores on the clips of another frame order."""

    frames: FrameOrder
    """Order of the test clips' frames."""
    trained_on: FrameOrder
    """Order of the training clips' frames: that of the test clips (what can be read of them), or `ordered` (what the
    probe of ordered clips leans on)."""
    score: Score


class MotionShare(_Part):
    """How much of a score above chance is lost with one thing taken from the clips, 0 to 1, with its 95 % interval.

    The probe is trained on what it is tested on. May lie outside 0 .. 1 where a score is near chance.
    """

    without: Literal["order", "motion"]
    """`order`: clips of shuffled frames; `motion`: one frame repeated."""
    value: float
    low: float
    high: float
    chance: Percent | None = None
    """What always answering the most frequent class of the training samples scores, 0 to 100."""


class FewerLabels(_Part):
    """The score of a probe that was trained on a part of the training samples."""

    share: Annotated[float, Field(gt=0, le=1)]
    """Part of each class's training samples that was kept."""
    draw: Count
    """Which of the random parts."""
    num_train: Count
    score: Score


class Breakdown(_Part):
    """A metric by parts, such as the average precision of every class; 0 to 100."""

    metric: str
    by: str
    """What the parts are: `class`, `group`."""
    values: dict[str, Percent | None]
    """None where a part has no sample."""


class Failure(_Part):
    """A sample that could not be read, and why."""

    sample: str
    split: Split
    reason: str


class Head(_Part):
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
    """Of sweeps whose settings have a schedule each, as are the next two."""
    warmup_epochs: float | None = None
    final_weight_decay: float | None = None

    @property
    def accuracy(self) -> float | None:
        """0 to 100, on the samples that the setting was chosen on; empty where nothing was chosen."""
        return self.held_out_accuracy if self.test_accuracy is None else self.test_accuracy


class Cost(_Part):
    """What the run took."""

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


class Record(_Part):
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
    controls: list[Control] = []
    motion_shares: list[MotionShare] = []
    fewer_labels: list[FewerLabels] = []
    breakdowns: list[Breakdown] = []
    failures: list[Failure]
    notes: list[str]
    """What a reader of the score must know: limits, assumptions, selection on test."""
    arguments: dict[str, Any]
    """As given."""
    resolved: dict[str, Any]
    """Task card, recipe, input spec, sampling and devices as used."""
    digests: dict[str, str]
    """Of the encoder, the features and the sample lists: `encoder`, `features`, `train_list`, `test_list`.

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


@dataclass(frozen=True)
class Predictions:
    """Per-sample outcome on the test split, in the order of the list."""

    samples: list[str]
    labels: list[int]
    probabilities: Any
    """float32 [n, classes]."""
    videos: list[str] | None = None
    """What each sample was cut from: samples of one video are not independent. None where every one has its own."""


def write_record(
    results: Path,
    record: Record,
    predictions: Predictions,
    save_probe: Callable[[Path], None] | None = None,
    add_files: Callable[[Path], None] | None = None,
) -> Path:
    """Write a run's folder under `results` and return it; the folder appears complete or not at all.

    `save_probe` is asked to write the trained probe to the path it gets, `add_files` whatever else to the folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "sample": pa.array(predictions.samples, pa.string()),
        "label": pa.array(predictions.labels, pa.int32()),
        "prediction": pa.array(predictions.probabilities.argmax(1).tolist(), pa.int32()),
        "probabilities": pa.array(list(predictions.probabilities), pa.list_(pa.float32())),
    }
    numbers = {video: number for number, video in enumerate(dict.fromkeys(predictions.videos or []))}
    if predictions.videos and len(numbers) < len(predictions.videos):
        # Numbers instead of names: a path of this machine has no place in a result.
        columns["video"] = pa.array([numbers[video] for video in predictions.videos], pa.int32())
    table = pa.table(columns)
    folder = writable_folder(results, option="--results") / record.run_id
    with atomic_folder(folder) as temporary:
        pq.write_table(table, temporary / "predictions.parquet")
        (temporary / "record.json").write_text(record.model_dump_json(indent=1), encoding="utf-8")
        if save_probe:
            save_probe(temporary / "probe.safetensors")
        if add_files:
            add_files(temporary)
    return folder


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
