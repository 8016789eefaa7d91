# python -m benchmarks.load_records      (about two minutes; the index at least 5 times as fast)
"""Loading thousands of records: from the index, against reading every record and its predictions.

Both sides take turns in one process, on files that the system has in memory; the ratio of the medians is what counts.
Then the whole command, `bench leaderboard`, with the index in place.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.analysis.select import load_board
from bench.metrics.accuracy import ClassAnswers, class_answers
from bench.metrics.seed_scores import score_all
from bench.records.index import INDEX_NAME, examine, read_runs
from bench.records.schema import Cost, Head, Record
from bench.records.write import write_record

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 10
SAMPLES = 800


def write_records(folder: Path, models: int, tasks: int, seeds: int) -> int:
    """Write a record with predictions for every model, task and seed; return how many."""
    stream = np.random.default_rng(0)
    labels = stream.integers(0, CLASSES, SAMPLES)
    runs = list(product(range(models), range(tasks), range(seeds)))
    for number, (model, task, seed) in enumerate(runs):
        right = stream.random(SAMPLES) < 0.4 + 0.4 * model / models + 0.1 * task / tasks
        guesses = np.where(right, labels, (labels + 1) % CLASSES)
        probabilities = np.eye(CLASSES, dtype=np.float32)[guesses]
        predictions = class_answers([f"clip_{i}" for i in range(SAMPLES)], labels.tolist(), probabilities)
        write_record(folder, _record(number, f"model-{model}", task, seed, predictions), predictions)
    return len(runs)


def _record(number: int, model: str, task: int, seed: int, predictions: ClassAnswers) -> Record:
    return Record(
        run_id=f"run-{number:05d}",
        created="2026-01-02T03:04:05+00:00",
        task=f"task-{task}",
        axis=("motion", "appearance")[task % 2],
        model=model,
        probe="attentive",
        protocol="attentive/1 1x1 center",
        seed=seed,
        input="8x16px",
        num_train=1600,
        num_classes=CLASSES,
        class_names=[f"class {i}" for i in range(CLASSES)],
        scores=score_all(predictions, 0).scores,
        heads=[Head(lr=1e-3, weight_decay=0.1, held_out_accuracy=50.0, held_out_loss=1.0, train_loss=1.0)] * 20,
        failures=[],
        notes=[],
        arguments={"task": f"task-{task}", "model": model, "seed": seed},
        resolved={"task": {"name": f"task-{task}"}, "encoder": {"report": {"file": "model.pth.tar", "notes": []}}},
        digests={"encoder": model, "train_list": "a" * 64, "test_list": "b" * 64},
        versions={"vjepa-bench": "0.1.0"},
        hardware={"device": "cpu"},
        git_revision=None,
        cost=Cost(
            encoder_clips=2400,
            cached_clips=0,
            extract_s=8.0,
            probe_s=30.0,
            total_s=40.0,
            peak_memory_bytes=10**9,
            feature_bytes=10**7,
        ),
    )


def measure(models: int, tasks: int, seeds: int, rounds: int = 3) -> dict[str, float]:
    """Median seconds of both sides, of a whole board, and of the command."""
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "results", Path(name) / "cache"
        count = write_records(folder, models, tasks, seeds)
        index = cache / INDEX_NAME
        os.environ["BENCH_CACHE"] = str(cache)
        started = time.perf_counter()
        read_runs([folder], index)
        first_s = time.perf_counter() - started
        times: dict[str, list[float]] = {"all_s": [], "index_s": [], "board_s": [], "command_s": []}
        command = [sys.executable, "-m", "bench", "leaderboard", "--results", str(folder), "--format", "json"]
        for _ in range(rounds):
            for side, work in (
                ("all_s", lambda: [examine(path) for path in sorted(folder.glob("*/record.json"))]),
                ("index_s", lambda: read_runs([folder], index)),
                ("board_s", lambda: load_board([folder])),
                ("command_s", lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True)),
            ):
                started = time.perf_counter()
                work()
                times[side].append(time.perf_counter() - started)
    medians = {side: statistics.median(values) for side, values in times.items()}
    return {"records": count, "first_s": first_s, **medians, "ratio": medians["all_s"] / medians["index_s"]}


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = measure(options.models, options.tasks, options.seeds)
    if options.json:
        print(json.dumps(found))
        return
    table = Table(title=f"{found['records']:,} records with {SAMPLES} predictions each", show_header=False)
    table.add_row("reading every record and its predictions", f"{found['all_s']:.2f} s")
    table.add_row("from the index", f"{found['index_s']:.3f} s")
    table.add_row("ratio", f"{found['ratio']:.0f}x")
    table.add_row("the first time, index written", f"{found['first_s']:.2f} s")
    table.add_row("whole board with ranks", f"{found['board_s']:.2f} s")
    table.add_row("bench leaderboard --format json", f"{found['command_s']:.2f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
