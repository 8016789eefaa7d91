"""Small trees of videos, images and folders of frames, with their lists."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image
from support import write_video


def pictures(seed: int, count: int = 9, height: int = 32, width: int = 48) -> np.ndarray:
    """uint8 [count, height, width, 3]: smooth, a bright bar moves down, so that frames can be told apart; a colour for
    each seed."""
    colour = np.random.RandomState(seed).randint(20, 120, 3)
    frames = np.tile(colour, (count, height, width, 1)).astype(np.uint8)
    for index in range(count):
        row = index * (height - 4) // max(1, count - 1)
        frames[index, row : row + 4] += 100
    return frames


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """A folder of JPEG frames, numbered from 1."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=95)
    return folder


def write_in(path: Path, frames: np.ndarray, codec: str, fps: int = 8, sound_s: float = 0.0) -> Path:
    """A video in the container that the suffix names, with so many seconds of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        sound = container.add_stream("mp2", rate=16000, layout="mono") if sound_s else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
        for number in range(int(sound_s * 16000) // 1152 if sound else 0):
            part = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            part.sample_rate, part.pts = 16000, 1152 * number
            container.mux(sound.encode(part))
        if sound:
            container.mux(sound.encode())
    return path


def write_tree(folder: Path, train: int = 6, test: int = 4) -> Path:
    """`train.csv` and `val.csv` of different videos with the labels 0 and 1 in turn: clips/train_0.mp4 ..."""
    for number, (split, count) in enumerate((("train", train), ("val", test))):
        rows = []
        for index in range(count):
            write_video(folder / "clips" / f"{split}_{index}.mp4", pictures(100 * number + index))
            rows.append(f"clips/{split}_{index}.mp4 {index % 2}\n")
        (folder / f"{split}.csv").write_text("".join(rows))
    return folder


def add_row(folder: Path, split: str, name: str, label: int = 0) -> None:
    """One more line in the list of a split."""
    with (folder / f"{split}.csv").open("a") as file:
        file.write(f"{name} {label}\n")
