# python -m benchmarks.prepare      (half a minute)
"""What `bench data prepare --gop` saves: frames out of web video, against the same out of its prepared copy.

The copies have the size of their sources, so that only the encoding differs. Without --video the source is made: 300
frames of 340x256 pixels that pan over a photo, encoded by the defaults of x264, which put up to 250 frames between key
frames. Both sides open the file, read the frames of one clip and close it; they take turns in one process. What counts
is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image

from bench.data.verify.prepare import DEFAULT_GOP
from bench.data.verify.reencode import reencode
from bench.video.decode import probe_video, read_frames
from benchmarks.ratios import Ratio, ratio_of

FRAMES, HEIGHT, WIDTH = 300, 256, 340
NOISE = 1.0
"""Standard deviation, of 255."""


def ratios(runs: int) -> list[Ratio]:
    """A ratio for each way to draw frames from a video that is made."""
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(write_web_video(Path(folder) / "photo.mp4"), DEFAULT_GOP, runs)
    title, reference = f"copies with GOP {DEFAULT_GOP}", "web video with up to 250 frames between key frames"
    return [ratio_of(f"{title}, {row['clip']}", reference, row["web"], row["short"]) for row in rows]


def clips(num_frames: int) -> dict[str, Sequence[int]]:
    """The frames that are read, by name."""
    middle = num_frames // 2
    return {
        "16 frames, step 4, in the middle": range(max(0, middle - 32), min(num_frames, middle + 32), 4),
        "16 frames, step 4, at the end": range(max(0, num_frames - 64), num_frames, 4),
        "16 frames over the whole video": np.linspace(0, num_frames - 1, 16).astype(int).tolist(),
        "one frame, in the middle": [middle],
    }


def write_web_video(path: Path) -> Path:
    """Pan over a photo, with the noise of a camera."""
    photo, noise = load_sample_image("china.jpg").astype(np.int16), np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for index in range(FRAMES):
            top, left = index * (photo.shape[0] - HEIGHT) // FRAMES, index * (photo.shape[1] - WIDTH) // FRAMES
            view = photo[top : top + HEIGHT, left : left + WIDTH] + noise.normal(0, NOISE, (HEIGHT, WIDTH, 1))
            pixels = view.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def measure(video: Path, gop: int, runs: int) -> list[dict[str, Any]]:
    """Seconds of both sides for each clip, and their medians."""
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "short.mp4"
        reencode(str(video), short, fps=None, segment=(None, None), short_side=None, gop=gop, alive=lambda: None)
        size = short.stat().st_size / video.stat().st_size
        rows: list[dict[str, Any]] = []
        for name, indices in clips(probe_video(video).num_frames).items():
            web, prepared = alternate([video, short], indices, runs)
            web_s, short_s = statistics.median(web), statistics.median(prepared)
            times = {"web_s": web_s, "short_s": short_s, "ratio": web_s / short_s, "web": web, "short": prepared}
            rows.append({"video": video.name, "clip": name, "gop": gop, **times, "size": size})
    return rows


def alternate(paths: Sequence[Path], indices: Sequence[int], runs: int) -> list[list[float]]:
    """Seconds to read the frames of each file; the first run is not counted."""
    seconds: list[list[float]] = [[] for _ in paths]
    for run in range(runs + 1):
        for path, times in zip(paths, seconds, strict=True):
            started = time.perf_counter()
            read_frames(path, indices)
            if run:
                times.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, nargs="*", help="sources, instead of the one that is made")
    parser.add_argument("--gop", type=int, default=DEFAULT_GOP, help="of the copies")
    parser.add_argument("--runs", type=int, default=9, help="runs of each side")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = options.video or [write_web_video(Path(folder) / "photo.mp4")]
        rows = [row for video in videos for row in measure(video, options.gop, options.runs)]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"Reading clips: web video against its copy with GOP {options.gop}")
    for column in ("video", "clip", "web, ms", "prepared, ms", "ratio", "bytes, times"):
        table.add_column(column, justify="left" if column in ("video", "clip") else "right")
    for row in rows:
        milliseconds = [f"{1e3 * float(str(row[side])):.1f}" for side in ("web_s", "short_s")]
        table.add_row(str(row["video"]), str(row["clip"]), *milliseconds, f"{row['ratio']:.2f}", f"{row['size']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
