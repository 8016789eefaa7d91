"""The official chains of training transforms, one frame after another, by timm's and torch's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.functional as TF
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP
from torch import Tensor

from bench.video.frame_ops import Op
from bench.video.info import Frames
from bench.video.train_views import VideoView
from bench.video.views import IMAGENET_MEAN, IMAGENET_STD

WITHOUT_ARGUMENT = ("AutoContrast", "Equalize", "Invert")


def timm_name(op: str) -> str:
    """What timm calls an operation in the set that RandAugment draws from with inc1."""
    return next(name for name in (f"{op}Increasing", f"{op}Rel", op) if name in NAME_TO_OP)


def changed_by_timm(image: Image.Image, ops: Sequence[Op]) -> Image.Image:
    """The image after these operations."""
    for op in ops:
        arguments: tuple[Any, ...] = () if op.name in WITHOUT_ARGUMENT else (op.argument,)
        function = NAME_TO_OP[timm_name(op.name)]
        image = function(image, *arguments, fillcolor=(128, 128, 128), resample=Image.Resampling.BICUBIC)
    return image


def official_clip(frames: Frames, view: VideoView, size: int) -> Tensor:
    """Frames, uint8 [T, H, W, 3] -> normalised clip, float32 [3, T, S, S], not erased (protocol.md 3.3)."""
    images = [changed_by_timm(Image.fromarray(frame), view.ops) for frame in frames]
    clip = torch.stack([TF.to_tensor(image) for image in images]).permute(0, 2, 3, 1)
    clip = ((clip - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(3, 0, 1, 2)
    crop = view.crop
    cut = clip[:, :, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    return F.interpolate(cut, (size, size), mode="bilinear", align_corners=False)


def blurred_noise(frames: int, height: int, width: int, seed: int = 0) -> Frames:
    """Frames with edges, slopes and flat parts: enlarged noise of several kinds, uint8 [T, H, W, 3]."""
    rng = np.random.RandomState(seed)
    filters = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    pictures = []
    for number in range(frames):
        cells = rng.randint(0, 256, (rng.randint(2, 12), rng.randint(2, 12), 3)).astype(np.uint8)
        pictures.append(np.asarray(Image.fromarray(cells).resize((width, height), filters[number % 3])))
    return np.stack(pictures)
