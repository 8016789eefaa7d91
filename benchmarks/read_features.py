# python -m benchmarks.read_features      (seconds; at least 0.7 of a memory copy)
"""Reading stored features in shuffled batches of 64, against a plain memory copy of the same bytes.

Both sides are warm and take turns in one process; the ratio of the medians is what counts. The copy is
`numpy.ndarray.copy` of an array as large as all features, batch by batch: like a read, it gives a new batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.features.store import FeatureSet, Store, items_per_shard
from benchmarks.ratios import Ratio, ratio_of

BATCH = 64
CASES = (
    {"name": "digits, nano encoder", "samples": 2048, "tokens": 64, "dim": 64},
    {"name": "ViT-S at 112 px", "samples": 512, "tokens": 392, "dim": 384},
    {"name": "ViT-L at 224 px", "samples": 128, "tokens": 1568, "dim": 1024},
)


def ratios(runs: int) -> list[Ratio]:
    """A ratio for each size of features."""
    rows = [measure(**case, runs=runs) for case in CASES]
    reference = "a memory copy of the same bytes"
    return [ratio_of(f"reading features, {row['case']}", reference, row["copy"], row["read"]) for row in rows]


def filled_store(folder: Path, samples: int, tokens: int, dim: int) -> FeatureSet:
    """A store of random features, opened as a run opens it."""
    fields = {"samples": samples, "tokens": tokens, "dim": dim}
    stream = np.random.default_rng(0)
    keys = [f"{i}/0" for i in range(samples)]
    size = items_per_shard(2 * tokens * dim)
    store = Store(folder, fields)
    for start in range(0, samples, size):
        part = keys[start : start + size]
        store.add(part, stream.standard_normal((len(part), 1, tokens, dim), np.float32).astype(np.float16))
    store = Store(folder, fields)
    store.open(keys)
    return FeatureSet(store, [[key] for key in keys])


def measure(name: str, samples: int, tokens: int, dim: int, runs: int = 9) -> dict[str, Any]:
    """Seconds of both sides over all batches of an epoch, and their medians."""
    with tempfile.TemporaryDirectory() as folder:
        features = filled_store(Path(folder), samples, tokens, dim)
        order = np.random.RandomState(0).permutation(samples).reshape(-1, BATCH)
        source = np.ones((len(order), BATCH, tokens, dim), np.float16)

        def read() -> None:
            for rows in order:
                features.read(rows, 0)

        def copy() -> None:
            for batch in source:
                batch.copy()

        seconds: dict[str, list[float]] = {"read": [], "copy": []}
        for run in range(runs + 1):
            for side in (read, copy):
                elapsed = timed(side)
                if run:
                    seconds[side.__name__].append(elapsed)
    read_s, copy_s = statistics.median(seconds["read"]), statistics.median(seconds["copy"])
    bandwidth = features.num_bytes / read_s / 2**30
    medians = {"read_s": read_s, "copy_s": copy_s, "ratio": copy_s / read_s, "read_gib_per_s": bandwidth}
    return {"case": name, **medians, **seconds}


def timed(side: Callable[[], None]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    side()
    return time.perf_counter() - started


def main() -> None:
    """Measure every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = [measure(**case) for case in CASES]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"Shuffled batches of {BATCH}: reading against copying the same bytes")
    for column in ("features", "copy, ms", "read, ms", "GiB/s", "ratio"):
        table.add_column(column, justify="left" if column == "features" else "right")
    for row in rows:
        values = (row["copy_s"] * 1e3, row["read_s"] * 1e3, row["read_gib_per_s"], row["ratio"])
        table.add_row(row["case"], *(f"{value:.2f}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
