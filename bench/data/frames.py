"""Image files as frames: a folder of them is a video, a single one a video of one frame."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.video.decode import DecodeError, Frames, VideoInfo

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a still image; the file is not looked at."""
    return os.fspath(path).lower().endswith(IMAGE_SUFFIXES)


def frame_files(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """The images of a folder of frames in natural order (`2.jpg` before `10.jpg`), without hidden ones."""
    with os.scandir(folder) as entries:
        images = [entry for entry in entries if is_image(entry.name) and entry.name[0] != "." and entry.is_file()]
    return sorted(images, key=lambda entry: [int(p) if p.isdigit() else p for p in re.split(r"([0-9]+)", entry.name)])


class ImageFrames:
    """The frames of a folder, or the one of an image."""

    def __init__(self, path: str, fps: float | None = None) -> None:
        self._files = [entry.path for entry in frame_files(path)] if Path(path).is_dir() else [path]
        if not self._files:
            raise DecodeError("the folder holds no frames", where=path)
        height, width = _read_image(self._files[0]).shape[:2]
        self.info = VideoInfo(num_frames=len(self._files), fps=fps or 0.0, height=height, width=width)

    def read(self, indices: Sequence[int]) -> Frames:
        """uint8 RGB [len(indices), H, W, 3]. Raises DecodeError where an image cannot be read or has another size."""
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        for place, index in enumerate(indices):
            image = _read_image(self._files[index])
            if image.shape != frames.shape[1:]:
                raise DecodeError("its size is not that of the first frame", where=self._files[index])
            frames[place] = image
        return frames


def _read_image(path: str) -> Frames:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    # What Pillow's readers raise for damaged files; PNG's is a SyntaxError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"damaged ({error})", where=path) from error
