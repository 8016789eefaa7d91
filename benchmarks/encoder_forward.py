# python -m benchmarks.encoder_forward      (two CPU cores: about 3 minutes, most of it torch.compile; bf16 at least
# 1.8x fp32 where the processor has it; ViT-L on a large GPU: at least 0.55 of the peak)
"""The forward pass of a V-JEPA encoder in fp32, in bf16, and in bf16 under torch.compile, in turns in one process.

Clips are 16 x 224 x 224; the weights are random. ViT-L on a CUDA device, ViT-B on a CPU, where an encoder sees one clip
at a time. The share of the peak is that of the best rate of large matrix products in the same precision.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.table import Table

from bench.core.errors import BenchError
from bench.core.machine import choose_device
from bench.core.threads import keep_freed_memory
from bench.core.types import Precision
from bench.encoders.contract import Encoder
from bench.encoders.untrained import vjepa_facts
from bench.encoders.vjepa import SIZES, VisionTransformer
from bench.pipeline.speed import usable_precisions
from benchmarks.ratios import Ratio, ratio_of

DEFAULT_SIZES = {"cpu": "vit_base", "cuda": "vit_large"}
CLIPS_AT_ONCE = {"cpu": 1, "cuda": 32}
PRODUCTS = {"cpu": (2048, 4096), "cuda": (4096, 8192)}
"""Sides of the matrices whose products give the peak."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_TITLES = {"fp32": "fp32", "bf16": "bf16", "bf16 compiled": "bf16 + compile"}


@dataclass(frozen=True)
class Forward:
    """One way to compute the forward pass of a batch."""

    seconds: list[float]
    clips: int
    tokens: int
    """Of the batch."""
    peak_s: float
    """What its floating-point operations take in large matrix products of the same precision."""

    @property
    def tokens_per_s(self) -> float:
        """Of the median run."""
        return self.tokens / statistics.median(self.seconds)

    @property
    def share_of_peak(self) -> float:
        """Of the median run."""
        return self.peak_s / statistics.median(self.seconds)


def ratios(runs: int) -> list[Ratio]:
    """bf16 against fp32, compiled against not, and the share of the peak of each."""
    device = choose_device("auto")
    kind = "cuda" if device == "cuda" else "cpu"
    size = DEFAULT_SIZES[kind]
    found = measure(size, kind, runs)
    rows = []
    for ours, theirs in (("bf16", "fp32"), ("bf16 compiled", "bf16")):
        if ours in found and theirs in found:
            name = f"forward pass of {size}, {_TITLES[ours]}"
            rows.append(ratio_of(name, f"the same in {_TITLES[theirs]}", found[theirs].seconds, found[ours].seconds))
    for name, forward in found.items():
        title, reference = f"{size} {_TITLES[name]}, share of peak", "large matrix products in the same precision"
        rows.append(ratio_of(title, reference, [forward.peak_s] * len(forward.seconds), forward.seconds))
    where = torch.cuda.get_device_name() if kind == "cuda" else None
    return [replace(row, device=where) if where else row for row in rows]


def measure(size: str, device: str, runs: int, *, compiling: bool = True) -> dict[str, Forward]:
    """Seconds of `runs` runs of each way, in turns, after one that is not counted: fp32, bf16, bf16 compiled."""
    keep_freed_memory()  # as the runs of the suite do
    encoder = random_encoder(size).to(device)
    spec = encoder.input_spec
    shape = (CLIPS_AT_ONCE[device], 3, spec.num_frames, spec.resolution, spec.resolution)
    clips = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    ways: dict[str, tuple[Encoder, Precision]] = {"fp32": (encoder, "fp32")}
    if "bf16" in usable_precisions(encoder.device):
        ways["bf16"] = (encoder, "bf16")
        if compiling:
            ways["bf16 compiled"] = (encoder.compiled(len(clips)), "bf16")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, (one, precision) in list(ways.items()):
            one.to(device, precision)
            try:
                taken = timed(lambda one=one: one(clips), device)
            except BenchError as error:  # no compiler
                print(f"{name} is left out: {error}")
                del ways[name], seconds[name]
                continue
            if run:
                seconds[name].append(taken)
    num_tokens = encoder.facts.num_tokens(*clips.shape[2:])
    flops = len(clips) * encoder.facts.flops(num_tokens)
    peaks = {precision: matrix_peak(device, precision) for precision in {precision for _, precision in ways.values()}}
    return {
        name: Forward(times, len(clips), len(clips) * num_tokens, flops / peaks[ways[name][1]])
        for name, times in seconds.items()
    }


def random_encoder(size: str) -> Encoder:
    """A V-JEPA encoder of a size of `bench.encoders.vjepa.SIZES` with random weights."""
    torch.manual_seed(0)
    return Encoder(vjepa_facts(size, SIZES[size]), VisionTransformer(SIZES[size]))


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds until the device is done."""
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matrix_peak(device: str, precision: Precision) -> float:
    """Floating-point operations a second of matrix products: the best of several."""
    best = 0.0
    for side in PRODUCTS[device]:
        a, b = (torch.randn(side, side, device=device, dtype=_DTYPES[precision]) for _ in range(2))
        seconds = [timed(lambda a=a, b=b: a @ b, device) for _ in range(10 if device == "cuda" else 4)]
        best = max(best, 2.0 * side**3 / min(seconds))
    return best


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=tuple(DEFAULT_SIZES), help="CUDA where present by default")
    parser.add_argument("--size", choices=tuple(SIZES), help="of the encoder")
    parser.add_argument("--runs", type=int, default=5, help="runs of each after the first, which is not counted")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = options.size or DEFAULT_SIZES[device]
    found = measure(size, device, options.runs, compiling=not options.no_compile)
    if options.json:
        rows = [
            {"way": name, "tokens_per_s": way.tokens_per_s, "share_of_peak": way.share_of_peak, "seconds": way.seconds}
            for name, way in found.items()
        ]
        print(json.dumps({"torch": torch.__version__, "size": size, "device": device, "ways": rows}))
        return
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    table = Table(title=f"Forward pass of {size}, batches of {CLIPS_AT_ONCE[device]}, {where}")
    for column in ("", "clip, s", "tokens/s", "share of peak", "times fp32"):
        table.add_column(column, justify="right" if column else "left")
    for name, way in found.items():
        share, times = f"{way.share_of_peak:.2f}", f"{way.tokens_per_s / found['fp32'].tokens_per_s:.2f}"
        seconds = f"{statistics.median(way.seconds) / way.clips:.3g}"
        table.add_row(_TITLES[name], seconds, f"{way.tokens_per_s:.0f}", share, times)
    Console().print(table)


if __name__ == "__main__":
    main()
