"""Test views: resize on uint8, crop, normalise. Official for V-JEPA (protocol.md 3.3), or as other weights need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bench.core.errors import BenchError
from bench.video.info import Frames

_Ints = npt.NDArray[Any]


def resized_crops(
    video: Frames, resized: tuple[int, int], tops: Sequence[int], lefts: Sequence[int], size: int
) -> list[Frames]:
    """The squares of `size` pixels at (tops[i], lefts[i]) of the video [T, H, W, 3] resized to `resized`: the bytes of
    OpenCV's bilinear resize (`cv2.resize(..., INTER_LINEAR)` on 8 bits), which the official V-JEPA code calls.

    Each is uint8 [T, size, size, 3]; those that overlap share memory, as every pixel that several show is computed
    once. Per value: a horizontal sum with 11-bit weights, 4 bits dropped; a vertical sum with 11-bit weights, 16 bits
    dropped from each term; the last 2 bits rounded.
    """
    if resized == video.shape[1:3]:
        return [video[:, top : top + size, left : left + size] for top, left in zip(tops, lefts, strict=True)]
    rows, columns = _shown(tops, size), _shown(lefts, size)
    shown = _resize(video, resized, rows, columns)
    corners = zip(np.searchsorted(rows, tops), np.searchsorted(columns, lefts), strict=True)
    return [shown[:, top : top + size, left : left + size] for top, left in corners]


def resized_whole(video: Frames, resized: tuple[int, int]) -> Frames:
    """The video [T, H, W, 3] resized to `resized`, height and width: uint8 [T, *resized, 3]."""
    if resized == video.shape[1:3]:
        return video
    return _resize(video, resized, np.arange(resized[0]), np.arange(resized[1]))


def _shown(starts: Sequence[int], size: int) -> _Ints:
    """The positions along one axis that any crop shows, rising."""
    return np.unique(np.add.outer(starts, np.arange(size)))


def _resize(video: Frames, resized: tuple[int, int], rows: _Ints, columns: _Ints) -> Frames:
    """Some rows and columns of the resized video: uint8 [T, R, C, 3]."""
    frames, height, width, _ = video.shape
    above, below, weight_above, weight_below = (x[rows] for x in taps(height, resized[0], flat_border=False))
    before, after, weight_before, weight_after = (x[columns] for x in taps(width, resized[1], flat_border=True))
    lines = np.union1d(above, below)  # source rows that are looked at; each is summed horizontally once
    above, below = np.searchsorted(lines, above), np.searchsorted(lines, below)
    # Pixels and channels share one axis: gathering bytes from it is much faster than gathering triples.
    before, after = ((3 * x[:, None] + np.arange(3)).ravel() for x in (before, after))
    weight_before, weight_after = (np.repeat(x, 3) for x in (weight_before, weight_after))
    weight_above, weight_below = weight_above[:, None], weight_below[:, None]

    output = np.empty((frames, len(rows), len(before)), dtype=np.uint8)
    # The same memory for all frames: fetching it anew would take longer than the sums.
    gathered = np.empty((len(lines), len(before)), dtype=np.uint8)
    across, second = np.empty((2, *gathered.shape), dtype=np.int32)
    total, lower = np.empty((2, *output.shape[1:]), dtype=np.int32)
    for frame, out in zip(video.reshape(frames, height, width * 3), output, strict=True):
        source = frame if len(lines) == height else frame[lines]
        for position, weight, term in ((before, weight_before, across), (after, weight_after, second)):
            np.take(source, position, axis=1, out=gathered, mode="clip")  # the mode that writes to `out` directly
            np.multiply(gathered, weight, out=term)
        across += second
        across >>= 4
        for position, weight, term in ((above, weight_above, total), (below, weight_below, lower)):
            np.take(across, position, axis=0, out=term, mode="clip")
            term *= weight
            term >>= 16
        total += lower
        total += 2
        total >>= 2
        out[:] = total
    return output.reshape(frames, len(rows), len(columns), 3)


def taps(length: int, resized: int, *, flat_border: bool) -> tuple[_Ints, _Ints, _Ints, _Ints]:
    """Two source positions and their weights (of 2048) for each output position along one axis.

    `flat_border` puts all weight on one tap where the other lies outside, as OpenCV does for columns. For
    rows it splits the weight over the same row twice, which rounds differently.
    """
    scale = 1.0 / (resized / length)
    position = ((np.arange(resized) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    fraction = position - first.astype(np.float32)
    if flat_border:
        fraction = np.where((first < 0) | (first >= length - 1), np.float32(0), fraction)
    one = np.float32(2048)
    first_weight = np.rint((np.float32(1) - fraction) * one).astype(np.int32)
    second_weight = np.rint(fraction * one).astype(np.int32)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), first_weight, second_weight


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["opencv-bilinear", "nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
"""How frames are resized: as the official V-JEPA code (OpenCV, no antialiasing), or by a filter of Pillow, which
antialiases: what timm and transformers do."""

OFFICIAL_CROP = 224 / 256
"""Share of the resized short side that the official centre crop shows."""


def test_views(
    video_uint8: torch.Tensor | npt.NDArray[np.uint8],
    size: int,
    views: int,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    short_side: int | None = None,
) -> torch.Tensor:
    """RGB video, uint8 [T, H, W, 3] -> normalised test views, float32 [views, 3, T, size, size].

    `crop_views` followed by `normalise`; see there for the rules and errors. Source: protocol.md 3.3.
    """
    return normalise(crop_views(video_uint8, size, views, short_side=short_side), mean, std)


def crop_views(
    video_uint8: torch.Tensor | npt.NDArray[np.uint8],
    size: int,
    views: int,
    *,
    short_side: int | None = None,
    interpolation: Interpolation = "opencv-bilinear",
    squash: bool = False,
) -> torch.Tensor:
    """RGB video, uint8 [T, H, W, 3] -> the test crops, uint8 [views, T, size, size, 3]; by default the official ones.

    - One view: the short side is resized to int(size * 256 / 224) pixels, then the centre is cropped.
    - V > 1 views: the short side is resized to `size`, then V crops lie (long side - size) // (V - 1) pixels apart
      along the long side, from its start: three are left, centre and right or top, centre and bottom. Where that does
      not divide, the last ends up to V - 2 pixels before the end, as officially. A square video gives equal views.

    `short_side` replaces the short side that the video is resized to, for data already at the encoder's size and for
    weights with a crop of their own; where it exceeds `size` the crops lie in the middle of the short side. `squash`
    resizes both sides to it, whatever the video's shape.

    The official resize gives the bytes of OpenCV's `cv2.resize(..., INTER_LINEAR)`, which the official code calls:
    11-bit weights and its order of roundings. `torch.nn.functional.interpolate` (bilinear, no antialias,
    rounded) is the nearest library function and differs by 1 of 255 in about one value of eight. The other
    interpolations give the bytes of Pillow, hence of timm's and torchvision's transforms. A video that has the
    resized size already is not resampled, which gives the same bytes.

    Raises BenchError for a size or view count below 1, `short_side` below `size`, or another shape or dtype.
    Source: protocol.md 3.3 (jepa evals/video_classification_frozen/utils.py:217-223, 286-323).
    """
    crops = view_crops(video_uint8, size, views, short_side=short_side, interpolation=interpolation, squash=squash)
    return torch.from_numpy(np.stack(crops))


def view_crops(
    video_uint8: torch.Tensor | npt.NDArray[np.uint8],
    size: int,
    views: int,
    *,
    short_side: int | None = None,
    interpolation: Interpolation = "opencv-bilinear",
    squash: bool = False,
) -> list[npt.NDArray[np.uint8]]:
    """As `crop_views`: a list of the views, each uint8 [T, size, size, 3]. They may share memory: only read them."""
    video = np.asarray(video_uint8)
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise BenchError(f"expected uint8 frames [T, H, W, 3], got {video.dtype} {list(video.shape)}")
    if size < 1 or views < 1:
        raise BenchError(f"size is {size} and views is {views}", fix="both must be at least 1")
    short = short_side or (size if views > 1 else int(size * 256 / 224))
    if short < size:
        raise BenchError(f"short_side {short} is below the crop of {size} pixels", fix="raise it")

    resized = (short, short) if squash else _resized_shape(video.shape[1], video.shape[2], short)
    tops, lefts = _crop_offsets(*resized, size, views)
    if interpolation == "opencv-bilinear":
        return resized_crops(video, resized, tops, lefts, size)
    whole = _resize_with_pillow(video, resized, interpolation)
    return [whole[:, top : top + size, left : left + size] for top, left in zip(tops, lefts, strict=True)]


def resize_frames(
    frames: npt.NDArray[np.uint8], resized: tuple[int, int], interpolation: Interpolation
) -> npt.NDArray[np.uint8]:
    """Whole frames, uint8 [T, H, W, 3] -> uint8 [T, *resized, 3], height and width in pixels."""
    if interpolation == "opencv-bilinear":
        return resized_whole(frames, resized)
    return _resize_with_pillow(frames, resized, interpolation)


def normalise(
    clips_uint8: torch.Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> torch.Tensor:
    """uint8 [..., T, H, W, 3] in 0..255 -> float32 [..., 3, T, H, W]: (value / 255 - mean) / std per channel.

    Runs on the tensor's own device, so that uint8, a quarter of the bytes, is what travels there.
    """
    # In place, and the axes moved while they are bytes: a quarter of the time.
    values = clips_uint8.movedim(-1, -4).contiguous().to(torch.float32)
    shape = (3, 1, 1, 1)
    means = torch.tensor(mean, dtype=torch.float32, device=values.device).reshape(shape)
    stds = torch.tensor(std, dtype=torch.float32, device=values.device).reshape(shape)
    return values.div_(255).sub_(means).div_(stds)


def normalised_clips(
    pixels: torch.Tensor, mean: Sequence[float], std: Sequence[float], size: int, device: torch.device
) -> Iterator[torch.Tensor]:
    """Clips, uint8 [n, T, H, W, 3] -> at most `size` normalised ones at a time, float32 [b, 3, T, H, W] on `device`."""
    for start in range(0, len(pixels), size):
        yield normalise(on_device(pixels[start : start + size], device), mean, std)


def on_device(pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bytes where an encoder computes; to a GPU without waiting for them."""
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels


def _resized_shape(height: int, width: int, short_side: int) -> tuple[int, int]:
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def _crop_offsets(height: int, width: int, size: int, views: int) -> tuple[list[int], list[int]]:
    """Top and left corners, in pixels, one per view."""
    # Python's round halves to even, as the official centre crop does.
    tops = [round((height - size) / 2)] * views
    lefts = [round((width - size) / 2)] * views
    if views > 1:
        step = (max(height, width) - size) // (views - 1)
        along = [number * step for number in range(views)]
        if height > width:
            tops = along
        else:
            lefts = along
    return tops, lefts


def _resize_with_pillow(
    video: npt.NDArray[np.uint8], resized: tuple[int, int], interpolation: Interpolation
) -> npt.NDArray[np.uint8]:
    """Whole frames, uint8 [T, H, W, 3] -> uint8 [T, *resized, 3]."""
    height, width = resized
    resample = Image.Resampling[interpolation.upper()]
    frames = [np.asarray(Image.fromarray(frame).resize((width, height), resample)) for frame in video]
    return np.stack(frames)
