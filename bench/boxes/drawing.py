"""A key frame with its boxes and labels as a PNG, so that a wrong box convention is seen at once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bench.boxes.frames import KeyFramePlan
from bench.boxes.plan import BoxPlan
from bench.boxes.splits import BoxSample
from bench.video.decode import open_video
from bench.video.plans import VideoItem

TRUTH = (0, 158, 115)
FOUND = (213, 94, 0)
"""Colours of the Okabe-Ito palette, told apart by readers with any colour vision."""
_TEXT_SHARE = 24
"""Height of the picture in lines of text."""


@dataclass(frozen=True)
class DrawnBox:
    """A box and what is written beside it."""

    corners: tuple[float, float, float, float]
    """x1, y1, x2, y2, shares of the frame."""
    lines: tuple[str, ...]
    colour: tuple[int, int, int]
    """0 to 255."""
    below: bool = False
    """Whether the text stands in the lower part of the box and the outline is thin: of two kinds of box with the same
    corners both are seen."""


def draw_boxes(frame: NDArray[np.uint8], boxes: Sequence[DrawnBox], *, width: int = 480) -> bytes:
    """The frame, uint8 [H, W, 3], resized to `width` pixels, with its boxes and their lines of text: PNG bytes."""
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(picture)
    size = max(10, height // _TEXT_SHARE)
    font = ImageFont.load_default(size)
    for box in boxes:
        x1, y1, x2, y2 = (
            round(share * (side - 1)) for share, side in zip(box.corners, (width, height, width, height), strict=True)
        )
        canvas.rectangle((x1, y1, x2, y2), outline=box.colour, width=2 if box.below else 5)
        first = y2 - size * len(box.lines) - 4 if box.below else y1 + 2
        for number, line in enumerate(box.lines):
            place = (x1 + 4, first + number * size)
            canvas.text(place, line, fill=(255, 255, 255), font=font, stroke_width=2, stroke_fill=box.colour)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def key_frame(sample: BoxSample, clips: KeyFramePlan) -> NDArray[np.uint8]:
    """The frame that the boxes of a sample are in, uint8 [H, W, 3]. Raises BenchError where it cannot be read."""
    place = sample.sample
    item = VideoItem(id=place.id, path=place.path, start_s=place.start_s, fps=place.fps)
    with open_video(place.path, clips.decoder, place.fps) as video:
        frames: NDArray[np.uint8] = video.read([clips.indices(item, video.info)[clips.frames_per_clip // 2]])[0]
    return frames


def draw_sample(plan: BoxPlan, sample: BoxSample, probabilities: NDArray[np.float32], *, most: int = 3) -> bytes:
    """A key frame of `plan`: what is true of its annotated boxes, and the likeliest actions of the boxes that were
    looked at, in percent; `probabilities` [boxes, C]. PNG bytes."""
    names = list(plan.splits.class_names)
    actions = dict(zip(plan.boxes.actions, names, strict=True))
    drawn = [
        DrawnBox(box, tuple(actions[action] for action in sorted(labels) if action in actions), TRUTH)
        for box, labels in sample.truth.boxes.items()
    ]
    for box, row in zip(sample.looked_at, probabilities, strict=True):
        likely = np.argsort(-row, kind="stable")[:most]
        drawn.append(DrawnBox(box, tuple(f"{names[i]} {100 * row[i]:.0f}" for i in likely), FOUND, below=True))
    return draw_boxes(key_frame(sample, plan.key_frames), drawn)
