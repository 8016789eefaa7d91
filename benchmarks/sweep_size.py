# python -m benchmarks.sweep_size      (two CPU cores: about a minute and a half; --device cuda on a GPU)
"""What a step of a fused probe sweep takes as settings and tokens grow: seconds, memory, and share of the bandwidth.

Memory is what torch allocates during a step beyond what is there before it (weights, gradients, moments, the batch),
counted allocation by allocation, so that it is the same on every run. The share of the bandwidth is that of the tokens
(read once forwards and once backwards) in what a plain copy of a large array moves in the same time.

Shapes: S settings, N tokens of a clip.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from bench.cards.load import load_probe_card
from bench.probing.attentive import AttentiveSweep, initial_weights
from bench.probing.loop import SweepOptimiser

DIM, HEADS, CLASSES = 384, 6, 174
SETTINGS = (1, 5, 20)
TOKENS = (1568, 4096, 8192, 16384)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
COPIED_BYTES = 1 << 29


def step_of(settings: int, tokens: torch.Tensor, device: str) -> tuple[Callable[[], None], int]:
    """A step of a sweep of the first `settings` of the recipe's on tokens [B, N, D], and the bytes that its weights,
    gradients and moments take."""
    recipe = load_probe_card("sweep").optimisation
    assert recipe is not None
    weights = {name: value.to(device) for name, value in initial_weights(DIM, CLASSES, seed=0).items()}
    sweep = AttentiveSweep(weights, settings, HEADS)
    optimiser = SweepOptimiser(sweep.stack, recipe, recipe.settings[:settings], epochs=20, steps_per_epoch=100)
    labels = torch.arange(len(tokens), device=device) % CLASSES

    def step() -> None:
        sweep.backward(tokens, labels)
        optimiser.step()

    return step, 4 * 4 * settings * sum(value.numel() for value in weights.values())


def measure(
    settings: int,
    num_tokens: int,
    clips: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    runs: int = 3,
) -> dict[str, Any]:
    """Median seconds of a step after two that are not counted, its memory, and the tokens' size."""
    torch.manual_seed(0)
    tokens = torch.randn(clips, num_tokens, DIM, device=device).to(dtype)
    step, probe_bytes = step_of(settings, tokens, device)
    step()
    peak = allocated_peak(step, device)
    seconds = statistics.median(timed(step, device) for _ in range(runs))
    facts = {"settings": settings, "num_tokens": num_tokens, "clips": clips, "dtype": str(dtype).removeprefix("torch.")}
    sizes = {"step_bytes": peak, "token_bytes": tokens.nbytes, "probe_bytes": probe_bytes}
    return {**facts, "device": device, "step_s": seconds, "runs": runs, **sizes}


def allocated_peak(act: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes that torch has allocated at once while `act` goes on, beyond those at its start."""
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        act()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        act()
    # The public events are those of operations; only here are allocations and releases in their order.
    recorded = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(event.start_ns(), event.nbytes()) for event in recorded if event.name() == "[memory]"]
    return max(accumulate(size for _, size in sorted(changes, key=lambda change: change[0])), default=0)


def timed(act: Callable[[], object], device: str) -> float:
    """Seconds of one call, with all that it started on the device."""
    started = time.perf_counter()
    act()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def copy_rate(device: str, runs: int = 5) -> float:
    """Bytes a second that a copy within the device's memory reads and writes."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    seconds = [timed(lambda: target.copy_(source), device) for _ in range(runs + 1)]
    return 2 * COPIED_BYTES / statistics.median(seconds[1:])


def main() -> None:
    """Measure and print three tables, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep_size", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    given = {"device": options.device, "runs": options.runs}
    rate = copy_rate(options.device)
    rows = {
        "settings": [measure(settings, 1568, 8, **given) for settings in SETTINGS],
        "tokens of a clip": [measure(SETTINGS[-1], num_tokens, 2, **given) for num_tokens in TOKENS],
        "type of the tokens": [measure(SETTINGS[-1], 1568, 8, dtype=dtype, **given) for dtype in DTYPES],
    }
    if options.json:
        print(json.dumps({"torch": torch.__version__, "copy_bytes_per_s": rate, **rows}))
        return
    place = options.device if options.device != "cpu" else f"{torch.get_num_threads()} CPU threads"
    console = Console()
    console.print(f"D = {DIM}, {HEADS} heads; {place}; a copy moves {rate / 2**30:.1f} GiB/s")
    for title, measured in rows.items():
        console.print(as_table(title, measured, rate))


def as_table(title: str, rows: list[dict[str, Any]], rate: float) -> Table:
    """One line a measurement."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in (
        "S",
        "clips x N",
        "tokens",
        "probes, MiB",
        "batch, MiB",
        "step, MiB",
        "step, s",
        "ns a token",
        "share",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        num_tokens = row["clips"] * row["num_tokens"]
        share = 2 * row["token_bytes"] / row["step_s"] / rate
        sizes = (f"{row[name] / 2**20:.1f}" for name in ("probe_bytes", "token_bytes", "step_bytes"))
        cells = (str(row["settings"]), f"{row['clips']} x {row['num_tokens']}", row["dtype"], *sizes)
        table.add_row(*cells, f"{row['step_s']:.3f}", f"{row['step_s'] / num_tokens * 1e9:.0f}", f"{100 * share:.1f} %")
    return table


if __name__ == "__main__":
    main()
