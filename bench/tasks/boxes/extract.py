"""Encoder x key frames -> features of their boxes in the cache: each key frame is encoded once for all its boxes.

An item of the store is one box, by the content of its file, its second and its corners, so that annotated and detected
boxes, splits and recipes share what they have in common. Whole frames are not kept.

Shapes: T frames, h x w pixels; M tokens and C channels of a box (bench.features.regions).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.cards.load import BoxReading
from bench.core.space import check_space, token_bytes
from bench.core.threads import SMALL_CLIP, small_steps
from bench.data.key_frames import BoxSample
from bench.encoders.contract import Encoder
from bench.features.batch import ClipsAtOnce
from bench.features.extract import clips_at_once, item_key
from bench.features.half_precision import HalfPrecision
from bench.features.regions import box_features, box_shape, chosen_layers, corners, token_maps
from bench.features.store import Array, Store, items_per_shard
from bench.pipeline.features import sample_items
from bench.video.contents import CHANGED
from bench.video.frame_views import KeyFramePlan, unpacked
from bench.video.loader import load_clips
from bench.video.views import normalise

BOXES_VERSION = 1
"""Part of the key of box features: raised with every change of this package that changes them."""


@dataclass
class BoxExtraction:
    """What an extraction did."""

    failures: dict[str, str] = field(default_factory=dict)
    """Id of a key frame -> why it could not be read."""
    encoded_frames: int = 0
    cached_frames: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    halved_to: int | None = None
    """Key frames that the encoder saw at once after memory had run out on more; None where it did not."""


def box_fields(encoder: Encoder, plan: KeyFramePlan, reading: BoxReading, token_bits: int = 16) -> dict[str, Any]:
    """Every field that decides the features of a box, besides the video, the second and the corners."""
    spec = encoder.input_spec
    return {
        "boxes_version": BOXES_VERSION,
        **encoder.key_fields,
        "precision": encoder.precision,
        "dtype": "int8" if token_bits == 8 else "fp16",
        "mean": spec.mean,
        "std": spec.std,
        "frames_per_clip": plan.frames_per_clip,
        "pace": [plan.frame_step if plan.fps is plan.duration_s is None else None, plan.fps, plan.duration_s],
        "short_side": plan.short_side,
        "square": plan.square,
        "interpolation": plan.interpolation,
        "decoder": "decord" if plan.decoder == "decord" else "pyav",
        "layers": chosen_layers(encoder.facts, reading.layers),
        "cells": reading.cells,
        "over_time": reading.over_time,
        "over_cells": reading.over_cells,
        **encoder.rounding(encoder.facts.num_tokens(plan.frames_per_clip, plan.short_side, plan.short_side)),
    }


def box_keys(sample: BoxSample, contents: Mapping[str, str]) -> list[str]:
    """Names of the features of a key frame's boxes in their space."""
    place = item_key(sample_items(sample.sample, contents, 1)[0])
    return [f"{place}/" + ",".join(f"{value:.6f}" for value in box) for box in sample.looked_at]


def extract_boxes(
    encoder: Encoder,
    samples: Sequence[BoxSample],
    plan: KeyFramePlan,
    reading: BoxReading,
    store: Store,
    contents: Mapping[str, str],
    *,
    num_workers: int,
    timeout_s: float,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    changed: Callable[[Iterable[str]], Collection[str]] = lambda paths: (),
) -> BoxExtraction:
    """Bring the features of all boxes of `samples` into `store`; what is there is kept, what fails is listed.

    An interrupted extraction goes on at the last finished shard. Where a batch does not fit the memory of the device,
    it and all that follow are halved. `changed` says which of the files that were just read are not what they were
    when their ids were taken: their key frames fail. Raises BenchError, with the key frame, where the encoder gives
    values that are not finite in fp16, and where fp16 loses what tells boxes apart.
    """
    started = time.perf_counter()
    result = BoxExtraction()
    keys = {sample.sample.id: box_keys(sample, contents) for sample in samples}
    result.notes += store.open(key for names in keys.values() for key in names)
    missing = [s for s in samples if any(key not in store.locations for key in keys[s.sample.id])]
    result.cached_frames = len(samples) - len(missing)
    side = plan.short_side
    num_tokens, channels = box_shape(encoder.facts, reading, plan.frames_per_clip, side)
    item_bytes = token_bytes(channels, store.token_bits) * num_tokens
    check_space(store.folder, item_bytes * sum(len(sample.looked_at) for sample in missing))
    per_shard = items_per_shard(item_bytes)
    usual = batch_size or clips_at_once(encoder, encoder.facts.num_tokens(plan.frames_per_clip, side, side))
    # As for clips: on a CPU the features of a frame must not depend on what it was encoded with.
    at_once = ClipsAtOnce(1 if encoder.device.type == "cpu" else usual)
    half = HalfPrecision(encoder, store.token_bits)
    shard: dict[str, Array] = {}
    whose = {key: sample.sample for sample in missing for key in keys[sample.sample.id]}

    def write(names: Sequence[str]) -> None:
        half.check()
        other = changed({whose[name].path for name in names})
        result.failures |= {whose[name].id: CHANGED for name in names if whose[name].path in other}
        boxes = {name: shard.pop(name) for name in names}
        sound = [name for name in names if whose[name].path not in other]
        if sound:
            store.add(sound, np.stack([boxes[name] for name in sound])[:, None])  # one view

    for batch in _batches(missing, plan, contents, at_once.size, num_workers, timeout_s, result.failures):
        for sample, features in zip(batch.samples, _encode(encoder, batch, plan, reading, at_once, half), strict=True):
            fresh = zip(keys[sample.sample.id], features, strict=True)
            shard |= {key: box for key, box in fresh if key not in store.locations}
            while len(shard) >= per_shard:
                write(list(shard)[:per_shard])
        result.encoded_frames += len(batch.samples)
        if progress:
            progress(result.cached_frames + result.encoded_frames + len(result.failures), len(samples))
    if shard:
        write(list(shard))
    if at_once.halved:
        result.halved_to = at_once.size
        result.notes.append(f"out of memory on larger batches: {at_once.size} key frames were encoded at once")
    result.seconds = time.perf_counter() - started
    return result


@dataclass(frozen=True)
class _Batch:
    """Key frames of one size."""

    samples: list[BoxSample]
    clips: list[Tensor]
    """Each uint8 [T, h, w, 3]."""

    def parts(self, size: int) -> Iterator[_Batch]:
        """At most `size` key frames at a time, in order."""
        for start in range(0, len(self.samples), size):
            yield _Batch(self.samples[start : start + size], self.clips[start : start + size])


def _batches(
    samples: Sequence[BoxSample],
    plan: KeyFramePlan,
    contents: Mapping[str, str],
    size: int,
    num_workers: int,
    timeout_s: float,
    failures: dict[str, str],
) -> Iterator[_Batch]:
    """Readable key frames, at most `size` neighbours of one size at a time; the others go to `failures`."""
    items = [sample_items(sample.sample, contents, 1)[0] for sample in samples]
    batch = _Batch([], [])
    loaded_clips = load_clips(items, plan, num_workers=num_workers, timeout_s=timeout_s)
    for sample, loaded in zip(samples, loaded_clips, strict=True):
        if loaded.pixels is None:
            failures[sample.sample.id] = loaded.error or "could not be read"
            continue
        clip = unpacked(loaded.pixels, plan.frames_per_clip)
        if batch.clips and (len(batch.clips) == size or batch.clips[0].shape != clip.shape):
            yield batch
            batch = _Batch([], [])
        batch.samples.append(sample)
        batch.clips.append(clip)
    if batch.samples:
        yield batch


def _encode(
    encoder: Encoder,
    batch: _Batch,
    plan: KeyFramePlan,
    reading: BoxReading,
    at_once: ClipsAtOnce,
    half: HalfPrecision,
) -> list[Array]:
    """Features of the boxes of each key frame, fp16 [boxes, M, C]; the encoder sees at most `at_once.size` at once."""
    features = at_once.fitting(
        lambda size: [boxes for part in batch.parts(size) for boxes in _encode_at_once(encoder, part, plan, reading)]
    )
    return [
        half.rounded(boxes, partial(_called, sample)).cpu().numpy()
        for sample, boxes in zip(batch.samples, features, strict=True)
    ]


def _called(sample: BoxSample, box: int) -> str:
    """What errors call a box."""
    return f"box {box} of key frame {sample.sample.id}, {sample.sample.path}"


def _encode_at_once(encoder: Encoder, batch: _Batch, plan: KeyFramePlan, reading: BoxReading) -> list[Tensor]:
    """Features of the boxes of each key frame, float32 [boxes, M, C], on the encoder's device."""
    spec, pixels = encoder.input_spec, torch.stack(batch.clips)
    if encoder.device.type == "cuda":
        pixels = pixels.pin_memory().to(encoder.device, non_blocking=True)
    height, width = pixels.shape[2:4]
    numbers = encoder.embed_dim * encoder.facts.num_tokens(plan.frames_per_clip, height, width)
    with torch.inference_mode(), small_steps(encoder.device, numbers, small=SMALL_CLIP):
        clips = normalise(pixels, spec.mean, spec.std)
        chosen = chosen_layers(encoder.facts, reading.layers)
        # The last layer alone is what the encoder gives when it is called, and every encoder can be called.
        only_last = chosen in ((), encoder.facts.layer_indices[-1:])
        layers = [encoder(clips)] if only_last else encoder.layers(clips, chosen)
        grid = encoder.grid(plan.frames_per_clip, height, width)
        maps = token_maps(layers, grid, encoder.facts.special_tokens)
        return [
            box_features(map_, corners(sample.looked_at), reading)
            for map_, sample in zip(maps, batch.samples, strict=True)
        ]
