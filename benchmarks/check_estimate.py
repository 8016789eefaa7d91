# python -m benchmarks.check_estimate      (about 6 minutes on two quiet cores; every part within 25 %)
"""Estimates against what they foretell: `bench estimate`, then the same `bench run` with nothing in the cache.

Each command is a process of its own. Clips and bytes must be equal; of seconds, the relative error is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ALLOWED = 0.25
_LONG_S = 2.0
"""Parts that take less are shown, and not judged: nobody plans for them."""
_BRIEF = ["--set", "probe.min_steps=20", "--set", "probe.epochs=2"]


@dataclass(frozen=True)
class Case:
    """A run that is estimated and made."""

    name: str
    arguments: Sequence[str]


def cases(data: Path) -> dict[str, Case]:
    """By name; those on real clips only where the folder of sample data has them."""
    found = [
        Case(f"digits-motion, {model}", ["--task", "digits-motion", "--model", model])
        for model in ("vjepa-nano", "pixel-nano")
    ]
    if (signs := data / "moving_signs").is_dir():
        lists = ["--train", str(signs / "train_motion.csv"), "--val", str(signs / "val_motion.csv")]
        custom = ["--task", "custom", "--data", str(signs), *lists]
        found.append(Case("moving_signs, vjepa-nano", [*custom, "--model", "vjepa-nano"]))
    if (photos := data / "photo_motion").is_dir():
        model = "timm:vit_tiny_patch16_224+untrained"
        custom = ["--task", "custom", "--data", str(photos), "--limit", "40"]
        found.append(Case(f"photo_motion, 40 videos, {model}", [*custom, "--model", model, *_BRIEF]))
        several = ["--set", "clip.segments=2", "--set", "clip.views=3", "--limit", "40"]
        custom = ["--task", "custom", "--data", str(photos), *several]
        found.append(Case("photo_motion, 40 videos, 2x3, random:vit_tiny", [*custom, "--model", "random:vit_tiny",
                                                                          *_BRIEF]))  # fmt: skip
    return {case.name: case for case in found}


def main() -> None:
    """Estimate and run every case, print a table, end with 1 where one is off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check_estimate", description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with moving_signs/ and photo_motion/")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    rows = [row for name, case in cases(options.data).items() if options.only in name for row in check(case)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    Console().print(as_table(rows))
    sys.exit(any(row["off"] for row in rows))


def check(case: Case) -> list[dict[str, Any]]:
    """A row for each part of a case."""
    with tempfile.TemporaryDirectory() as folder:
        made = _bench("estimate", case.arguments, folder)
        (record,) = _bench("run", [*case.arguments, "--results", f"{folder}/results"], folder)
    cost = record["cost"]
    counts = [("clips", made["clips"], cost["encoder_clips"]), ("bytes", made["feature_bytes"], cost["feature_bytes"])]
    seconds = {name: 3600 * span["value"] for name, span in made["hours"].items()}
    times = [
        ("extract, s", seconds["extract"], cost["extract_s"]),
        ("probes, s", seconds["probes"], cost["probe_s"]),
        ("total, s", seconds["total"], cost["total_s"]),
    ]
    return [
        {"case": case.name, "part": part, "estimate": ours, "run": real, "error": ours / real - 1, "off": off}
        for parts, limit in ((counts, 0.0), (times, ALLOWED))
        for part, ours, real in parts
        for off in [abs(ours / real - 1) > limit and (limit == 0 or real > _LONG_S)]
    ]


def _bench(command: str, arguments: Sequence[str], folder: str) -> Any:
    """What a command prints as JSON, with a cache of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    call = [sys.executable, "-m", "bench", command, *arguments, "--cache", f"{folder}/cache", "--json"]
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(call)}\n{done.stderr}")
    return json.loads(done.stdout)


def as_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One row a part."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("case", "part", "estimate", "run", "error", ""):
        table.add_column(column, justify="left" if column in ("case", "part", "") else "right")
    for row in rows:
        numbers = [f"{row[name]:,.0f}" if row[name] >= 100 else f"{row[name]:.1f}" for name in ("estimate", "run")]
        off = "off" if row["off"] else ""
        table.add_row(row["case"], row["part"], *numbers, f"{100 * row['error']:+.1f} %", off)
    return table


if __name__ == "__main__":
    main()
