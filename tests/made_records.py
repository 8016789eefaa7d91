"""Fixtures: a record, or a run on disk, with only the fields that a test cares about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.metrics.accuracy import class_answers
from bench.metrics.intervals import wilson_interval
from bench.metrics.score import Score
from bench.metrics.seed_scores import score_all
from bench.records.schema import Cost, Failure, Record
from bench.records.write import write_record

MakeRecord = Callable[..., Record]


@pytest.fixture
def make_record() -> MakeRecord:
    """Each call gives a record one second newer than the last."""
    numbers = count()

    def make(correct: int = 300, n: int = 500, failed: int = 0, unread: int = 0, **fields: Any) -> Record:
        number = next(numbers)
        low, high = wilson_interval(correct, n)
        score = Score(
            metric="top1",
            value=100 * correct / n,
            low=100 * low,
            high=100 * high,
            correct=correct,
            n=n,
            failed=failed,
            interval="Wilson, 95 %",
        )
        probe = fields.get("probe", "attentive")
        defaults: dict[str, Any] = {
            "run_id": f"run-{number}",
            "created": f"2026-01-02T03:04:{number:02d}+00:00",
            "task": "digits-motion",
            "axis": "motion",
            "model": "random",
            "probe": probe,
            "protocol": f"{probe}/1 1x1 center",
            "seed": 0,
            "input": "8x16px",
            "num_train": 2000 - unread,
            "num_classes": 2,
            "class_names": ["left", "right"],
            "scores": [score],
            "heads": [],
            "failures": [
                *(Failure(sample=f"{i}", split="train", reason="damaged") for i in range(unread)),
                *(Failure(sample=f"unread_{i}", split="test", reason="damaged") for i in range(failed)),
            ],
            "notes": [],
            "arguments": {},
            "resolved": {},
            "digests": {"encoder": "0123456789abcdef"},
            "versions": {},
            "hardware": {},
            "git_revision": None,
            "cost": Cost(
                encoder_clips=1234,
                cached_clips=5,
                extract_s=1.0,
                probe_s=2.0,
                total_s=3.0,
                peak_memory_bytes=1,
                feature_bytes=1,
            ),
        }
        return Record(**{**defaults, **fields})

    return make


SaveRun = Callable[..., Path]


@pytest.fixture
def save_run() -> SaveRun:
    """Write a record, and predictions in which the first `correct` samples, or those of `right`, are right."""

    def save(folder: Path, record: Record, right: Sequence[bool] | None = None, ids: Sequence[str] = ()) -> Path:
        score = record.scores[0]
        outcomes = [i < score.correct for i in range(score.n)] if right is None else list(right)
        path = folder / record.run_id / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(record.model_dump_json())
        said = [0 if one else 1 for one in outcomes]
        table = pa.table(
            {
                "sample": list(ids) or [f"clip_{i}" for i in range(len(outcomes))],
                "label": pa.array([0] * len(outcomes), pa.int32()),
                "prediction": pa.array(said, pa.int32()),
                "probabilities": pa.array([[1.0 - one, float(one)] for one in said], pa.list_(pa.float32())),
            }
        )
        pq.write_table(table, path.with_name("predictions.parquet"))
        return path

    return save


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(make_record: MakeRecord, tmp_path: Path) -> MakeRun:
    """Each call writes a run to `tmp_path/results` and returns its folder; it got right what `hits` says, 0 or 1,
    and its other probes what `further` says.

    Labels run through the classes. Where the run is wrong it names the class after the label.
    """

    def make(
        hits: Sequence[int],
        videos: list[str] | None = None,
        results: Path | None = None,
        further: Sequence[Sequence[int]] = (),
        **fields: Any,
    ) -> Path:
        classes = fields.setdefault("class_names", ["left", "right", "up"])
        labels = [i % len(classes) for i in range(len(hits))]
        names = [f"clips/{i:05d}.mp4" for i in range(len(hits))]
        probes = []
        for own in (hits, *further):
            said = [label if hit else (label + 1) % len(classes) for label, hit in zip(labels, own, strict=True)]
            probabilities = np.full((len(hits), len(classes)), 0.2 / (len(classes) - 1), dtype=np.float32)
            probabilities[np.arange(len(hits)), said] = 0.8
            probes.append(class_answers(names, labels, probabilities, videos))
        scores = score_all(probes[0], 0, probes[1:]).scores
        if further:
            fields.setdefault("seeds", [fields.get("seed", 0) + 1000 * number for number in range(len(probes))])
        digests = {"encoder": "0123456789abcdef", "test_list": "a", "train_list": "b"} | fields.pop("digests", {})
        record = make_record(scores=scores, num_classes=len(classes), digests=digests, **fields)
        return write_record(results or tmp_path / "results", record, probes[0], further=probes[1:])

    return make
