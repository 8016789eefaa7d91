"""A results folder as runs leave it, with everything that can be drawn, made up without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.metrics.accuracy import ClassAnswers, class_answers
from bench.metrics.intervals import wilson_interval
from bench.metrics.motion_share import Reading
from bench.metrics.score import FewerLabels, MotionShare, Score
from bench.metrics.seed_scores import score_all
from bench.records.curve import CurvePoint, write_curve
from bench.records.schema import Cost, Head, Record
from bench.records.tables.controls import write_readings
from bench.records.write import write_record
from bench.report.plots.curve import curve_pictures

TASKS = {"made-motion": "motion", "made-appearance": "appearance"}
COST = Cost(
    encoder_clips=1, cached_clips=0, extract_s=1.0, probe_s=1.0, total_s=2.0, peak_memory_bytes=1, feature_bytes=1
)
TRANSFORMER = {
    "embed_dim": 64,
    "num_heads": 2,
    "patch_size": 4,
    "tubelet_size": 2,
    "input_spec": {"num_frames": 8, "resolution": 16},
    "architecture": {"kind": "vjepa1", "depth": 3, "mlp_dim": 256},
}
"""Facts of an encoder, without its name, as a record keeps them."""
CLIPS = {"frames_per_clip": 8, "num_segments": 1, "views": 1, "size": 16}


def made_score(share: float, n: int = 200) -> Score:
    """A score of `share` (0 to 1) of n samples, with its Wilson interval."""
    correct = round(share * n)
    low, high = wilson_interval(correct, n)
    return Score(
        metric="top1", value=100 * correct / n, low=100 * low, high=100 * high, correct=correct, n=n, failed=0,
        interval="Wilson, 95 %",
    )  # fmt: skip


def made_predictions(share: float, classes: int, n: int, seed: int) -> ClassAnswers:
    """n answers of which about `share` are right, with probabilities that are too sure."""
    random = np.random.RandomState(seed)
    labels = np.arange(n) % classes
    said = np.where(random.rand(n) < share, labels, (labels + 1 + random.randint(0, 3, n)) % classes)
    sure = 0.4 + 0.59 * random.rand(n)
    probabilities = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1).astype(np.float32)
    probabilities[np.arange(n), said] = sure
    return class_answers([f"clip{i:05d}" for i in range(n)], labels.tolist(), probabilities)


def made_readings(scores: dict[tuple[str, str], Score], said: ClassAnswers, classes: int) -> list[Reading]:
    """What probes said of the clips of other frame orders, so that they score what `scores` has for (frames, trained
    on): the first samples right."""
    labels, readings = np.array(said.labels), []
    for (frames, trained_on), score in scores.items():
        right = np.arange(len(labels)) < (score.correct or 0)
        answers = np.eye(classes, dtype=np.float32)[np.where(right, labels, (labels + 1) % classes)]
        readings.append(Reading(frames, trained_on, replace(said, probabilities=answers), failed=0))  # type: ignore[arg-type]
    return readings


def made_share(without: Any, value: float, ordered: Score, other: Score) -> MotionShare:
    """The share of a score that is lost, at the level of chance that makes it `value`."""
    chance = ordered.value - (ordered.value - other.value) / value
    return MotionShare(without=without, value=value, low=value - 0.1, high=value + 0.1, chance=chance)


def made_heads(best: float) -> list[Head]:
    """A sweep of four learning rates and three weight decays around 100 * `best`; the highest rate diverged once."""
    heads = []
    for i, lr in enumerate((1e-4, 3e-4, 1e-3, 3e-3)):
        for j, decay in enumerate((0.01, 0.1, 0.4)):
            diverged, chosen = (i, j) == (3, 0), (i, j) == (2, 1)
            accuracy = None if diverged else 100 * max(0.0, best - 0.04 * abs(i - 2) - 0.02 * abs(j - 1))
            heads.append(Head(lr=lr, weight_decay=decay, held_out_accuracy=accuracy, diverged=diverged, chosen=chosen))
    return heads


def made_evidence(score: Score, chance: float, n: int) -> tuple[dict[tuple[str, str], Score], dict[str, Any]]:
    """Scores of controls, by order and what was trained on, and what a record has of motion shares and fewer labels."""
    value = score.value / 100
    left = {"reversed": 0.9, "shuffled": 0.5, "static": 0.1}
    lean = {"reversed": 0.6, "shuffled": 0.4, "static": 0.05}
    controls = {
        (order, on): made_score(chance + part * (value - chance), n)
        for parts in (left, lean)
        for order, part in parts.items()
        for on in ([order] if parts is left else ["ordered"])
    }
    shares = [
        made_share("order", 0.5, score, controls["shuffled", "shuffled"]),
        made_share("motion", 0.9, score, controls["static", "static"]),
    ]
    fewer = [
        FewerLabels(share=part, draw=draw, num_train=round(part * 800), score=made_score(value * worse + draw / n, n))
        for part, worse in ((0.05, 0.4), (0.1, 0.6), (0.5, 0.9))
        for draw in range(3)
    ]
    return controls, {"motion_shares": shares, "fewer_labels": fewer}


def made_run(
    results: Path,
    model: str,
    task: str,
    share: float,
    *,
    seed: int = 0,
    classes: Sequence[str] = ("left", "right", "up", "down", "in", "out", "wave", "still"),
    n: int = 200,
    evidence: bool = True,
    probes: int = 1,
    **fields: Any,
) -> Path:
    """Write one run; with `evidence`, its controls, motion shares and scores with fewer labels too."""
    predictions = made_predictions(share, len(classes), n, seed + sum(map(ord, model + task)))
    further = [made_predictions(share, len(classes), n, seed + 1000 * number) for number in range(1, probes)]
    (score,) = score_all(predictions, 0, further).scores
    value = score.value / 100
    controls: dict[tuple[str, str], Score] = dict(fields.pop("controls", {}))
    extra: dict[str, Any] = {}
    if evidence:
        controls, extra = made_evidence(score, 1 / len(classes), n)
    defaults: dict[str, Any] = {
        "run_id": f"{task}-{sum(map(ord, model))}-{len(list(results.glob('*')))}",
        "created": f"2026-01-02T03:04:05.{len(list(results.glob('*'))):06d}+00:00",
        "task": task,
        "axis": TASKS.get(task),
        "model": model,
        "probe": "attentive",
        "protocol": "attentive/1 1x1 center",
        "seed": seed,
        "seeds": [seed + 1000 * number for number in range(probes)],
        "input": "8x16px",
        "num_train": 800,
        "num_classes": len(classes),
        "class_names": list(classes),
        "scores": [score],
        "heads": made_heads(value),
        "failures": [],
        "notes": [],
        "arguments": {},
        "resolved": {"encoder": {"name": model, **TRANSFORMER}, "test_clips": CLIPS},
        "digests": {"encoder": f"{sum(map(ord, model)):08x}", "test_list": "a", "train_list": "b"},
        "versions": {},
        "hardware": {},
        "git_revision": None,
        "cost": COST,
    }
    readings = made_readings(controls, predictions, len(classes))
    readings = [replace(reading, further=(reading.answers,) * (probes - 1)) for reading in readings]
    extra["controls"] = [reading.control("top1") for reading in readings]

    def add_controls(folder: Path) -> None:
        write_readings(folder, readings)

    return write_record(results, Record(**{**defaults, **extra, **fields}), predictions, add_controls, further)


def made_results(results: Path, models: int = 3, seeds: int = 2, probes: int = 1) -> Path:
    """A folder in which every kind of plot has something to show."""
    for number in range(models):
        part = number / max(1, models - 1)
        for seed in range(seeds):
            made_run(results, f"model-{number}", "made-motion", 0.2 + 0.7 * part, seed=seed, probes=probes)
            made_run(results, f"model-{number}", "made-appearance", 0.6 - 0.3 * part**2, seed=seed, probes=probes)
    points = [
        CurvePoint(samples=1000 * step, step=step, task=task, axis=axis, score=20.0 + step, low=15.0 + step,
                   high=25.0 + step)
        for task, axis in TASKS.items()
        for step in (0, 10, 20)
    ]  # fmt: skip
    write_curve(results / "curves" / "made-1a2b3c-attentive", points, curve_pictures, title="made")
    return results
