"""Training views as the papers draw them: windows, augmentation and crop of every segment, random erasing.

What is random depends on the seed, the sample, the draw (the epoch, or the number of the cached view) and the segment
alone; each kind of draw has a stream of its own.

Shapes: b samples, K segments, T frames of a clip, S pixels of its side; n frames of H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.types import FrameOrder
from bench.video.augment import Erasing, ImageOp, draw_autoaugment, draw_erasing, draw_randaugment
from bench.video.clip_views import (
    VideoItem,
    before_action,
    check_ending,
    clip_fields,
    ordered_clips,
    random_state,
    read_clips,
    step_in,
)
from bench.video.clips import Ending, segment_indices
from bench.video.decode import Decoder, Video
from bench.video.frame_ops import Op, Region, apply_ops
from bench.video.info import Frames, VideoInfo
from bench.video.pretrain_views import Augmentation, Crop, draw_crop
from bench.video.views import normalised_clips

Policy = Literal["official-video", "official-actions", "official-image"]
"""How clips are augmented: as the official code does for video tasks (protocol.md 3.3), for actions that are to be
anticipated (3.6: the same, and flipped) or for image tasks (3.4)."""

_CROPS = {
    "official-video": Augmentation(scale=(0.08, 1.0), aspect=(3 / 4, 4 / 3), flip=0.0),
    "official-actions": Augmentation(scale=(0.08, 1.0), aspect=(3 / 4, 4 / 3), flip=0.5),
    "official-image": Augmentation(scale=(0.08, 1.0), aspect=(3 / 4, 4 / 3), flip=0.5),
}

AUGMENTATION_VERSION = 1
"""Part of the key of augmented features: raised with every change here that changes pixels."""
_LANES = 16


@dataclass(frozen=True)
class VideoView:
    """What was drawn for a clip of a video task."""

    ops: list[Op]
    crop: Crop

    def apply(self, frames: Frames, size: int) -> Frames:
        """uint8 [n, H, W, 3] -> uint8 [n, S, S, 3] with S = `size`: augmented at full resolution, cropped, resized.

        Bilinear without antialiasing, rounded: within 0.5 of 255 of the official code, which resizes normalised
        floats. Source: protocol.md 3.3.
        """
        region = Region(self.crop.top, self.crop.left, self.crop.height, self.crop.width)
        resized = _resize(apply_ops(frames, self.ops, region), size)
        return resized[:, :, ::-1] if self.crop.flipped else resized


@dataclass(frozen=True)
class ImageView:
    """What was drawn for a clip of an image task."""

    ops: list[ImageOp]
    crop: Crop

    def apply(self, frames: Frames, size: int) -> Frames:
        """uint8 [n, H, W, 3] -> uint8 [n, S, S, 3] with S = `size`: cropped, resized, flipped, then augmented.

        The bytes of timm's create_transform: Pillow's bicubic resize, with antialiasing. Source: protocol.md 3.4.
        """
        crop = self.crop
        output = np.empty((len(frames), size, size, 3), np.uint8)
        for place, frame in enumerate(frames):
            cut = Image.fromarray(frame[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width])
            image = cut.resize((size, size), Image.Resampling.BICUBIC)
            if crop.flipped:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            for op in self.ops:
                image = op.apply(image)
            output[place] = np.asarray(image)
        return output


@dataclass(frozen=True)
class TrainViews:
    """One random view of every segment: everything that decides its pixels, beside the item's id and draw.

    A plan of `bench.video.loader`. `finish` makes clips for an encoder of the pixels.
    """

    frames_per_clip: int
    frame_step: int
    num_segments: int
    size: int
    """Height and width of a view, pixels."""
    policy: Policy
    seed: int
    decoder: Decoder = "auto"
    fps: float | None = None
    """Frames of a clip per second of the video; `frame_step` then means nothing."""
    duration_s: float | None = None
    """Seconds that a clip spans; `frame_step` then means nothing."""
    frame_order: FrameOrder = "ordered"
    """In which order the frames of a clip are shown."""
    ending: Ending | None = None
    """As in ClipPlan; a clip of every draw ends at a time of its own."""

    def __post_init__(self) -> None:
        for name in ("frames_per_clip", "frame_step", "num_segments", "size"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} is {getattr(self, name)}", fix="it must be at least 1")
        check_ending(self, self.ending)
        if self.policy not in get_args(Policy):
            known = ", ".join(get_args(Policy))
            raise BenchError(f"unknown augmentation policy '{self.policy}'", fix=f"known: {known}")

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        """Shape of a sample's pixels: [1, K, T, S, S, 3], the axes of test views."""
        return (1, self.num_segments, self.frames_per_clip, self.size, self.size, 3)

    @property
    def num_views(self) -> int:
        """One: several draws are several items."""
        return 1

    @property
    def clips_per_item(self) -> int:
        """Segments: a random view of each."""
        return self.num_segments

    @property
    def draws(self) -> bool:
        """Always."""
        return True

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, S, S)."""
        return (self.frames_per_clip, self.size, self.size)

    def fill(self, item: VideoItem, video: Video, out: Frames) -> list[list[int]]:
        """Write augmented, cropped segments of the item into `out`, of these views' shape; return each one's frames."""
        segments = range(self.num_segments)
        indices = ordered_clips(self._chosen(item, video.info), self.frame_order, item)
        views = [self.draw_view(item, segment, video.info.height, video.info.width) for segment in segments]
        for frames, places in read_clips(video, indices):
            for segment, view in enumerate(views):
                pairs = [(number, position) for number, owner, position in places if owner == segment]
                if pairs:
                    numbers, positions = (list(column) for column in zip(*pairs, strict=True))
                    distinct, again = np.unique(numbers, return_inverse=True)
                    out[0, segment, positions] = view.apply(frames[distinct], self.size)[again]
        return indices

    def draw_view(self, item: VideoItem, segment: int, height: int, width: int) -> VideoView | ImageView:
        """What happens to a segment of an item whose frames have `height` x `width` pixels."""
        crop = draw_crop(height, width, _CROPS[self.policy], self.stream(item, segment, "crop"))
        rng = self.stream(item, segment, "augmentation")
        if self.policy == "official-image":
            return ImageView(draw_autoaugment(rng), crop)
        return VideoView(draw_randaugment(rng), crop)

    def draw_erasing(self, item: VideoItem, segment: int) -> Erasing | None:
        """What `finish` erases from a segment of an item."""
        rng = self.stream(item, segment, "erasing")
        still = self.policy == "official-image"
        return draw_erasing(self.size, rng, attempts=10 if still else 100, still=still)

    @property
    def unsaid(self) -> tuple[tuple[str, Any], ...]:
        """As `Views`."""
        return (("ending", None),)

    @property
    def usual_shape(self) -> tuple[int, int, int]:
        """As `clip_shape`."""
        return self.clip_shape

    def unpack(self, pixels: Tensor) -> Tensor:
        """An item's pixels, of the shape of these views -> its clips, uint8 [K, T, S, S, 3]."""
        return pixels.flatten(0, 1)

    def finish(
        self,
        pixels: Tensor,
        items: Sequence[VideoItem],
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        device: torch.device,
    ) -> Iterator[Tensor]:
        """As `Views`: clips are normalised, then randomly erased, on the device, so that only bytes travel there.

        The boxes depend on what the pixels depend on; the noise in them also on the kind of device. All frames of a
        clip lose the same box, each to noise of its own; those of an image task, where the official code repeats the
        finished image, to the same noise. Raises ValueError where `pixels` are not the plan's clips of each item.
        """
        if pixels.shape != (len(items) * self.num_segments, *self.shape[2:]):
            raise ValueError(f"pixels {list(pixels.shape)} are not {len(items)} times {list(self.shape[1:])}")
        number = 0
        for clips in normalised_clips(pixels, mean, std, size, device):
            for clip in clips:
                erasing = self.draw_erasing(items[number // self.num_segments], number % self.num_segments)
                if erasing:
                    erasing.apply(clip)
                number += 1
            yield clips

    def ordered(self, order: FrameOrder) -> TrainViews:
        """As `Views`."""
        return replace(self, frame_order=order)

    def alone(self) -> TrainViews:
        """As `Views`."""
        return replace(self, num_segments=1)

    def fields(self) -> dict[str, Any]:
        """As `Views`."""
        drawn = {"augmentation": self.policy, "augmentation_version": AUGMENTATION_VERSION, "seed": self.seed}
        return {**clip_fields(self), **drawn, **({"ending": asdict(self.ending)} if self.ending else {})}

    def stream(self, item: VideoItem, segment: int, purpose: str) -> np.random.RandomState:
        """Where the draws of one kind come from, for a segment of an item."""
        return random_state(self.seed, item.id, item.draw, segment, purpose)

    def _chosen(self, item: VideoItem, info: VideoInfo) -> list[list[int]]:
        """The frames of each segment, rising."""
        if self.ending:
            return [before_action(self, self.ending, item, info)]
        first, stop = info.frames_between(item.start_s, item.end_s, where=item.path)
        step = step_in(self, item, info)
        windows = (self._window(item, segment, stop - first, step) for segment in range(self.num_segments))
        return [[first + index for index in window] for window in windows]

    def _window(self, item: VideoItem, segment: int, num_frames: int, step: int) -> list[int]:
        rng = self.stream(item, segment, "window")
        return segment_indices(num_frames, self.frames_per_clip, step, self.num_segments, rng=rng)[segment]


def _resize(frames: Frames, size: int) -> Frames:
    """uint8 [n, h, w, 3] -> uint8 [n, S, S, 3] with S = `size`: torch's bilinear resize of floats, rounded.

    Frames take the place of channels, where torch computes many at once; three would take twice the time. Always as
    many, so that none falls among the last few, which torch rounds otherwise.
    """
    n, height, width, _ = frames.shape
    output = np.empty((n, size, size, 3), np.uint8)
    for start in range(0, n, _LANES):
        part = frames[start : start + _LANES]
        for channel in range(3):
            lanes = np.zeros((1, height, width, _LANES), np.uint8)
            lanes[0, ..., : len(part)] = part[..., channel].transpose(1, 2, 0)
            values = torch.from_numpy(lanes).float().movedim(-1, 1)
            resized = F.interpolate(values, (size, size), mode="bilinear", align_corners=False)
            rounded = resized.round_().movedim(1, -1).numpy().astype(np.uint8)
            output[start : start + len(part), ..., channel] = rounded[0, ..., : len(part)].transpose(2, 0, 1)
    return output
