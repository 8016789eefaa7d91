"""What is known of anything that gives frames, before a frame is decoded, and the error of what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError

Frames = npt.NDArray[np.uint8]


class DecodeError(BenchError):
    """A video, an image or a folder of frames, or one of its frames, that cannot be read."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video holds, as it is displayed (rotation applied)."""

    num_frames: int
    """Frames that can be asked for, counted from the packets or the files."""
    fps: float
    """Average frames per second; 0.0 where it is not known."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
