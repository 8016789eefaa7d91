"""What all tests share: where the oracles and the shared sample data are, and small videos made on the spot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SHARED_DATA = ROOT.parent / "shared" / "data"


def write_video(path: Path, frames: np.ndarray, fps: int = 8) -> Path:
    """Write uint8 frames [T, H, W, 3] as H.264."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "preset": "veryfast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def bright_and_dark(tmp_path: Path) -> Path:
    """A tiny task that any probe learns: `train.csv` and `val.csv` of dark (0) and bright (1) clips, 16 px."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    for split, count in (("train", 24), ("val", 12)):
        rows = []
        for i in range(count):
            level = 60 if i % 2 == 0 else 190
            frames = np.clip(rng.normal(level, 20, (9, 16, 16, 3)), 0, 255).astype(np.uint8)
            write_video(folder / "clips" / f"{split}_{i}.mp4", frames)
            rows.append(f"clips/{split}_{i}.mp4 {i % 2}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bench_command(tmp_path: Path) -> Run:
    """Run the command line in a process of its own, in an empty folder with its own cache."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        folder = cwd or tmp_path / "work"
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "BENCH_CACHE": str(tmp_path / "cache"), "COLUMNS": "100"}
        environment["PYTHONPATH"] = str(ROOT)
        return subprocess.run(
            [sys.executable, "-m", "bench", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            timeout=300,
        )

    return run


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command ended with code 2 and one line on stderr that holds `words`; nothing on stdout."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]
