"""What tests of several folders use: where the oracles and the shared sample data are, small videos, error lines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from bench.core.files import write_mark

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
SHARED_DATA = ROOT.parent / "shared" / "data"

Run = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture `bench_command`: arguments of the command line in, what it printed out."""


def write_video(path: Path, frames: np.ndarray, fps: int = 8, codec: str = "libx264") -> Path:
    """Write uint8 frames [T, H, W, 3], as H.264 by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "10", "preset": "veryfast"} if codec == "libx264" else {"crf": "10", "b": "1M"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The command ended with code 2 and one line on stderr that holds `words`; nothing on stdout."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]


def left_behind(folder: Path) -> Path:
    """A temporary folder of a process that was killed hours ago."""
    folder.mkdir(parents=True)
    write_mark(folder)
    (folder / "half").write_bytes(b"half")
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    return folder
