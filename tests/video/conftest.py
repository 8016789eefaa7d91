"""Small video files, written on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """A factory: (name, frames, width, height, fps, ...) -> path of a video of noise that moves."""
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str, frames: int = 30, width: int = 96, height: int = 64, fps: int = 25, **how: Any) -> Path:
        path = folder / name
        if not path.exists():
            write_video(path, frames, width, height, fps, **how)
        return path

    return make


def write_video(
    path: Path,
    frames: int,
    width: int,
    height: int,
    fps: int,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> None:
    import av

    av.logging.set_level(av.logging.PANIC)
    noise = np.random.RandomState(0).randint(0, 256, (height + frames, width + frames, 3), dtype=np.uint8)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.options = options or {}
        for shift in range(frames):
            picture = np.ascontiguousarray(noise[shift : shift + height, shift : shift + width])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
