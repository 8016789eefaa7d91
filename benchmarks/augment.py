# python -m benchmarks.augment      (about 2 minutes; at least 2x)
"""Augmenting and cropping training clips, against the official chain, which goes frame by frame.

The chain makes of 16 decoded frames what the official code makes of them: PIL images, timm's operations on each at full
resolution, tensors, normalised, cropped and resized as floats. Our side is what a training plan does with the same
frames and the same draws in a worker ("views"), and that together with `finish`, which normalises, erases, and runs on
the encoder's device. The sides take turns in one process on one thread, each over the same 48 draws; the ratio of the
medians is what counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.video.clip_views import VideoItem
from bench.video.train_views import TrainViews, VideoView
from bench.video.views import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.ratios import Ratio, ratio_of
from tests.video.timm_chain import blurred_noise, official_clip

CPU = torch.device("cpu")
CASES = ((128, 170), (240, 320), (256, 340))
"""Height and width of the frames, pixels."""
FRAMES, SIZE, DRAWS = 16, 224, 48
PLAN = TrainViews(FRAMES, frame_step=4, num_segments=1, size=SIZE, policy="official-video", seed=0)
ITEMS = [VideoItem(str(number), "") for number in range(DRAWS)]


def ratios(runs: int) -> list[Ratio]:
    """A ratio for each size of frames, on one thread, normalisation and erasing included."""
    torch.set_num_threads(1)
    rows = [measure(height, width, runs) for height, width in CASES]
    title, reference = "training views", "the official chain, frame by frame"
    return [ratio_of(f"{title}, {r['height']} x {r['width']}", reference, r["chain"], r["ours"]) for r in rows]


def measure(height: int, width: int, runs: int) -> dict[str, Any]:
    """Milliseconds a clip of all sides, in turns after one warm-up each: medians, and every run of both."""
    frames = blurred_noise(FRAMES, height, width)
    drawn = [PLAN.draw_view(item, 0, height, width) for item in ITEMS]
    milliseconds: dict[str, list[float]] = {"chain": [], "views": [], "finish": []}
    for run in range(runs + 1):
        spent = dict.fromkeys(milliseconds, 0.0)
        for item, view in zip(ITEMS, drawn, strict=True):
            assert isinstance(view, VideoView)
            started = time.perf_counter()
            official_clip(frames, view, SIZE)
            chain = time.perf_counter()
            pixels = torch.from_numpy(view.apply(frames, SIZE)).reshape(1, *PLAN.shape[2:])
            views = time.perf_counter()
            list(PLAN.finish(pixels, [item], IMAGENET_MEAN, IMAGENET_STD, 1, CPU))
            for name, seconds in (("chain", chain - started), ("views", views - chain)):
                spent[name] += seconds
            spent["finish"] += time.perf_counter() - views
        if run:
            for name, seconds in spent.items():
                milliseconds[name].append(1e3 * seconds / DRAWS)
    chain, views, rest = (statistics.median(values) for values in milliseconds.values())
    return {
        "height": height,
        "width": width,
        "runs": runs,
        "chain_ms": chain,
        "views_ms": views,
        "finish_ms": rest,
        "ratio_views": chain / views,
        "ratio_all": chain / (views + rest),
        "chain": milliseconds["chain"],
        "ours": [sum(pair) for pair in zip(milliseconds["views"], milliseconds["finish"], strict=True)],
    }


def main() -> None:
    """Measure every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=int, default=5, help="runs of each side after the first, which is not counted")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(height, width, options.runs) for height, width in CASES]
    if options.json:
        print(json.dumps({"frames": FRAMES, "size": SIZE, "draws": DRAWS, "cases": rows}))
        return
    table = Table(title=f"Training clips of {FRAMES} frames, cropped to {SIZE} pixels; milliseconds a clip, one thread")
    for column in ("frames", "chain", "views", "finish", "chain : views", "chain : views + finish"):
        table.add_column(column, justify="right")
    for row in rows:
        milliseconds = (f"{row[name]:.1f}" for name in ("chain_ms", "views_ms", "finish_ms"))
        ratios = (f"{row[name]:.1f}x" for name in ("ratio_views", "ratio_all"))
        table.add_row(f"{row['height']} x {row['width']}", *milliseconds, *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
