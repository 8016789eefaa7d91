"""Videos that stand in for a dataset that is not on this machine: as large, as fast and as long as its own."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.cards.load import VideoFacts
from bench.core.errors import BenchError

_FORM = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)")
_CRF, _GOP = 23, 12
"""x264's own quality; a key frame every 12 frames, as prepared copies of such datasets have them."""
_SEED = 0


def read_video_facts(text: str) -> VideoFacts:
    """The value of --video, `WIDTHxHEIGHT@FPS,SECONDS`. Raises BenchError for anything else."""
    found = _FORM.fullmatch(text.strip())
    values = [float(part) for part in found.groups()] if found else []
    try:
        if not values or min(values[:2]) < 2:
            raise ValueError
        return VideoFacts(width=int(values[0]), height=int(values[1]), fps=values[2], duration_s=values[3])
    except (ValueError, OverflowError) as error:
        fix = "give WIDTHxHEIGHT@FPS,SECONDS, such as 340x256@30,10"
        raise BenchError(f"'{text[:80]}' is no video", where="--video", fix=fix) from error


def describe(facts: VideoFacts) -> str:
    """As --video takes it: `340x256@30,10`."""
    return f"{facts.width}x{facts.height}@{facts.fps:g},{facts.duration_s:g}"


def make_clip(path: Path, facts: VideoFacts) -> Path:
    """Write one H.264 video of these facts: a soft texture that drifts, with some noise of a camera.

    H.264 takes even sides: an odd row or column is left out.
    """
    import av

    height, width = facts.height // 2 * 2, facts.width // 2 * 2
    stream_of_numbers = np.random.RandomState(_SEED)
    texture = _texture(2 * height, 2 * width, stream_of_numbers)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(facts.fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": str(_CRF), "preset": "veryfast", "g": str(_GOP)}
        for number in range(max(1, round(facts.fps * facts.duration_s))):
            row, column = (2 * number) % height, (3 * number) % width
            noise = stream_of_numbers.randint(0, 8, (height, width, 3), dtype=np.uint8)
            frame = texture[row : row + height, column : column + width] + noise
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def _texture(height: int, width: int, stream: np.random.RandomState) -> npt.NDArray[np.uint8]:
    """uint8 [height, width, 3], up to 247: detail of several sizes, as photographs have it."""
    total = np.zeros((height, width, 3), dtype=np.float32)
    for cell in (4, 16, 64):
        coarse = stream.rand(-(-height // cell), -(-width // cell), 3).astype(np.float32)
        total += np.kron(coarse, np.ones((cell, cell, 1), np.float32))[:height, :width] * cell**0.5
    texture: npt.NDArray[np.uint8] = (240 * total / total.max()).astype(np.uint8)
    return texture
