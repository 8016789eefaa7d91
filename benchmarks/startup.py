# python -m benchmarks.startup      (about five minutes on two cores)
"""Waiting times of the command line: listing, the leaderboard, and `bench run` with a cold and a warm cache.

Start-up is shown beside a bare `python -c pass` and beside `import torch`, measured in turns.
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
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
PYTHON = [sys.executable, "-c", "pass"]
IMPORT_TORCH = [sys.executable, "-c", "import torch"]
BENCH = [sys.executable, "-m", "bench"]


def seconds_of(command: list[str], folder: Path) -> float:
    """Wall time of a command that must succeed."""
    environment = {**os.environ, "BENCH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def measure(runs: int = 7) -> dict[str, float]:
    """Median seconds of each command; the two whole runs are timed once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "bench run, cache cold": seconds_of([*BENCH, "run"], folder),
            "bench run, cache warm": seconds_of([*BENCH, "run"], folder),
        }
        commands = {
            "python -c pass": PYTHON,
            "import torch": IMPORT_TORCH,
            "bench tasks": [*BENCH, "tasks"],
            "bench leaderboard": [*BENCH, "leaderboard"],
        }
        times: dict[str, list[float]] = {title: [] for title in commands}
        for _ in range(runs):
            for title, command in commands.items():
                times[title].append(seconds_of(command, folder))
    return found | {title: statistics.median(values) for title, values in times.items()}


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = measure()
    if options.json:
        print(json.dumps(found))
        return
    table = Table(title="Waiting times", show_header=False)
    for title, seconds in found.items():
        table.add_row(title, f"{seconds:.2f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
