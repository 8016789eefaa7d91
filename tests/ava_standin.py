"""A stand-in for AVA in the official layout: films of two digits that move anew every second.

Each digit has a place of its own, and what it does is its action: `run/jog` is left, `walk` right, `jump/leap` up and
`fall down` down. The two of a frame always do different things, and so does one digit a second later: a score that does
not look into the right box at the right second is lost. Films are cut as AVA's usually are: they begin at second 900.

    DATA/annotations/ava_train_v2.2.csv, ava_val_v2.2.csv, ...      DATA/trainval/train00.mp4
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support import write_video

from bench.data import digits

CELL = 16
FPS = 15
STARTS_S = 900
SECONDS = range(2, 6)
"""Of the key frames, after the first frame."""
ACTIONS = (10, 14, 7, 5)
"""Of the motions left, right, up, down."""
PLACES = ((0, 1), (1, 0))
"""Row and column of each digit's cell, in a frame of 2 x 2 cells: mirrored, one lies where the other is."""
CONFIG = digits.DigitsConfig(size=CELL, contrast=0.65, ground=0.2, noise=0.02, angle=5.0)


def box_of(place: tuple[int, int]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of a digit's cell."""
    row, column = place
    return column / 2, row / 2, (column + 1) / 2, (row + 1) / 2


def ava_standin(folder: Path, *, train: int = 30, test: int = 12, seed: int = 0, starts_s: int = STARTS_S) -> Path:
    """Make `folder` look as AVA with so many films of each split, whose first frame is second `starts_s`."""
    stream = np.random.RandomState(seed)
    for split, count in (("train", train), ("val", test)):
        pool = digits.image_pool("train" if split == "train" else "test")
        truth, found, excluded = [], [], []
        for number in range(count):
            video = f"{split}{number:02d}"
            motions = _motions(stream)
            write_video(folder / "trainval" / f"{video}.mp4", _film(stream, pool, motions), fps=FPS)
            for second, pair in zip(SECONDS, motions, strict=True):
                for person, (place, motion) in enumerate(zip(PLACES, pair, strict=True)):
                    box = f"{video},{starts_s + second:04d}," + ",".join(f"{corner:.3f}" for corner in box_of(place))
                    truth.append(f"{box},{ACTIONS[motion]},{person}")
                    found.append(f"{box},,0.95")
                found.append(f"{video},{starts_s + second:04d},0.000,0.000,0.450,0.450,,0.5")
            truth.append(f"{video},{starts_s + SECONDS[-1] + 2:04d}")
            excluded.append(f"{video},{starts_s + SECONDS[-1] + 2:04d}")
        names = folder / "annotations"
        names.mkdir(parents=True, exist_ok=True)
        (names / f"ava_{split}_v2.2.csv").write_text("\n".join(truth) + "\n")
        (names / f"ava_{split}_excluded_timestamps_v2.2.csv").write_text("\n".join(excluded) + "\n")
        if split == "val":
            (names / "ava_detection_val_boxes_and_labels.csv").write_text("\n".join(found) + "\n")
    return folder


def _motions(stream: np.random.RandomState) -> list[tuple[int, int]]:
    """Of every second: what both digits do, neither what the other does nor what it did before."""
    chosen: list[tuple[int, int]] = []
    while len(chosen) < len(SECONDS):
        first, second = stream.randint(0, len(ACTIONS), 2).tolist()
        before = chosen[-1] if chosen else (-1, -1)
        if first != second and first != before[0] and second != before[1]:
            chosen.append((first, second))
    return chosen


def _film(stream: np.random.RandomState, pool: digits.ImagePool, motions: list[tuple[int, int]]) -> np.ndarray:
    """uint8 [T, 2 cells, 2 cells, 3]. Around each second are the eight frames of a clip of 7.5 a second."""
    length = (SECONDS[-1] + 3) * FPS
    film = np.full((length, 2 * CELL, 2 * CELL), round(255 * CONFIG.ground), dtype=np.uint8)
    for place, digit in zip(PLACES, stream.randint(0, len(pool.images), len(PLACES)), strict=True):
        row, column = place[0] * CELL, place[1] * CELL
        labels = np.array([pair[PLACES.index(place)] for pair in motions])
        images = pool.images[np.repeat(digit, len(labels))]
        clips = digits.render_clips(stream, images, labels, CONFIG, num_frames=digits.NUM_FRAMES)
        for second, clip in zip(SECONDS, clips, strict=True):
            start = second * FPS - digits.NUM_FRAMES
            shown = np.repeat(clip, 2, axis=0)
            film[start : start + len(shown), row : row + CELL, column : column + CELL] = shown
    return np.repeat(film[..., None], 3, axis=-1)
