# python -m benchmarks.pipeline      (about 3 minutes; at least 0.91)
"""Extraction, which decodes and encodes at the same time, against the slower of the two alone.

On a CPU both sides share the cores, so each has one: one decoding process, and an encoder on one thread. On a CUDA
device the encoder is there, and all cores decode. The videos are made: 340x256, 300 frames, H.264. Three encoders make
decoding the slower part, encoding the slower part, and both alike. Decoding alone is the loader without an encoder;
encoding alone is the encoder on clips in memory. What extraction adds is writing features, and waiting. Two cores that
share a cache and memory are not twice as fast as one: so both are also run side by side, without anything that goes
from one to the other, which is as fast as this machine can be.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.encoders import Encoder, load_encoder
from bench.features.extract import ClipsAtOnce, ExtractOptions, clips_at_once, encode, extract, space_fields
from bench.features.half_precision import HalfPrecision
from bench.features.spec import ClipTokens
from bench.features.store import Store
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.loader import LoadedClips, forget_clips, load_clips
from benchmarks.prepare import write_web_video
from benchmarks.ratios import Ratio, ratio_of

CUDA = torch.cuda.is_available()
SPEC = ClipTokens()


@dataclass(frozen=True)
class Case:
    """An encoder, what it sees, and how many videos make a run of some seconds."""

    name: str
    spec: str
    frames: int
    size: int
    videos: int


CASES = (
    (
        Case("ViT-B, 16 x 112 px", "random:vit_base", 16, 112, 512),
        Case("ViT-L, 16 x 224 px", "random:vit_large", 16, 224, 512),
    )
    if CUDA
    else (
        Case("nano, 8 x 16 px", "vjepa-nano", 8, 16, 64),
        Case("ViT-Ti, 8 x 64 px", "random:vit_tiny", 8, 64, 64),
        Case("ViT-S, 8 x 112 px", "random:vit_small", 8, 112, 24),
    )
)


@dataclass(frozen=True)
class Seconds:
    """Of one run over all videos."""

    decode: float
    encode: float
    unconnected: float
    """Both at the same time, each for itself."""
    extract: float


def ratios(runs: int) -> list[Ratio]:
    """The slower part alone, and both side by side, over extraction, for each case."""
    rows = []
    for case, seconds in measured(runs):
        name, ours = f"extraction, {case.name}", [run.extract for run in seconds]
        slower = [max(run.decode, run.encode) for run in seconds]
        rows.append(ratio_of(name, "the slower of decoding and encoding, alone", slower, ours))
        unconnected = [run.unconnected for run in seconds]
        rows.append(ratio_of(name, "decoding and encoding side by side, unconnected", unconnected, ours))
    return rows


def measured(runs: int) -> list[tuple[Case, list[Seconds]]]:
    """The seconds of every case; the measurements of a run follow each other."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = write_web_video(Path(folder) / "source.mp4")
        return [(case, measure(case, source, Path(folder), runs)) for case in CASES]


def measure(case: Case, source: Path, folder: Path, runs: int) -> list[Seconds]:
    """All runs of one case after a first that is not counted."""
    encoder = load_encoder(case.spec).to("cuda" if CUDA else "cpu", "bf16" if CUDA else "fp32")
    plan = ClipPlan(
        frames_per_clip=case.frames, frame_step=4, num_segments=1, views=1, size=case.size, sampling="center",
        seed=0, short_side=None, decoder="auto",
    )  # fmt: skip
    items = [VideoItem(str(number), str(source)) for number in range(case.videos)]
    clips = list(load_clips(items[:1], plan, num_workers=0)) * case.videos
    sides: dict[str, Callable[[], None]] = {
        "decode": lambda: decode_all(items, plan),
        "encode": lambda: encode_all(encoder, items, clips, plan),
        "unconnected": lambda: both(encoder, items, clips, plan),
        "extract": lambda: extract_all(encoder, items, plan, folder / "cache"),
    }
    found = [Seconds(**{name: timed(side) for name, side in sides.items()}) for _ in range(runs + 1)]
    return found[1:]


def workers() -> int:
    """Decoding processes: on a CPU one, which leaves the encoder a core."""
    return max(1, (os.cpu_count() or 2) - 1) if CUDA else 1


def decode_all(items: Sequence[VideoItem], plan: ClipPlan) -> None:
    """The loader alone."""
    for clip in load_clips(items, plan, num_workers=workers()):
        assert clip.pixels is not None, clip.error


def encode_all(encoder: Encoder, items: Sequence[VideoItem], clips: Sequence[LoadedClips], plan: ClipPlan) -> None:
    """The encoder alone, on batches as large as those of an extraction."""
    num_tokens = encoder.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)
    at_once, half = ClipsAtOnce(clips_at_once(encoder, num_tokens)), HalfPrecision(encoder, 16)
    pixels = [plan.unpack(clip.pixels) for clip in clips if clip.pixels is not None]
    requests = [SPEC.request(item) for item in items]
    for start in range(0, len(items), at_once.size):
        some = slice(start, start + at_once.size)
        for features in encode(encoder, pixels[some], requests[some], plan, SPEC, at_once, half):
            features.cpu()


def both(encoder: Encoder, items: Sequence[VideoItem], clips: Sequence[LoadedClips], plan: ClipPlan) -> None:
    """Decoding in a process of its own, while this one encodes."""
    decoding = multiprocessing.get_context("fork").Process(target=decode_all, args=(items, plan))
    decoding.start()
    encode_all(encoder, items, clips, plan)
    decoding.join()
    assert decoding.exitcode == 0


def extract_all(encoder: Encoder, items: Sequence[VideoItem], plan: ClipPlan, cache: Path) -> None:
    """Both, and the features on disk."""
    forget_clips()
    shutil.rmtree(cache, ignore_errors=True)
    store = Store(cache, space_fields(encoder, plan, SPEC))
    done = extract(
        encoder, [SPEC.request(item) for item in items], plan, SPEC, store, ExtractOptions(num_workers=workers())
    )
    assert done.encoded_clips == len(items) and not done.failures


def timed(side: Callable[[], None]) -> float:
    """Seconds."""
    started = time.perf_counter()
    side()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs after the first, which is not counted")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    rows = measured(options.runs)
    if options.json:
        print(json.dumps([{"case": asdict(case), "runs": [asdict(run) for run in runs]} for case, runs in rows]))
        return
    table = Table(title="Milliseconds a video", box=None)
    columns = ("encoder", "decoding alone", "encoding alone", "side by side", "extraction")
    for column in (*columns, "extraction / slower", "extraction / side by side"):
        table.add_column(column, justify="left" if column == "encoder" else "right")
    for case, runs in rows:
        parts = [
            statistics.median(getattr(run, part) for run in runs)
            for part in ("decode", "encode", "unconnected", "extract")
        ]
        cells = [f"{1e3 * part / case.videos:.1f}" for part in parts]
        table.add_row(case.name, *cells, f"{parts[3] / max(parts[:2]):.2f}", f"{parts[3] / parts[2]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
