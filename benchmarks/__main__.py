# python -m benchmarks [NAME ...] [--json out.json] [--runs 5]
"""Every claim of speed in one table: ratios against named references, each measured in turns in one process."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.core.files import atomic_write
from benchmarks.ratios import Ratio

NAMES = (
    "fused_sweep",
    "encoder_forward",
    "whole_evaluation",
    "load_views",
    "augment",
    "read_features",
    "token_bits",
    "prepare",
    "pipeline",
    "growth",
    "instrument",
)
"""Modules with a function `ratios(runs)`."""


def main() -> None:
    """Measure, print a table, and write the ratios as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}; all by default")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side after the first, which is not counted")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark '{unknown[0]}'; known: {', '.join(NAMES)}")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    found: list[Ratio] = []
    for name in options.names or NAMES:
        started = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, flush=True)
        found += measured(name, options.runs)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if options.json:  # after each, so that a failure loses nothing
            with atomic_write(options.json) as temporary:
                temporary.write_text(json.dumps([asdict(ratio) for ratio in found], indent=1), encoding="utf-8")
    Console().print(as_table(found))


def measured(name: str, runs: int) -> list[Ratio]:
    """The ratios of one module, with as many threads as before."""
    threads = torch.get_num_threads()
    try:
        ratios: list[Ratio] = importlib.import_module(f"benchmarks.{name}").ratios(runs)
    finally:
        torch.set_num_threads(threads)
    return ratios


def as_table(found: list[Ratio]) -> Table:
    """One row a claim."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("what", "times as fast", "runs from, to", "as", "on"):
        table.add_column(column, justify="right" if column in ("times as fast", "runs from, to") else "left")
    for ratio in found:
        spread = f"{ratio.low:.2f}, {ratio.high:.2f}"
        table.add_row(ratio.name, f"{ratio.ratio:.2f}", spread, ratio.reference, ratio.device)
    return table


if __name__ == "__main__":
    main()
