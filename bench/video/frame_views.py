"""Views of key frames: the pixels of a clip around each, in whole frames of any shape.

Frames keep their shape, so clips of different videos differ in size, while the slots that carry pixels out of loader
processes have one size: a slot begins with the height and the width of its frames.

Shapes: T frames, H x W pixels of the video, h x w pixels of what the encoder sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.types import FrameOrder
from bench.video.clip_views import VideoItem, decoder_field, order_field, ordered_clips, read_clips
from bench.video.decode import Decoder, Video
from bench.video.info import VideoInfo
from bench.video.views import Interpolation, normalised_clips, resize_frames

_HEADER_BYTES = 8
_LONGEST = 3
"""Longest side of a frame in short sides; a longer one is squeezed."""


@dataclass(frozen=True)
class KeyFramePlan:
    """Everything that decides which pixels a key frame gives. An item's `start_s` is the key frame's second."""

    frames_per_clip: int
    frame_step: int
    """Frames of the video between two frames of a clip, where neither of the next two is given."""
    fps: float | None
    """Frames of a clip per second, whatever the video's rate."""
    duration_s: float | None
    """Seconds that a clip spans."""
    short_side: int
    """Pixels; a multiple of `patch_size`."""
    patch_size: int
    square: bool
    """Whether frames are squeezed to a square, for encoders that take nothing else."""
    decoder: Decoder
    interpolation: Interpolation
    frame_order: FrameOrder = "ordered"
    """In which order the frames of a clip are shown."""

    @property
    def num_views(self) -> int:
        """The whole frame."""
        return 1

    @property
    def num_segments(self) -> int:
        """The one clip around the key frame."""
        return 1

    @property
    def clips_per_item(self) -> int:
        """The one clip around the key frame."""
        return 1

    @property
    def draws(self) -> bool:
        """The clip lies around the second of its key frame."""
        return False

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the clip of a square video."""
        return (self.frames_per_clip, self.short_side, self.short_side)

    @property
    def shape(self) -> tuple[int]:
        """Bytes of a slot: its header and frames of the longest shape."""
        longest = 1 if self.square else _LONGEST
        return (_HEADER_BYTES + self.frames_per_clip * self.short_side * longest * self.short_side * 3,)

    def fill(self, item: VideoItem, video: Video, out: npt.NDArray[np.uint8]) -> list[list[int]]:
        """The clip around the item's key frame into `out`."""
        (indices,) = ordered_clips([self.indices(item, video.info)], self.frame_order, item)
        size = self.size(video.info.height, video.info.width)
        out[:_HEADER_BYTES] = np.array(size, dtype="<u4").view(np.uint8)
        stop = _HEADER_BYTES + self.frames_per_clip * size[0] * size[1] * 3
        clip = out[_HEADER_BYTES:stop].reshape(self.frames_per_clip, *size, 3)
        for frames, places in read_clips(video, [indices]):
            resized = resize_frames(frames, size, self.interpolation)
            for number, _, position in places:
                clip[position] = resized[number]
        return [indices]

    @property
    def unsaid(self) -> tuple[tuple[str, Any], ...]:
        """As `Views`."""
        return (("frame_order", "ordered"),)

    @property
    def usual_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of the clip of a 16:9 film."""
        return (self.frames_per_clip, *self.size(9, 16))

    def unpack(self, pixels: Tensor) -> Tensor:
        """The clip, uint8 [1, T, h, w, 3], of a slot that `fill` has filled."""
        header = pixels[:_HEADER_BYTES].numpy().view("<u4")
        height, width = int(header[0]), int(header[1])
        stop = _HEADER_BYTES + self.frames_per_clip * height * width * 3
        return pixels[_HEADER_BYTES:stop].view(1, self.frames_per_clip, height, width, 3)

    def finish(
        self,
        pixels: Tensor,
        items: Sequence[VideoItem],
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        device: torch.device,
    ) -> Iterator[Tensor]:
        """As `bench.video.clip_views.Views`."""
        return normalised_clips(pixels, mean, std, size, device)

    def ordered(self, order: FrameOrder) -> KeyFramePlan:
        """As `Views`."""
        return replace(self, frame_order=order)

    def alone(self) -> KeyFramePlan:
        """As it is."""
        return self

    def fields(self) -> dict[str, Any]:
        """As `Views`."""
        timed = self.fps is not None or self.duration_s is not None
        return {
            "frames_per_clip": self.frames_per_clip,
            "pace": [None if timed else self.frame_step, self.fps, self.duration_s],
            "short_side": self.short_side,
            "square": self.square,
            "interpolation": self.interpolation,
            "decoder": decoder_field(self.decoder),
            **order_field(self.frame_order),
        }

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what the encoder sees of a frame: the short side as planned, the long side in
        proportion, to the nearest multiple of a patch and at most three short sides."""
        if self.square:
            return self.short_side, self.short_side
        patches = round(self.short_side * max(height, width) / min(height, width) / self.patch_size)
        long_side = min(_LONGEST * self.short_side, max(self.short_side, patches * self.patch_size))
        return (self.short_side, long_side) if height <= width else (long_side, self.short_side)

    def indices(self, item: VideoItem, info: VideoInfo) -> list[int]:
        """Frame numbers of the clip: its frame T // 2 is the one nearest to the key frame's second. Where the video
        begins or ends within the clip, its first or last frame is repeated.

        Raises BenchError where the rate of the video is unknown, or the key frame lies outside of it.
        """
        second = item.start_s or 0.0
        info.check_times(item.path)
        key = int(info.nearest(np.array([second]))[0])
        if not 0 <= key < info.num_frames:
            raise BenchError(
                f"no frame at second {second:g}, the file lasts {info.lasts_s:.2f} s",
                where=item.path,
                fix="where files were cut, say at which second of the film: --set clip.starts_s=900",
            )
        steps = np.arange(self.frames_per_clip) - self.frames_per_clip // 2
        spacing_s = self.frame_step / info.fps
        if self.fps is not None:
            spacing_s = 1 / self.fps
        elif self.duration_s is not None:
            spacing_s = self.duration_s / self.frames_per_clip
        elif info.shown_s is not None:
            spacing_s = 0.0  # a step in frames is none in seconds
        indices = info.nearest(second + steps * spacing_s) if spacing_s else key + steps * self.frame_step
        clip: list[int] = np.clip(indices, 0, info.num_frames - 1).tolist()
        return clip
