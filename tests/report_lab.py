"""Runs on disk for a report: two tasks, several models, one of them with a name that tries to be markup."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.metrics.accuracy import ClassAnswers, class_answers
from bench.metrics.motion_share import Reading, motion_shares
from bench.metrics.score import FewerLabels
from bench.metrics.seed_scores import score_all
from bench.records.key_frames import Guess, Person, ShownFrame, write_key_frames
from bench.records.schema import Cost, Failure, Record
from bench.records.tables.controls import write_readings
from bench.records.write import write_record

HOSTILE = "<script>alert(1)</script>&\"' onload=alert(2)"
CONTROLS = "controls.parquet"
CLASSES = ["left", "right", "up"]
_TASKS = (("digits-motion", "motion"), ("digits-appearance", "appearance"))


def write_runs(results: Path, shares: dict[str, float], *, seeds: int = 1, n: int = 60, **fields: Any) -> list[Record]:
    """One run of every model on both tasks for every seed; `shares` says what part of the samples a model has right.

    Records of equal calls are equal. `fields` replaces what a record holds.
    """
    numbers = count()
    made = []
    for model, share in shares.items():
        for task, axis in _TASKS:
            for seed in range(seeds):
                record, predictions = _run(next(numbers), model, share, task, axis, seed, n)
                record = record.model_copy(update=fields)
                write_record(results, record, predictions)
                made.append(record)
    return made


def write_full_runs(results: Path) -> list[Record]:
    """Three models, one of them hostile in every word, with failures, notes, frame orders and fewer labels.

    The hostile model has one task only; another task has its name, too.
    """
    made = write_runs(results, {"vjepa-nano": 0.9, "random": 0.4})
    again, said = _run(0, "random", 0.4, HOSTILE, None, 0, 60)
    task = again.model_copy(update={"run_id": "hostile-task"})
    write_record(results, task, said)
    _, predictions = _run(0, HOSTILE, 0.6, "digits-motion", "motion", 0, 59)
    (score,) = score_all(predictions, 1).scores
    ordered = Reading("ordered", "ordered", predictions, failed=1)
    # Every class moves on by one: what was right is wrong, and of what was wrong nothing is right.
    lost = replace(predictions, probabilities=np.roll(predictions.probabilities, 1, axis=1))
    readings = [ordered, Reading("shuffled", "shuffled", lost, failed=1)]
    record = made[0].model_copy(
        update={
            "run_id": "hostile",
            "model": HOSTILE,
            "num_train": made[0].num_train - 1,
            "class_names": [HOSTILE, "right", "up"],
            "scores": [score],
            "failures": [
                Failure(sample=f"{HOSTILE}.mp4", split="test", reason=f"not decodable: {HOSTILE}"),
                Failure(sample="clips/short.mp4", split="train", reason="2 frames, 8 wanted"),
            ],
            "notes": [f"note {HOSTILE}"],
            "controls": [reading.control("top1") for reading in readings],
            "motion_shares": motion_shares(readings, "top1", {"class": np.bincount(predictions.labels)}),
            "fewer_labels": [FewerLabels(share=0.1, draw=0, num_train=12, score=score)],
            "arguments": {"task": "digits-motion", "model": HOSTILE, "probe": "attentive", "name": HOSTILE},
            "resolved": {"encoder": {"precision": "fp32", "report": {"file": HOSTILE, "key": HOSTILE}}},
            "versions": {"torch": HOSTILE},
            "hardware": {"processor": HOSTILE},
            "git_revision": HOSTILE,
        }
    )
    folder = write_record(results, record, predictions, add_files=lambda at: write_readings(at, readings))
    write_key_frames(folder, key_frames(5))
    return [*made, task, record]


def key_frames(number: int) -> list[tuple[ShownFrame, bytes]]:
    """So many key frames of hostile videos, in which everything occurs: found, found wrong, not found, not there."""
    guesses = [Guess(action=HOSTILE, percent=90.4, right=False), Guess(action="walk", percent=20.0, right=True)]
    people = [
        Person(annotated=["walk", HOSTILE], predicted=guesses[::-1]),
        Person(annotated=[], predicted=guesses),
        Person(annotated=["sit"], predicted=None),
        Person(annotated=None, predicted=guesses[:1]),
    ]
    stream = io.BytesIO()
    Image.new("RGB", (512, 288), (90, 120, 90)).save(stream, format="JPEG")
    frames = [ShownFrame(video=HOSTILE, timestamp=900 + second, people=people) for second in range(number)]
    return [(frame, stream.getvalue()) for frame in frames]


def _run(number: int, model: str, share: float, task: str, axis: Any, seed: int, n: int) -> tuple[Record, ClassAnswers]:
    labels = [i % len(CLASSES) for i in range(n)]
    right = np.random.default_rng([seed, len(model)]).permutation(n) < share * n
    said = [label if hit else (label + 1) % len(CLASSES) for label, hit in zip(labels, right, strict=True)]
    probabilities = np.full((n, len(CLASSES)), 0.1, dtype=np.float32)
    probabilities[np.arange(n), said] = 0.8
    answers = class_answers([f"clips/{i:05d}.mp4" for i in range(n)], labels, probabilities)
    arguments = {"task": task, "model": model, "probe": "attentive", "seed": seed, "limit": 300, "device": "auto"}
    record = Record(
        run_id=f"run-{number:04d}",
        created=f"2026-01-02T03:{number // 60 % 60:02d}:{number % 60:02d}+00:00",
        task=task,
        axis=axis,
        model=model,
        probe="attentive",
        protocol="attentive/1 1x1 center",
        seed=seed,
        input="8x16px",
        num_train=120,
        num_classes=len(CLASSES),
        class_names=CLASSES,
        scores=score_all(answers, 0).scores,
        heads=[],
        failures=[],
        notes=[],
        arguments=arguments,
        resolved={"encoder": {"precision": "fp32", "report": {"weights": "untrained, seed 0"}}},
        digests={"encoder": f"{len(model):064x}", "test_list": "a" * 64, "train_list": "b" * 64},
        versions={"torch": "2.9.0"},
        hardware={"device": "cpu"},
        git_revision="abc1234",
        cost=Cost(
            encoder_clips=180,
            cached_clips=0,
            extract_s=1.0,
            probe_s=2.0,
            total_s=3.0 + number,
            peak_memory_bytes=2**30,
            feature_bytes=2**20,
        ),
    )
    return record, answers
