"""A baseline: what some runs scored, sample by sample, in one small JSON file that is committed beside the code.

A row is one model on one task, under one protocol and metric, with every probe seed that was trained. Per-sample
outcomes are one bit a sample and seed in the order of the sample ids; the ids themselves are a digest. A row that was
written by hand may leave the outcomes out: then there is only its score to compare with.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.inputs import BASELINE, read_json
from bench.core.types import Axis, Count, Percent
from bench.metrics.accuracy import ClassAnswers
from bench.metrics.metric import Answers, form_of, metric_of
from bench.metrics.resample import Resampled, resampled
from bench.records.conditions import Conditions, conditions
from bench.records.runs import StoredRun
from bench.records.schema import Moment, Record
from bench.records.summary import probe_seeds
from bench.records.tables import FILES

FORMAT: Literal["vjepa-bench baseline"] = "vjepa-bench baseline"
SCHEMA_VERSION = 4
"""2 added the conditions of a row and the number of its seeds; 3 rows of all metrics, with resampled scores; 4 all
seeds of a model in one row. Older baselines read as rows of one seed."""


def _listed(value: Any) -> Any:
    """What older rows have of their one seed, as a list."""
    return [value] if isinstance(value, str) else value


PerSeed = Annotated[list[str] | None, BeforeValidator(_listed)]
"""One text a seed."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaselineRow(_Part):
    """One score of one model. Lists have one entry a probe seed."""

    task: str
    axis: Axis | None = None
    model: str
    probe: str
    protocol: str
    metric: str
    seed: int
    """The first probe seed."""
    seeds: list[int] = Field(default_factory=list)
    """All of them; empty in older rows, which have the one seed alone."""
    input: str = ""
    value: Percent
    """Mean over the seeds."""
    values: list[Percent] = Field(default_factory=list)
    """The score of each seed; empty in older rows."""
    correct: Count | None
    """Right answers of all seeds; None for metrics that are no share of samples."""
    n: Annotated[int, Field(ge=1)]
    """Samples."""
    samples: str | None = None
    """SHA-256 of the ids of the scored samples with their labels, and with their videos beside `resampled`."""
    outcomes: PerSeed = None
    """Base64 of one bit a sample, 1 where it was right, in order of the ids."""
    resampled: PerSeed = None
    """For metrics that are no share of samples: the score on draws of its videos, and what each adds to it
    (`bench.metrics.resample.Resampled`)."""
    predictions: PerSeed = None
    """SHA-256 of what was answered, in order of the ids."""
    encoder: str = ""
    """Digest of its weights and architecture."""
    test_list: str = ""
    """Digest of ids, labels and file contents of the whole test list."""
    conditions: Conditions | None = None
    """None where an older version or a hand wrote the row."""
    num_seeds: Count | None = None
    """How many seeds the baseline had of this model, task and protocol when it was written."""
    run_id: str = ""
    created: Moment | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> BaselineRow:
        right, answers = self.correct, self.n * len(self.probe_seeds)
        if right is not None and (right > answers or abs(self.value - 100 * right / answers) > 1e-6):
            raise ValueError("value is not 100 * correct / n")
        if self.outcomes is not None or self.resampled is not None:
            if self.samples is None or self.predictions is None:
                raise ValueError("outcomes need the digests of samples and predictions")
            lists = [one for one in (self.outcomes, self.resampled, self.predictions, self.values) if one]
            if any(len(one) != len(self.probe_seeds) for one in lists):
                raise ValueError("outcomes, predictions and values need one entry a seed")
            if self.resampled is not None:
                self.kept()
            elif int(self.hits().sum()) != self.correct:
                raise ValueError("the outcomes do not add up to `correct`")
        return self

    @property
    def probe_seeds(self) -> list[int]:
        """The probe seeds, at least one."""
        return self.seeds or [self.seed]

    @property
    def is_paired(self) -> bool:
        """Whether it can be compared sample by sample, or video by video."""
        return (self.outcomes if form_of(self.metric) == ClassAnswers.form else self.resampled) is not None

    def kept(self) -> list[Resampled]:
        """The resampled score of each seed. Raises ValueError where one is something else."""
        values = self.values or [self.value] * len(self.probe_seeds)
        pairs = zip(self.resampled or (), values, strict=True)
        return [Resampled.from_text(text, self.samples or "", value) for text, value in pairs]

    def hits(self) -> NDArray[np.int64]:
        """The outcomes [K, n], 0 or 1. Raises ValueError where they are not n bits a seed, or there are none."""
        return np.stack([self._bits(text) for text in self.outcomes or [""]])

    def _bits(self, text: str) -> NDArray[np.int64]:
        packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
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


def make_row(runs: Sequence[tuple[Record, Sequence[Answers]]], metric: str) -> BaselineRow:
    """The row of one score of a model, from its runs with the answers of all their probe seeds, to the same samples and
    in order of their ids. What is said of the encoder and its conditions is that of the first run."""
    record = runs[0][0]
    scores = [next(score for score in one.scores if score.metric == metric) for one, _ in runs]
    answers = [seed for _, seeds in runs for seed in seeds]
    kept: dict[str, Any]
    if all(isinstance(one, ClassAnswers) for one in answers):
        hits = np.stack([one.hits for one in answers if isinstance(one, ClassAnswers)])
        packed = [np.packbits(seed.astype(bool)).tobytes() for seed in hits]
        kept = {
            "samples": answers[0].sample_digest,
            "outcomes": [base64.b64encode(bits).decode("ascii") for bits in packed],
            "values": [100 * float(value) for value in hits.mean(axis=1)],
            "correct": int(hits.sum()),
        }
    else:
        made = [resampled(metric_of(metric), one) for one in answers]
        counts = [score.correct for score in scores if score.correct is not None]
        kept = {
            "samples": made[0].samples,
            "resampled": [one.to_text() for one in made],
            "values": [one.value for one in made],
            "correct": sum(counts) if counts else None,
        }
    seeds = [seed for one, _ in runs for seed in probe_seeds(one)]
    return BaselineRow(
        task=record.task,
        axis=record.axis,
        model=record.model,
        probe=record.probe,
        protocol=record.protocol,
        metric=metric,
        seed=seeds[0],
        seeds=seeds,
        input=record.input,
        value=fmean(kept["values"]),
        n=scores[0].n,
        predictions=[one.prediction_digest for one in answers],
        encoder=record.digests.get("encoder", ""),
        test_list=record.digests.get("test_list", ""),
        conditions=conditions(record),
        num_seeds=len(seeds),
        run_id=record.run_id,
        created=record.created,
        **kept,
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
