"""Training clips: a random window of a video, a random crop of the window (protocol.md 3.2, 7.1).

Shapes: T frames of a clip, H x W pixels of the video, S pixels of the crop's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.core.errors import BenchError
from bench.core.types import Positive
from bench.video.clip_views import VideoItem, random_state, read_clips
from bench.video.clips import segment_indices, whole_video
from bench.video.decode import Decoder, Video

Frames = npt.NDArray[np.uint8]

_ATTEMPTS = 10


class Augmentation(BaseModel):
    """Random crop and flip of a clip. The defaults are those of V-JEPA pretraining (protocol.md 7.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: tuple[Positive, Positive] = (0.3, 1.0)
    """Share of the frame's area that a crop covers: lowest and highest."""
    aspect: tuple[Positive, Positive] = (0.75, 1.35)
    """Width over height of a crop: lowest and highest; drawn on a logarithmic scale."""
    flip: float = Field(default=0.5, ge=0, le=1, strict=True)
    """Probability that left and right are exchanged."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Augmentation:
        for name, highest in (("scale", 1.0), ("aspect", math.inf)):
            low, high = getattr(self, name)
            if not (0 < low <= high <= highest and math.isfinite(high)):
                raise ValueError(f"{name}: [{low}, {high}] is no range, lowest first")
        return self


@dataclass(frozen=True)
class Crop:
    """A rectangle of a frame, in pixels, and whether left and right are exchanged."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool

    def apply(self, frames: Frames, size: int) -> Frames:
        """uint8 [T, H, W, 3] -> uint8 [T, S, S, 3] with S = `size`: cut, resized bilinearly without antialiasing.

        The resize is torch's on bytes: within 1 of 255 of the float resize of the official code, and about nine
        times as fast as the exact one of the test views.
        """
        cut = frames[:, self.top : self.top + self.height, self.left : self.left + self.width]
        pixels = torch.from_numpy(cut).movedim(-1, 1)
        resized = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False).movedim(1, -1)
        return np.ascontiguousarray((resized.flip(2) if self.flipped else resized).numpy())


def draw_crop(height: int, width: int, augmentation: Augmentation, rng: np.random.RandomState) -> Crop:
    """A random rectangle of a frame of `height` x `width` pixels.

    Area and aspect are drawn up to ten times, until the rectangle fits into the frame; else it is the largest central
    one whose aspect is allowed. Source: protocol.md 3.3 (jepa src/datasets/utils/video/transforms.py:503-577).
    """
    top, left, crop_height, crop_width = _draw_rectangle(height, width, augmentation, rng)
    return Crop(top, left, crop_height, crop_width, flipped=bool(rng.uniform() < augmentation.flip))


@dataclass(frozen=True)
class TrainingPlan:
    """Random clips of a video: everything that decides their pixels, beside the item's draw and attempt."""

    num_clips: int
    """Clips of each video, drawn independently."""
    num_frames: int
    frame_step: int
    size: int
    """Height and width of a clip, pixels."""
    augmentation: Augmentation
    seed: int
    decoder: Decoder
    pad_short: bool = False
    """Whether a video shorter than a clip gives one all the same, by repeating its last frame."""

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_frames", "frame_step", "size"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} is {getattr(self, name)}", fix="it must be at least 1")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a video's pixels: [num_clips, T, S, S, 3]."""
        return (self.num_clips, self.num_frames, self.size, self.size, 3)

    def fill(self, item: VideoItem, video: Video, out: Frames) -> list[list[int]]:
        """Write windows and crops into `out`, of `shape`. Raises BenchError for a video shorter than a clip."""
        span, length = self.num_frames * self.frame_step, video.info.num_frames
        if length < span and not self.pad_short:
            raise BenchError(
                f"has {length} frames, a clip spans {span} ({self.num_frames} frames, step {self.frame_step})",
                where=item.path,
            )
        streams = [random_state(self.seed, item.draw, clip, item.attempt) for clip in range(self.num_clips)]
        if length <= span:
            indices = [whole_video(length, self.num_frames, self.frame_step) for _ in streams]
        else:
            indices = [segment_indices(length, self.num_frames, self.frame_step, 1, rng=rng)[0] for rng in streams]
        crops = [draw_crop(video.info.height, video.info.width, self.augmentation, rng) for rng in streams]
        for frames, places in read_clips(video, indices):
            for clip, crop in enumerate(crops):
                pairs = [(number, position) for number, owner, position in places if owner == clip]
                if pairs:
                    numbers, positions = (list(column) for column in zip(*pairs, strict=True))
                    out[clip, positions] = crop.apply(frames[numbers], self.size)
        return indices


def _draw_rectangle(
    height: int, width: int, augmentation: Augmentation, rng: np.random.RandomState
) -> tuple[int, int, int, int]:
    """Top, left, height and width, in pixels."""
    low, high = augmentation.aspect
    for _ in range(_ATTEMPTS):
        area = height * width * rng.uniform(*augmentation.scale)
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_height, crop_width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top = int(rng.randint(0, height - crop_height + 1))
            return top, int(rng.randint(0, width - crop_width + 1)), crop_height, crop_width
    crop_height, crop_width = height, width
    if width < low * height:
        crop_height = max(1, round(width / low))
    elif width > high * height:
        crop_width = max(1, round(height * high))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width
