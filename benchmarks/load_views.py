# python -m benchmarks.load_views      (about 5 minutes; at least 5x)
"""Test clips of 8 segments and 3 views: one pass over the file, against a plain loop that opens it for each view.

The loop does to a file what the official evaluation does, once for each view of each segment: open it with decord,
decode 16 frames, resize them whole (with OpenCV where it is installed, else torch's bilinear resize), cut out one view.
Both sides run on one thread each and take turns; the ratio of the medians of their processor time is what counts.
Where the decoders agree on a file, the pixels are compared, too: they are equal.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import decord
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import segment_indices
from bench.video.loader import load_clips
from benchmarks.ratios import Ratio, ratio_of

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SEGMENTS, VIEWS, SIZE = 8, 3, 224
PLAN = ClipPlan(
    frames_per_clip=16, frame_step=4, num_segments=SEGMENTS, views=VIEWS, size=SIZE, sampling="center", seed=0,
    short_side=None, decoder="auto",
)  # fmt: skip
HAS_OPENCV = importlib.util.find_spec("cv2") is not None
Pixels = NDArray[np.uint8]


def one_pass(path: Path) -> Pixels:
    """Every frame decoded and resized once. [views, segments, T, S, S, 3]."""
    (clips,) = load_clips([VideoItem("clip", str(path))], PLAN, num_workers=0)
    assert clips.pixels is not None, clips.error
    return clips.pixels.numpy()


def view_by_view(path: Path) -> Pixels:
    """The plain loop. [views, segments, T, S, S, 3]."""
    crops = []
    for view in range(VIEWS):
        for segment in range(SEGMENTS):
            reader = decord.VideoReader(str(path), num_threads=1)
            indices = segment_indices(len(reader), 16, 4, SEGMENTS)[segment]
            crops.append(crop(resize(reader.get_batch(indices).asnumpy()), view))
    return np.stack(crops).reshape(PLAN.shape)


def resize(frames: Pixels) -> Pixels:
    """[T, H, W, 3], the short side brought to SIZE."""
    height, width = frames.shape[1:3]
    short = min(height, width)
    shape = (int(SIZE * height / short), int(SIZE * width / short))
    if HAS_OPENCV:
        import cv2

        cv2.setNumThreads(1)
        return np.stack([cv2.resize(frame, shape[::-1], interpolation=cv2.INTER_LINEAR) for frame in frames])
    channels_first = torch.from_numpy(frames).movedim(-1, 1).float()
    resized = torch.nn.functional.interpolate(channels_first, shape, mode="bilinear")
    return resized.round().to(torch.uint8).movedim(1, -1).numpy()


def crop(frames: Pixels, view: int) -> Pixels:
    """A view along the long side."""
    height, width = frames.shape[1:3]
    start = view * ((max(height, width) - SIZE) // (VIEWS - 1))
    return frames[:, start : start + SIZE] if height > width else frames[:, :, start : start + SIZE]


def ratios(runs: int) -> list[Ratio]:
    """A ratio for each set of clips, of processor time on one thread; none where there are no clips."""
    torch.set_num_threads(1)
    rows = [measure(name, paths, runs) for name, paths in cases(SHARED_DATA).items() if paths]
    title, reference = "test views 8x3", "a decord loop that opens the file for every view"
    return [ratio_of(f"{title}, {row['case']}", reference, row["loop"], row["ours"]) for row in rows]


def cases(data: Path) -> dict[str, list[Path]]:
    """The clips in a folder with photo_motion/ and clips/."""
    motion = sorted((data / "photo_motion" / "clips").glob("*.mp4"))
    single = sorted((data / "clips").iterdir()) if (data / "clips").is_dir() else []
    return {"photo_motion": motion[:: max(1, len(motion) // 16)][:16], **{path.name: [path] for path in single}}


def measure(name: str, paths: Sequence[Path], runs: int) -> dict[str, Any]:
    """Processor seconds a clip of both sides, and their medians."""
    compared = [path for path in paths if path.suffix != ".avi"]  # decord misplaces frames of AVI files
    for path in compared[:2]:
        difference = one_pass(path).astype(np.int16) - view_by_view(path)
        assert np.abs(difference).max() <= (0 if HAS_OPENCV else 1), path
    seconds: dict[str, list[float]] = {"one_pass": [], "view_by_view": []}
    for run in range(runs + 1):
        for side in (one_pass, view_by_view):
            elapsed = timed(side, paths)
            if run:
                seconds[side.__name__].append(elapsed / len(paths))
    ours, loop = statistics.median(seconds["one_pass"]), statistics.median(seconds["view_by_view"])
    medians = {"one_pass_s": ours, "view_by_view_s": loop, "clips_per_s": 1 / ours, "ratio": loop / ours}
    return {"case": name, **medians, "ours": seconds["one_pass"], "loop": seconds["view_by_view"]}


def timed(side: Callable[[Path], Pixels], paths: Sequence[Path]) -> float:
    """Processor seconds of one side over all paths."""
    started = time.process_time()
    for path in paths:
        side(path)
    return time.process_time() - started


def main() -> None:
    """Measure every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with photo_motion/ and clips/")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name, paths, options.runs) for name, paths in cases(options.data).items() if paths]
    resizer = "OpenCV" if HAS_OPENCV else "torch"
    if options.json:
        print(json.dumps({"resize_of_the_loop": resizer, "rows": rows}))
        return
    table = Table(title=f"{SEGMENTS} segments x {VIEWS} views of {SIZE} px; the loop resizes with {resizer}")
    for column in ("clips", "view by view, ms", "one pass, ms", "clips/s per core", "ratio"):
        table.add_column(column, justify="left" if column == "clips" else "right")
    for row in rows:
        values = (row["view_by_view_s"] * 1e3, row["one_pass_s"] * 1e3, row["clips_per_s"])
        table.add_row(row["case"], *(f"{value:.1f}" for value in values), f"{row['ratio']:.1f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
