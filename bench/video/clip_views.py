"""Views of a video: the item that is asked for, the frames of its clips, the pixels of its views.

Shapes: T frames of a clip, n frames read at once, H x W pixels of the video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.types import FrameOrder
from bench.video.clips import Ending, ending_indices, in_order, segment_indices, timed_step
from bench.video.decode import Decoder, Video
from bench.video.info import VideoInfo
from bench.video.views import Interpolation, normalised_clips, view_crops

_MOST_FRAMES_AT_ONCE = 16
_BYTES_AT_ONCE = 1 << 23
"""Whole frames are read in groups of about this size: they are still in the processor's cache when they are cropped."""


@dataclass(frozen=True)
class VideoItem:
    """A video, or the part of it between two times, that clips are drawn from."""

    id: str
    path: str
    draw: int = 0
    """Number of the draw: distinguishes random draws of the same sample."""
    start_s: float | None = None
    end_s: float | None = None
    attempt: int = 0
    """How many other videos have failed in this one's place."""
    fps: float | None = None
    """Frames per second of a folder of frames; a video file states its own."""


class Plan(Protocol):
    """What workers make of a video."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the uint8 pixels that one item gives."""
        ...

    @property
    def decoder(self) -> Decoder:
        """What decodes the videos."""
        ...

    def fill(self, item: VideoItem, video: Video, out: npt.NDArray[np.uint8]) -> list[list[int]]:
        """Write the item's pixels into `out` and return the frame numbers of its clips; errors make the item fail."""
        ...


class Views(Plan, Protocol):
    """The clips that an encoder sees of an item: V views of K segments, each T frames."""

    @property
    def frame_order(self) -> FrameOrder:
        """In which order the frames of a clip are shown."""
        ...

    @property
    def num_views(self) -> int:
        """V, over which the answers of a probe are averaged."""
        ...

    @property
    def num_segments(self) -> int:
        """K, whose tokens a probe reads jointly."""
        ...

    @property
    def clips_per_item(self) -> int:
        """V * K."""
        ...

    @property
    def draws(self) -> bool:
        """Whether every draw of an item has pixels of its own."""
        ...

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of a clip; of a square one where items differ in shape."""
        ...

    @property
    def usual_shape(self) -> tuple[int, int, int]:
        """(T, H, W) of a clip of a usual video, for forecasts."""
        ...

    def unpack(self, pixels: Tensor) -> Tensor:
        """What `fill` has written for one item -> its clips, uint8 [V * K, T, H, W, 3]."""
        ...

    def finish(
        self,
        pixels: Tensor,
        items: Sequence[VideoItem],
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        device: torch.device,
    ) -> Iterator[Tensor]:
        """Clips of `items`, uint8 [b * V * K, T, H, W, 3] -> at most `size` at a time, in order: normalised, float32
        [n, 3, T, H, W] on `device`."""
        ...

    @property
    def unsaid(self) -> tuple[tuple[str, Any], ...]:
        """Fields and the values at which records do not name them."""
        ...

    def ordered(self, order: FrameOrder) -> Views:
        """The same views, the frames of every clip in another order."""
        ...

    def alone(self) -> Views:
        """The same with one clip of an item."""
        ...

    def fields(self) -> dict[str, Any]:
        """What decides the pixels of an item besides its content: a part of the key of features."""
        ...


@dataclass(frozen=True)
class ClipPlan:
    """Test views. Everything that decides which pixels a sample gives, and nothing that does not."""

    frames_per_clip: int
    frame_step: int
    num_segments: int
    views: int
    size: int
    """Height and width of a view, pixels."""
    sampling: Literal["center", "random"]
    """Where the window of a segment lies; "random" is the official way."""
    seed: int
    """Decides the random windows, together with a sample's id and draw."""
    short_side: int | None
    """Short side that videos are resized to before the crop, pixels; None for the protocol's."""
    decoder: Decoder
    interpolation: Interpolation = "opencv-bilinear"
    squash: bool = False
    """Whether both sides are resized to `short_side`, whatever the video's shape."""
    fps: float | None = None
    """Frames of a clip per second of the video; `frame_step` then means nothing."""
    duration_s: float | None = None
    """Seconds that a clip spans; `frame_step` then means nothing."""
    frame_order: FrameOrder = "ordered"
    """In which order the frames of a clip are shown."""
    ending: Ending | None = None
    """One clip that ends before the item's action, its time from start to end; `sampling` then means nothing."""

    def __post_init__(self) -> None:
        for name in ("frames_per_clip", "frame_step", "num_segments", "views", "size"):
            if getattr(self, name) < 1:
                raise BenchError(f"{name} is {getattr(self, name)}", fix="it must be at least 1")
        check_ending(self, self.ending)

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        """Shape of a sample's pixels: [views, num_segments, T, size, size, 3]."""
        return (self.views, self.num_segments, self.frames_per_clip, self.size, self.size, 3)

    @property
    def num_views(self) -> int:
        """The views of a segment."""
        return self.views

    @property
    def clips_per_item(self) -> int:
        """Views times segments."""
        return self.views * self.num_segments

    @property
    def draws(self) -> bool:
        """As `Views`: at random windows, and before actions at drawn times."""
        return self.ending.drawn if self.ending else self.sampling == "random"

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """(T, size, size)."""
        return (self.frames_per_clip, self.size, self.size)

    @property
    def unsaid(self) -> tuple[tuple[str, Any], ...]:
        """As `Views`: none."""
        return ()

    @property
    def usual_shape(self) -> tuple[int, int, int]:
        """As `clip_shape`."""
        return self.clip_shape

    def unpack(self, pixels: Tensor) -> Tensor:
        """An item's pixels, of the shape of these views -> its clips, uint8 [V * K, T, size, size, 3]."""
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
        """As `Views`: nothing is drawn, so the items do not matter."""
        return normalised_clips(pixels, mean, std, size, device)

    def ordered(self, order: FrameOrder) -> ClipPlan:
        """As `Views`."""
        return replace(self, frame_order=order)

    def alone(self) -> ClipPlan:
        """As `Views`."""
        return replace(self, num_segments=1, views=1)

    def fields(self) -> dict[str, Any]:
        """As `Views`. Neither batch nor workers are among them, nor the seed of views that draw nothing. The decoder
        is: a few kinds of file differ between the two. What is not official has fields of its own, so that the keys of
        official features stay what they are."""
        unusual: dict[str, Any] = {}
        if self.interpolation != "opencv-bilinear":
            unusual["interpolation"] = self.interpolation
        if self.squash:
            unusual["squash"] = True
        if self.ending:
            unusual["ending"] = asdict(self.ending)
        return {
            **clip_fields(self),
            "views": self.views,
            "short_side": self.short_side,
            "sampling": self.sampling,
            "seed": self.seed if self.draws else None,
            **unusual,
        }

    def fill(self, item: VideoItem, video: Video, out: npt.NDArray[np.uint8]) -> list[list[int]]:
        """Write the views of the item's segments into `out`, of the shape of these views."""
        ending = self.ending
        chosen = [before_action(self, ending, item, video.info)] if ending else self._segments(item, video.info)
        indices = ordered_clips(chosen, self.frame_order, item)
        for frames, places in read_clips(video, indices):
            crops = view_crops(
                frames,
                self.size,
                self.views,
                short_side=self.short_side,
                interpolation=self.interpolation,
                squash=self.squash,
            )
            for number, segment, position in places:
                for view, crop in enumerate(crops):
                    out[view, segment, position] = crop[number]
        return indices

    def _segments(self, item: VideoItem, info: VideoInfo) -> list[list[int]]:
        first, stop = info.frames_between(item.start_s, item.end_s, where=item.path)
        step = step_in(self, item, info)
        rng = random_state(self.seed, item.id, item.draw) if self.sampling == "random" else None
        within = segment_indices(stop - first, self.frames_per_clip, step, self.num_segments, rng=rng)
        return [[first + index for index in clip] for clip in within]


class Paced(Protocol):
    """How far apart the frames of a clip are."""

    @property
    def frames_per_clip(self) -> int: ...
    @property
    def frame_step(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def duration_s(self) -> float | None: ...


class SquareClips(Paced, Protocol):
    """What test and training views have in common."""

    @property
    def num_segments(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def decoder(self) -> Decoder: ...
    @property
    def frame_order(self) -> FrameOrder: ...


class DrawnClips(SquareClips, Protocol):
    """Clips some of whose frames may be drawn."""

    @property
    def seed(self) -> int: ...


def check_ending(views: SquareClips, ending: Ending | None) -> None:
    """Raise ValueError where clips before an action have no rate, or several segments."""
    if ending and (views.fps is None or views.num_segments > 1):
        raise ValueError("clips before an action have a rate in frames per second, and one segment")


def before_action(views: DrawnClips, ending: Ending, item: VideoItem, info: VideoInfo) -> list[int]:
    """The frames of a clip that ends before the item's action."""
    if views.fps is None or item.start_s is None or item.end_s is None:
        raise ValueError("no action to end before")
    moment = ending.moment(random_state(views.seed, item.id, item.draw))
    times = (item.start_s, item.end_s, moment, views.frames_per_clip, views.fps)
    return ending_indices(info, *times, by_number=ending.by_number, where=item.path)


def clip_fields(views: SquareClips) -> dict[str, Any]:
    """What decides the pixels of test and of training views alike."""
    timed = views.fps is not None or views.duration_s is not None
    return {
        "frames_per_clip": views.frames_per_clip,
        "frame_step": None if timed else views.frame_step,
        "num_segments": views.num_segments,
        "size": views.size,
        "decoder": decoder_field(views.decoder),
        **({"fps": views.fps, "duration_s": views.duration_s} if timed else {}),
        **order_field(views.frame_order),
    }


def decoder_field(decoder: Decoder) -> str:
    """The decoder as it is a part of keys: `auto` decodes as PyAV does."""
    return "decord" if decoder == "decord" else "pyav"


def order_field(order: FrameOrder) -> dict[str, Any]:
    """The order of frames as it is a part of keys: the usual one goes unsaid."""
    return {} if order == "ordered" else {"frame_order": order}


def step_in(plan: Paced, item: VideoItem, info: VideoInfo) -> int:
    """Frames of this video between two frames of a clip. Raises BenchError where that takes an unknown frame rate."""
    if (plan.fps is None and plan.duration_s is None) or info.num_frames == 1:
        return plan.frame_step
    if info.fps <= 0:
        raise BenchError(
            "its frame rate is unknown, and the step of its clips follows from it",
            where=item.path,
            fix="give the rate of its frames, or a step in frames with --set clip.step=N",
        )
    return timed_step(info.fps, plan.frames_per_clip, fps=plan.fps, duration_s=plan.duration_s)


def random_state(*parts: object) -> np.random.RandomState:
    """A random stream that depends on these parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def ordered_clips(clips: Sequence[Sequence[int]], order: FrameOrder, item: VideoItem) -> list[list[int]]:
    """The chosen frames of an item's clips, segment by segment, in an order.

    A shuffle depends on the sample, its draw and the segment alone: runs of several seeds share their tokens.
    """
    streams = (random_state("frame order", item.id, item.draw, segment) for segment in range(len(clips)))
    return [in_order(clip, order, rng) for clip, rng in zip(clips, streams, strict=True)]


def read_clips(
    video: Video, indices: Sequence[Sequence[int]]
) -> Iterator[tuple[npt.NDArray[np.uint8], list[tuple[int, int, int]]]]:
    """A few frames at a time, uint8 [n, H, W, 3], and their places: (number among these n, clip, position in it).

    Every frame is decoded once, however many clips hold it. Whole frames of a large video would fill the memory, so
    each group is to be cropped before the next is read.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for clip, numbers in enumerate(indices):
        for position, index in enumerate(numbers):
            places.setdefault(index, []).append((clip, position))
    rising = sorted(places)
    frame_bytes = video.info.height * video.info.width * 3
    at_once = max(1, min(_MOST_FRAMES_AT_ONCE, _BYTES_AT_ONCE // frame_bytes))
    for start in range(0, len(rising), at_once):
        group = rising[start : start + at_once]
        yield video.read(group), [(number, *place) for number, index in enumerate(group) for place in places[index]]
