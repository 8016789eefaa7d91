# python -m benchmarks.fused_sweep      (two CPU cores: about 5 minutes; at least 15x at D = 384, 12x at D = 1024)
"""One optimiser step of a sweep of twenty attentive probes, against a loop over twenty plain modules.

Both sides do the whole step (forward, backward, clipping, AdamW with a learning rate and weight decay of its own for
each setting) on the same tokens, in turns in one process; the ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.cards.load import load_probe_card
from bench.probing.attentive import AttentiveSweep, initial_weights
from bench.probing.loop import SweepOptimiser, setting_losses
from benchmarks.ratios import Ratio, ratio_of
from tests.probing.reference import ReferenceProbe

CASES = ({"dim": 384, "heads": 6, "runs": 5}, {"dim": 1024, "heads": 16, "runs": 3})
NUM_TOKENS, BATCH, CLASSES = 1568, 8, 174


def fused_step(dim: int, heads: int, tokens: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step of the fused sweep."""
    recipe = load_probe_card("sweep").optimisation
    assert recipe is not None
    sweep = AttentiveSweep(initial_weights(dim, CLASSES, seed=0), len(recipe.settings), heads)
    optimiser = SweepOptimiser(sweep.stack, recipe, recipe.settings, epochs=20, steps_per_epoch=100)

    def step() -> None:
        sweep.stack.backward(setting_losses(sweep.logits(tokens), labels))
        optimiser.step()

    return step


def loop_step(dim: int, heads: int, tokens: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step of twenty modules, one after the other."""
    recipe = load_probe_card("sweep").optimisation
    assert recipe is not None
    initial = initial_weights(dim, CLASSES, seed=0)
    pairs = []
    for setting in recipe.settings:
        probe = ReferenceProbe(dim, CLASSES, heads)
        probe.load_state_dict(initial)
        decayed = [p for name, p in probe.named_parameters() if p.ndim != 1 and "bias" not in name]
        rest = [p for name, p in probe.named_parameters() if p.ndim == 1 or "bias" in name]
        groups = [{"params": decayed, "weight_decay": setting.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        pairs.append((probe, torch.optim.AdamW(groups, lr=setting.lr)))

    def step() -> None:
        for probe, optimiser in pairs:
            optimiser.zero_grad()
            F.cross_entropy(probe(tokens), labels).backward()
            torch.nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
            optimiser.step()

    return step


def ratios(runs: int) -> list[Ratio]:
    """A ratio for each width."""
    rows = [measure(**{**case, "runs": runs}) for case in CASES]
    reference = "a loop over twenty plain modules"
    return [ratio_of(f"probe sweep of 20, D = {row['dim']}", reference, row["loop"], row["fused"]) for row in rows]


def measure(dim: int, heads: int, runs: int) -> dict[str, Any]:
    """Seconds of both sides, in turns after one warm-up each, and their medians."""
    torch.manual_seed(0)
    tokens = torch.randn(BATCH, NUM_TOKENS, dim)
    labels = torch.randint(0, CLASSES, (BATCH,))
    sides = {make.__name__: make(dim, heads, tokens, labels) for make in (fused_step, loop_step)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, step in sides.items():
            started = time.perf_counter()
            step()
            if run:
                seconds[name].append(time.perf_counter() - started)
    fused, loop = (statistics.median(seconds[name]) for name in sides)
    medians = {"fused_s": fused, "loop_s": loop, "ratio": loop / fused}
    times = {"fused": seconds["fused_step"], "loop": seconds["loop_step"]}
    return {"dim": dim, "heads": heads, "runs": runs, **medians, **times}


def main() -> None:
    """Measure every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--dim", type=int, choices=[case["dim"] for case in CASES], help="measure this width only")
    options = parser.parse_args()
    rows = [measure(**case) for case in CASES if options.dim in (None, case["dim"])]
    if options.json:
        print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "cases": rows}))
        return
    table = Table(title=f"Sweep of 20: {BATCH} clips x {NUM_TOKENS} tokens, {torch.get_num_threads()} CPU threads")
    for column in ("D", "heads", "loop, s", "fused, s", "ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = (f"{row['loop_s']:.2f}", f"{row['fused_s']:.3f}", f"{row['ratio']:.1f}x")
        table.add_row(str(row["dim"]), str(row["heads"]), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
