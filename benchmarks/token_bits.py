# python -m benchmarks.token_bits --data ../shared/data/moving_signs --jobs 2      (two CPU cores: minutes)
"""Tokens stored in 8 bits against those in fp16: size, speed, and what it does to accuracy.

Speed is measured on random tokens, both sides in turns in one process. Accuracy is that of one recipe on the same
clips, once from each storage, for several seeds (which draw the held-out samples, the probe's weights and the order).
All seeds see the same test samples, so the interval of the mean change is one over samples, each with its mean over the
seeds. One sample of n is 100 / n points.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.core.progress import Silent
from bench.features.store import FeatureSet, Store, items_per_shard
from bench.metrics.intervals import bootstrap_interval
from bench.pipeline.plan import make_plan
from bench.pipeline.run import extract_features, measure, prepare, prepare_encoder
from bench.probing.scoring import predict
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from benchmarks.ratios import Ratio, ratio_of
from benchmarks.read_features import timed

BITS = (16, 8)
BATCH = 64
CASES = (
    {"name": "ViT-S at 112 px", "samples": 512, "tokens": 392, "dim": 384},
    {"name": "ViT-L at 224 px", "samples": 128, "tokens": 1568, "dim": 1024},
)
STEPS = ("writing", "reading", "opening and reading from the disk,")
WAYS = ("same probe", "trained anew")
"""What reads the 8-bit test tokens: the probe that was trained on fp16 ones, or one that was trained on 8-bit ones."""
ONE_SETTING = {"probe.lr": 1e-3, "probe.weight_decay": 0.1}
"""Of the recipe's sweep. Among twenty near-equal ones, any rounding may tip the choice, and with it many answers."""
MODELS = ("vjepa-nano", "pixel-nano")


def ratios(runs: int) -> list[Ratio]:
    """Writing, reading what memory holds, and opening (which compares checksums) and reading what it does not."""
    rows = []
    for case in CASES:
        shape = (case["samples"], 1, case["tokens"], case["dim"])
        values = np.random.default_rng(0).standard_normal(shape, np.float32).astype(np.float16)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as folder:
            measured = [{bits: step_seconds(Path(folder), values, bits) for bits in BITS} for _ in range(runs + 1)][1:]
        for step in STEPS:
            fp16, ours = ([run[bits][step] for run in measured] for bits in BITS)
            rows.append(ratio_of(f"{step} 8-bit tokens, {case['name']}", "the same in fp16", fp16, ours))
    return rows


def step_seconds(folder: Path, values: NDArray[np.float16], bits: int) -> dict[str, float]:
    """Seconds of each of STEPS with tokens [n, 1, N, D]."""
    keys = [f"{i}/0" for i in range(len(values))]
    fields = {"dtype": "int8" if bits == 8 else "fp16"}
    size = items_per_shard(values[0].nbytes)

    def write() -> None:
        store = Store(folder, fields)
        for start in range(0, len(keys), size):
            store.add(keys[start : start + size], values[start : start + size])

    def opened() -> FeatureSet:
        store = Store(folder, fields)
        store.open(keys)
        return FeatureSet(store, [[key] for key in keys])

    def read(features: FeatureSet) -> None:
        for rows in np.random.RandomState(0).permutation(len(keys)).reshape(-1, BATCH):
            features.read(rows, 0)

    written_s, features = timed(write), opened()
    read(features)
    read_s = timed(partial(read, features))
    del features  # mapped files do not leave the memory
    _leave_memory(Store(folder, fields).folder)
    return dict(zip(STEPS, (written_s, read_s, timed(lambda: read(opened()))), strict=True))


def _leave_memory(folder: Path) -> None:
    """Bring the files to the disk, and ask the system to drop what it holds of them in memory."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plan_of(arguments: argparse.Namespace, model: str, seed: int, bits: int) -> RunPlan:
    """One run of the accuracy's."""
    data, label = arguments.data, arguments.label
    options = {
        "task": "custom",
        "name": f"moving-signs-{label}",
        "axis": label,
        "model": model,
        "probe": arguments.probe,
        "data": data,
        "train": data / f"train_{label}.csv",
        "val": data / f"val_{label}.csv",
        "cache": arguments.cache,
        "device": "cpu",
        "workers": arguments.jobs,
        "seed": seed,
        "token_bits": bits,
        "seeds": 1,
        "settings": {} if arguments.sweep else ONE_SETTING,
    }
    return make_plan(make_options(options))


def outcomes(arguments: argparse.Namespace, model: str, seed: int) -> dict[str, Any]:
    """Of one seed: which test samples are right, and how far the probabilities are from those of fp16 alone.

    The probe that was trained on fp16 tokens reads the test tokens of both storages; another is trained on 8-bit ones.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // arguments.jobs))
    fp16, ours = (prepare(plan_of(arguments, model, seed, bits), Silent()) for bits in BITS)
    trained = measure(fp16.job, fp16.inputs, Silent())
    probabilities = {
        "fp16": trained.outputs[0],
        "same probe": predict(trained.fitted.probe, ours.inputs.test),
        "trained anew": measure(ours.job, ours.inputs, Silent()).outputs[0],
    }
    labels = np.array([sample.label for sample in fp16.test.samples])
    return {
        "model": model,
        "seed": seed,
        "right": {way: said.argmax(1) == labels for way, said in probabilities.items()},
        "apart": {way: float(np.abs(said - probabilities["fp16"]).mean()) for way, said in probabilities.items()},
    }


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a seed gave, as it is printed."""
    before = found["right"]["fp16"]
    return [
        {
            "model": found["model"],
            "seed": found["seed"],
            "way": way,
            "n": len(before),
            "fp16": round(100 * float(before.mean()), 3),
            "8bit": round(100 * float(after.mean()), 3),
            "lost": int((before & ~after).sum()),
            "won": int((after & ~before).sum()),
            "mean_abs_probability_change": found["apart"][way],
        }
        for way, after in found["right"].items()
        if way != "fp16"
    ]


def summary_of(found: list[dict[str, Any]], way: str) -> dict[str, Any]:
    """The mean change of an encoder's accuracy over its seeds, in points, and its 95 % interval over samples."""
    changes = np.mean([one["right"][way].astype(float) - one["right"]["fp16"] for one in found], axis=0)
    low, high = bootstrap_interval(100 * changes)
    scores = [100 * one["right"]["fp16"].mean() for one in found]
    return {
        "model": found[0]["model"],
        "way": way,
        "seeds": len(found),
        "n": len(changes),
        "fp16": round(float(np.mean(scores)), 3),
        "change": round(100 * float(changes.mean()), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "sd_over_seeds_fp16": round(float(np.std(scores, ddof=1)), 3) if len(scores) > 1 else None,
        "mean_abs_probability_change": float(np.mean([one["apart"][way] for one in found])),
    }


def sizes(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Bring the tokens of every encoder into the cache, and say what they take there in each storage."""
    rows = []
    for model in arguments.models:
        taken = {}
        for bits in BITS:
            plan = plan_of(arguments, model, 0, bits)
            parts = extract_features(plan, prepare_encoder(plan), Silent())
            folders = {part.space: plan.cache / "features" / part.space for part in parts}.values()
            taken[bits] = sum(path.stat().st_size for folder in folders for path in folder.glob("*.npy"))
        rows.append({"model": model, "fp16_bytes": taken[16], "8bit_bytes": taken[8], "share": taken[8] / taken[16]})
    return rows


def main() -> None:
    """Measure size and accuracy, and print them as JSON lines and a table; `python -m benchmarks` measures speed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.token_bits", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/moving_signs"))
    parser.add_argument("--label", choices=("motion", "appearance"), default="motion")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--probe", default="sweep")
    parser.add_argument("--sweep", action="store_true", help="choose among the recipe's settings in place of one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=2, help="processes that train probes at once")
    parser.add_argument("--cache", type=Path, help="where features are kept; default as for bench run")
    arguments = parser.parse_args()
    for row in sizes(arguments):
        print(json.dumps(row), flush=True)
    cases = [(model, seed) for model in arguments.models for seed in arguments.seeds]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(outcomes, arguments, *case) for case in cases]
        found = []
        for future in futures:
            found.append(future.result())
            for row in rows_of(found[-1]):
                print(json.dumps(row), flush=True)
    summaries = [
        summary_of([one for one in found if one["model"] == model], way) for model in arguments.models for way in WAYS
    ]
    for summary in summaries:
        print(json.dumps(summary))
    Console().print(as_table(summaries))


def as_table(summaries: list[dict[str, Any]]) -> Table:
    """One line an encoder."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("encoder", "probe", "seeds x n", "fp16, %", "sd", "change", "95 %", "mean |dp|"):
        table.add_column(column, justify="left" if column in ("encoder", "probe") else "right")
    for row in summaries:
        spread = "" if row["sd_over_seeds_fp16"] is None else f"{row['sd_over_seeds_fp16']:.2f}"
        interval = f"{row['low']:+.2f}, {row['high']:+.2f}"
        apart = f"{row['mean_abs_probability_change']:.5f}"
        count = f"{row['seeds']} x {row['n']}"
        table.add_row(
            row["model"], row["way"], count, f"{row['fp16']:.1f}", spread, f"{row['change']:+.3f}", interval, apart
        )
    return table


if __name__ == "__main__":
    main()
