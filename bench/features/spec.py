"""What is kept of a sample: tokens of its clips or patches, or features of its boxes by RoIAlign (protocol.md 3.7).

Shapes: L layers, n clips of N tokens on a grid t x h x w, D channels; V * K clips of an item; P parts of an item, each
M tokens of C channels; boxes read on c x c cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.cards.load import BoxReading
from bench.data.formats.ava import Corners
from bench.data.sample import Sample
from bench.encoders.contract import Encoder, EncoderFacts
from bench.video.clip_views import VideoItem

BOXES_VERSION = 1
"""Part of the key of box features: raised with every change here that changes them."""
PATCHES_VERSION = 1
"""The same of patches."""


@dataclass(frozen=True)
class Request:
    """An item that is to be encoded, and the parts that are kept of its tokens."""

    item: VideoItem
    keys: tuple[str, ...]
    """Name of each part in the feature space."""
    boxes: tuple[Corners, ...] = ()
    """Box of each part, where parts are boxes: x1, y1, x2, y2 as shares of the frame."""

    @property
    def id(self) -> str:
        """Identifies the item: items whose pixels may differ have different ids."""
        return item_key(self.item)

    def parts(self) -> list[Request]:
        """Each part as a request of its own."""
        places = range(len(self.keys))
        return [Request(self.item, self.keys[i : i + 1], self.boxes[i : i + 1]) for i in places]

    def called(self, part: int) -> str:
        """What errors call a part."""
        at = f", second {self.item.start_s:g}" if self.item.start_s is not None else ""
        return f"box {part} of {self.item.path}{at}" if self.boxes else self.item.path


def item_key(item: VideoItem) -> str:
    """Name of an item in its space: content id and draw, which is all that its pixels depend on; and, where it is a
    part between two times, what these are."""
    part = "" if item.start_s is None and item.end_s is None else "/presentation"
    return f"{item.id}/{item.draw}{part}"


def sample_items(sample: Sample, contents: Mapping[str, str], draws: int) -> list[VideoItem]:
    """What the loader is asked for: identified by the file's content, so that equal clips share their tokens."""
    identity = contents.get(sample.path, f"unreadable {sample.path}")
    if sample.start_s is not None or sample.end_s is not None:
        identity += f"@{sample.start_s}-{sample.end_s}"
    if sample.fps is not None:
        identity += f"@{sample.fps}fps"
    return [
        VideoItem(id=identity, path=sample.path, draw=draw, start_s=sample.start_s, end_s=sample.end_s, fps=sample.fps)
        for draw in range(draws)
    ]


class FeatureSpec(Protocol):
    """What is kept of an item."""

    def request(self, item: VideoItem, sample: Sample) -> Request:
        """The request for an item of this sample; without keys where nothing of the item is kept."""
        ...

    def shape(self, facts: EncoderFacts, clip: tuple[int, int, int]) -> tuple[int, int]:
        """(M, C) of a part of one clip of (T, H, W)."""
        ...

    def read(self, encoder: Encoder, clips: Tensor, requests: Sequence[Request]) -> Tensor:
        """Normalised clips [n, 3, T, H, W], each of its request -> their parts one after another, float32 [*, M, C]."""
        ...

    def fields(self, facts: EncoderFacts) -> dict[str, Any]:
        """What decides the parts besides the clips: a part of the key of features."""
        ...


@dataclass(frozen=True)
class ClipTokens:
    """All tokens of a clip: one part."""

    def request(self, item: VideoItem, sample: Sample | None = None) -> Request:
        """As FeatureSpec."""
        return Request(item, (item_key(item),))

    def shape(self, facts: EncoderFacts, clip: tuple[int, int, int]) -> tuple[int, int]:
        """As FeatureSpec."""
        return facts.num_tokens(*clip), facts.embed_dim

    def read(self, encoder: Encoder, clips: Tensor, requests: Sequence[Request]) -> Tensor:
        """As FeatureSpec: [n, N, D]."""
        return encoder(clips)

    def fields(self, facts: EncoderFacts) -> dict[str, Any]:
        """As FeatureSpec."""
        return {"protocol_version": 1, **({"layers": facts.out_layers} if facts.out_layers else {})}


@dataclass(frozen=True)
class BoxTokens:
    """The features of the boxes of a clip: a part for each."""

    reading: BoxReading
    layers: tuple[int, ...]
    """Layers of the encoder whose channels are joined, counted from 0 and rising; none for an encoder without layers,
    whose tokens are read as they are."""
    boxes: Mapping[str, tuple[Corners, ...]] = field(repr=False)
    """Sample id -> the boxes that are looked into."""

    def request(self, item: VideoItem, sample: Sample) -> Request:
        """As FeatureSpec."""
        boxes, place = self.boxes[sample.id], item_key(item)
        names = (",".join(f"{value:.6f}" for value in box) for box in boxes)
        return Request(item, tuple(f"{place}/{name}" for name in names), boxes)

    def shape(self, facts: EncoderFacts, clip: tuple[int, int, int]) -> tuple[int, int]:
        """As FeatureSpec."""
        steps = facts.grid(*clip)[0] if self.reading.over_time == "all" else 1
        cells = self.reading.cells**2 if self.reading.over_cells == "all" else 1
        return steps * cells, facts.embed_dim * max(1, len(self.layers))

    def read(self, encoder: Encoder, clips: Tensor, requests: Sequence[Request]) -> Tensor:
        """As FeatureSpec."""
        with torch.inference_mode():
            # The last layer alone is what the encoder gives when it is called, and every encoder can be called.
            only_last = self.layers in ((), encoder.facts.layer_indices[-1:])
            layers = [encoder(clips)] if only_last else encoder.layers(clips, self.layers)
            maps = token_maps(layers, encoder.grid(*clips.shape[2:]), encoder.facts.special_tokens)
            features = [
                box_features(map_, corners(one.boxes), self.reading) for map_, one in zip(maps, requests, strict=True)
            ]
            return torch.cat(features)

    def fields(self, facts: EncoderFacts) -> dict[str, Any]:
        """As FeatureSpec."""
        reading = self.reading
        return {
            "boxes_version": BOXES_VERSION,
            "layers": self.layers,
            "cells": reading.cells,
            "over_time": reading.over_time,
            "over_cells": reading.over_cells,
        }


def chosen_layers(facts: EncoderFacts, count: int) -> tuple[int, ...]:
    """The layers that are read, counted from 0 and rising: the last and every second one before it, or the last ones
    where there are too few; none for an encoder without layers, whose tokens are read as they are."""
    every_second = facts.layer_indices[::-1][::2][:count]
    return every_second[::-1] if len(every_second) == count else facts.layer_indices[-count:]


def token_maps(layers: Sequence[Tensor], grid: tuple[int, int, int], special_tokens: int) -> Tensor:
    """Tokens of L layers, each [B, N, D] -> maps [B, t, L * D, h, w], without class tokens and registers."""
    t, h, w = grid
    joined = torch.cat(list(layers), dim=-1)
    B, _, channels = joined.shape
    patches = joined.view(B, t, special_tokens + h * w, channels)[:, :, special_tokens:]
    return patches.transpose(2, 3).reshape(B, t, channels, h, w)


def box_features(maps: Tensor, boxes: Tensor, reading: BoxReading) -> Tensor:
    """Maps [t, C, h, w] of one clip and boxes [n, 4] (x1, y1, x2, y2 as shares of the frame) -> [n, M, C].

    M is t * c * c, in (t, y, x) order, less what `reading` averages or takes the largest of. Channels are pooled by
    torchvision's RoIAlign with aligned corners, as many samples in a cell as it holds tokens.
    """
    from torchvision.ops import roi_align

    if reading.over_time == "mean":
        maps = maps.mean(dim=0, keepdim=True)
    t, C, h, w = maps.shape
    on_grid = boxes.to(maps) * torch.tensor([w, h, w, h], dtype=maps.dtype, device=maps.device)
    cells: Tensor = roi_align(maps, [on_grid] * t, output_size=reading.cells, sampling_ratio=0, aligned=True)
    values = cells.view(t, len(boxes), C, reading.cells**2)
    if reading.over_cells == "max":
        values = values.amax(dim=-1, keepdim=True)
    elif reading.over_cells == "mean":
        values = values.mean(dim=-1, keepdim=True)
    return values.permute(1, 0, 3, 2).flatten(1, 2)


def corners(boxes: Sequence[Corners]) -> Tensor:
    """Boxes as float32 [n, 4]."""
    return torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4))


@dataclass(frozen=True)
class PatchTokens:
    """The tokens of a still image on their grid, row by row: one part. Class tokens and registers are left out, steps
    of time, which all show the same image, are averaged, and layers are joined channel by channel."""

    def request(self, item: VideoItem, sample: Sample | None = None) -> Request:
        """As FeatureSpec."""
        return Request(item, (item_key(item),))

    def shape(self, facts: EncoderFacts, clip: tuple[int, int, int]) -> tuple[int, int]:
        """As FeatureSpec."""
        _, height, width = facts.grid(*clip)
        return height * width, facts.embed_dim * max(1, len(facts.out_layers))

    def read(self, encoder: Encoder, clips: Tensor, requests: Sequence[Request]) -> Tensor:
        """As FeatureSpec: [n, h * w, L * D]."""
        with torch.inference_mode():
            layers = encoder(clips).chunk(max(1, len(encoder.facts.out_layers)), dim=1)
            maps = token_maps(layers, encoder.grid(*clips.shape[2:]), encoder.facts.special_tokens)
            return maps.mean(dim=1).flatten(2).transpose(1, 2)

    def fields(self, facts: EncoderFacts) -> dict[str, Any]:
        """As FeatureSpec."""
        return {"patches_version": PATCHES_VERSION, **({"layers": facts.out_layers} if facts.out_layers else {})}
