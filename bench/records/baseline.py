"""A baseline: what some runs scored, sample by sample, in one small JSON file that is committed beside the code.

Per-sample outcomes are one bit a sample in the order of the sample ids; the ids themselves are a digest. A row that was
written by hand may leave the outcomes out: then there is only its score to compare with.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.inputs import BASELINE, read_json
from bench.core.types import Axis, Count, Percent
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Answers, form_of, metric_of
from bench.metrics.resample import Resampled, resampled
from bench.metrics.score import Score
from bench.records.conditions import Conditions, conditions
from bench.records.runs import StoredRun
from bench.records.schema import Moment, Record
from bench.records.tables import FILES

FORMAT: Literal["vjepa-bench baseline"] = "vjepa-bench baseline"
SCHEMA_VERSION = 3
"""2 added the conditions of a row and the number of its seeds; 3 rows of all metrics, with resampled scores. Older
baselines read as before."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaselineRow(_Part):
    """One run."""

    task: str
    axis: Axis | None = None
    model: str
    probe: str
    protocol: str
    metric: str
    seed: int
    input: str = ""
    value: Percent
    correct: Count | None
    """None for metrics that are no share of samples."""
    n: Annotated[int, Field(ge=1)]
    samples: str | None = None
    """SHA-256 of the ids of the scored samples with their labels, and with their videos beside `resampled`."""
    outcomes: str | None = None
    """Base64 of one bit a sample, 1 where it was right, in order of the ids."""
    resampled: str | None = None
    """For metrics that are no share of samples: the score on draws of its videos, and what each adds to it
    (`bench.metrics.resample.Resampled`)."""
    predictions: str | None = None
    """SHA-256 of what was answered, in order of the ids."""
    encoder: str = ""
    """Digest of its weights and architecture."""
    test_list: str = ""
    """Digest of ids, labels and file contents of the whole test list."""
    conditions: Conditions | None = None
    """None where an older version or a hand wrote the row."""
    num_seeds: Count | None = None
    """How many rows the baseline had of this model, task and protocol when it was written, one a seed."""
    run_id: str = ""
    created: Moment | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> BaselineRow:
        right = self.correct
        if right is not None and (right > self.n or abs(self.value - 100 * right / self.n) > 1e-6):
            raise ValueError("value is not 100 * correct / n")
        if self.outcomes is not None or self.resampled is not None:
            if self.samples is None or self.predictions is None:
                raise ValueError("outcomes need the digests of samples and predictions")
            if self.resampled is not None:
                self.kept()
            elif int(self.hits().sum()) != self.correct:
                raise ValueError("the outcomes do not add up to `correct`")
        return self

    @property
    def is_paired(self) -> bool:
        """Whether it can be compared sample by sample, or video by video."""
        return (self.outcomes if form_of(self.metric) == ClassAnswers.form else self.resampled) is not None

    def kept(self) -> Resampled:
        """The resampled score. Raises ValueError where there is none."""
        return Resampled.from_text(self.resampled or "", self.samples or "", self.value)

    def hits(self) -> NDArray[np.int64]:
        """The outcomes [n], 0 or 1. Raises ValueError where they are not n bits, or there are none."""
        packed = np.frombuffer(base64.b64decode(self.outcomes or "", validate=True), dtype=np.uint8)
        if len(packed) != -(-self.n // 8):
            raise ValueError(f"the outcomes are not those of {self.n} samples")
        return np.unpackbits(packed, count=self.n).astype(np.int64)


class Baseline(_Part):
    """All rows, and when they were put together."""

    format: Literal["vjepa-bench baseline"] = FORMAT
    schema_version: int = SCHEMA_VERSION
    created: Moment
    """UTC, ISO 8601."""
    rows: list[BaselineRow]


def why_not_gated(record: Record) -> str:
    """Why no baseline can hold a run's score, in words; empty where one can."""
    if record.selected_on_test:
        return "selected on test"
    unknown = [score.metric for score in record.scores if form_of(score.metric) is None]
    return f"{unknown[0]} is no metric that is known here" if unknown else ""


def why_not_held(run: StoredRun) -> str:
    """The same of a run, whose tables may not be there; empty where a baseline can hold it."""
    form = form_of(run.record.scores[0].metric)
    absent = [name for name in FILES[form] if not (run.folder / name).is_file()] if form else []
    return why_not_gated(run.record) or (f"{absent[0]} is not beside the record" if absent else "")


def left_out(runs: Sequence[StoredRun]) -> list[str]:
    """What the gate does not judge, in words, and why."""
    names: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        names[why_not_held(run)].add(f"{run.record.model} on {run.record.task}")
    return [f"not gated, because {why}: {', '.join(sorted(found))}" for why, found in names.items() if why]


def make_row(record: Record, answers: Answers, num_seeds: int, score: Score | None = None) -> BaselineRow:
    """The row of one score of a run, the first where none is given; it is one of `num_seeds` that differ in the seed
    alone. `answers` are in order of the ids."""
    score = score or record.scores[0]
    if isinstance(answers, ClassAnswers):
        samples, outcomes, numbers = answers.sample_digest, np.packbits(answers.hits.astype(bool)).tobytes(), None
    else:
        made, outcomes = resampled(metric_of(score.metric), answers), None
        samples, numbers = made.samples, made.to_text()
    return BaselineRow(
        task=record.task,
        axis=record.axis,
        model=record.model,
        probe=record.probe,
        protocol=record.protocol,
        metric=score.metric,
        seed=record.seed,
        input=record.input,
        value=score.value,
        correct=score.correct,
        n=score.n,
        samples=samples,
        outcomes=None if outcomes is None else base64.b64encode(outcomes).decode("ascii"),
        resampled=numbers,
        predictions=answers.prediction_digest,
        encoder=record.digests.get("encoder", ""),
        test_list=record.digests.get("test_list", ""),
        conditions=conditions(record),
        num_seeds=num_seeds,
        run_id=record.run_id,
        created=record.created,
    )


def write_baseline(path: Path, rows: Sequence[BaselineRow]) -> None:
    """Write a baseline atomically, one row a line, so that a diff shows what changed."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    ordered = sorted(rows, key=lambda row: (row.task, row.model, row.protocol, row.seed))
    head = json.dumps({"format": FORMAT, "schema_version": SCHEMA_VERSION, "created": created})
    body = ",\n".join(f"  {row.model_dump_json()}" for row in ordered)
    text = f'{head[:-1]}, "rows": [\n{body}\n]}}\n'
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_baseline(path: Path) -> Baseline:
    """Read a baseline. Raises BenchError where it is missing, damaged, something else or of a newer version."""
    fix = BASELINE.fix
    try:
        content = read_json(path, BASELINE)
    except FileNotFoundError as error:
        raise BenchError("no such baseline", where=str(path), fix="write one with `bench check --update`") from error
    except OSError as error:
        raise BenchError(f"not a readable baseline ({error})", where=str(path), fix=fix) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BenchError("this is not a baseline", where=str(path), fix=fix)
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        what = f"written by a newer version (schema {version}, this one reads {SCHEMA_VERSION})"
        raise BenchError(what, where=str(path), fix="update vjepa-bench")
    try:
        baseline = Baseline.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BenchError(f"not a readable baseline ({field}: {first['msg']})", where=str(path), fix=fix) from error
    if not baseline.rows:
        raise BenchError("the baseline has no rows", where=str(path), fix=fix)
    return baseline
