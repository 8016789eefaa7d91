# python -m benchmarks.growth [--plot growth.png]      (3 minutes)
"""How a run grows: seconds and memory of `bench run` at 1, 4 and 16 times the samples, and 1 and 4 times the tokens.

Every run is a process of its own with a cold cache: it decodes and encodes short videos that are made here, writes
their features, trains the sweep of twenty probes over them for a fixed number of epochs, predicts and writes its
record. Four times the tokens are four segments of a video in place of one, so that the encoder's work grows as the
tokens do. Seconds are those of the record, which begin after the imports. Memory is the largest resident set that is
not pages of files: the process could not do without it, whereas the system drops pages of the cache's files when it
needs room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.ratios import Ratio, ratio_of

BASE, GROWTH, SEGMENTS = 50, (1, 4, 16), (1, 4)
TEST_SAMPLES = 50
EPOCHS = 2
MODEL = "random:vit_tiny"
FRAMES, SIZE = 8, 64


@dataclass(frozen=True)
class Run:
    """What one run took."""

    samples: int
    segments: int
    seconds: float
    memory_bytes: int


def ratios(runs: int) -> list[Ratio]:
    """Time and memory of the largest against multiples of the smallest; one process for each size, `runs` times."""
    few, most = (BASE, SEGMENTS[0]), (BASE * GROWTH[-1], SEGMENTS[0])
    long = (BASE * GROWTH[-1], SEGMENTS[-1])
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder))
        found = [{size: measure(Path(folder), *size) for size in (few, most, long)} for _ in range(runs)]
    more_samples, more_tokens = GROWTH[-1], SEGMENTS[-1]

    def seconds(size: tuple[int, int], times: float = 1.0) -> list[float]:
        return [times * run[size].seconds for run in found]

    def memory(size: tuple[int, int]) -> list[float]:
        return [float(run[size].memory_bytes) for run in found]

    samples, tokens = f"{more_samples}x samples", f"{more_tokens}x tokens"
    return [
        ratio_of(f"time of {samples}", f"{more_samples} runs of 1x", seconds(few, more_samples), seconds(most)),
        ratio_of(f"time of {tokens}", f"{more_tokens} runs of 1x", seconds(most, more_tokens), seconds(long)),
        ratio_of(f"memory of {samples}", "memory of 1x", memory(few), memory(most)),
        ratio_of(f"memory of {tokens}", "memory of 1x", memory(most), memory(long)),
    ]


def sizes() -> list[tuple[int, int]]:
    """(samples, segments) of every run."""
    return [(BASE * times, segments) for segments in SEGMENTS for times in GROWTH]


def write_videos(folder: Path) -> None:
    """Training and test videos of two classes: noise that drifts to the left or to the right."""
    stream = np.random.default_rng(0)
    for split, number in (("train", BASE * GROWTH[-1]), ("val", TEST_SAMPLES)):
        for index in range(number):
            write_video(
                folder / f"{split}{index}.mp4", stream.integers(0, 256, (72, 256), np.uint8), (-1, 1)[index % 2]
            )


def write_video(path: Path, texture: np.ndarray, step: int) -> None:
    """32 frames of 96 x 72 pixels, a window that drifts over a texture [72, 256]."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8, options={"preset": "ultrafast", "crf": "28"})
        video.height, video.width, video.pix_fmt = texture.shape[0], 96, "yuv420p"
        for frame in range(32):
            left = 80 + 2 * step * frame
            pixels = np.repeat(texture[:, left : left + 96, None], 3, axis=2)
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(video.encode())


def measure(folder: Path, samples: int, segments: int) -> Run:
    """One run in a process of its own."""
    for split, number in (("train", samples), ("val", TEST_SAMPLES)):
        rows = [f"{split}{index}.mp4 {index % 2}\n" for index in range(number)]
        (folder / f"{split}.csv").write_text("".join(rows))
    with tempfile.TemporaryDirectory() as work:
        settings = (f"clip.frames={FRAMES}", f"clip.resolution={SIZE}", "clip.step=1", f"clip.segments={segments}")
        settings += (f"probe.epochs={EPOCHS}", "probe.min_steps=1")
        command = [
            sys.executable, "-m", "bench", "run", "--task", "custom", "--name", "growth", "--axis", "motion",
            "--data", str(folder), "--train", str(folder / "train.csv"), "--val", str(folder / "val.csv"),
            "--model", MODEL, "--cache", f"{work}/cache", "--results", f"{work}/results", "--json",
            *(word for setting in settings for word in ("--set", setting)),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            memory = 0
            while process.poll() is None:
                memory = max(memory, anonymous_bytes(process.pid))
                time.sleep(0.02)
            assert process.stderr is not None
            assert process.returncode == 0, process.stderr.read()
        (record,) = Path(work, "results").glob("*/record.json")
        return Run(samples, segments, json.loads(record.read_text())["cost"]["total_s"], memory)


def anonymous_bytes(pid: int) -> int:
    """Resident memory of a process that is no page of a file; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def plot(runs: list[Run], path: Path) -> None:
    """Seconds and memory over samples, a line for each number of segments, and what linear time would be."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for segments, marker in zip(SEGMENTS, "os", strict=True):
        line = [run for run in runs if run.segments == segments]
        samples, label = [run.samples for run in line], f"{segments} segment{'s' * (segments > 1)}"
        left.loglog(samples, [run.seconds for run in line], marker=marker, label=label)
        left.loglog(samples, [line[-1].seconds * n / samples[-1] for n in samples], ":", color="gray")
        right.semilogx(samples, [run.memory_bytes / 2**20 for run in line], marker=marker, label=label)
    left.set(xlabel="training samples", ylabel="seconds", title="Time (dotted: linear)")
    right.set(xlabel="training samples", ylabel="MiB", title="Memory", ylim=(0, None))
    for axes in (left, right):
        axes.set_xticks([BASE * times for times in GROWTH], [str(BASE * times) for times in GROWTH])
        axes.minorticks_off()
        axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure each size once and print a table, or JSON; draw the curves where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="picture to write: .png or .svg")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_videos(Path(folder))
        runs = [measure(Path(folder), *size) for size in sizes()]
    if options.plot:
        plot(runs, options.plot)
    if options.json:
        print(json.dumps([asdict(run) for run in runs]))
        return
    table = Table(title="Growth of a run", box=None)
    for column in ("samples", "segments", "seconds", "ms a sample", "memory, MiB"):
        table.add_column(column, justify="right")
    for run in runs:
        per_sample = f"{1e3 * run.seconds / run.samples:.1f}"
        table.add_row(
            str(run.samples), str(run.segments), f"{run.seconds:.1f}", per_sample, f"{run.memory_bytes / 2**20:.0f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
