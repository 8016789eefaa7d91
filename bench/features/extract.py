"""Encoder x videos -> tokens in the cache: each clip is encoded once, whatever is there already is not touched.

Shapes: b items, V views, K segments, T frames, S pixels of a side, N tokens of a clip, D channels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.space import check_space, token_bytes
from bench.core.threads import SMALL_CLIP, small_steps
from bench.encoders.contract import Encoder
from bench.features.batch import ClipsAtOnce
from bench.features.half_precision import HalfPrecision, check_finite
from bench.features.store import Array, Store, items_per_shard
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.contents import CHANGED
from bench.video.decoded import remembered_clips
from bench.video.loader import LoadedClips
from bench.video.train_views import TrainViews, finish
from bench.video.views import normalise

Progress = Callable[[int, int], None]

_TOKENS_PER_BATCH = {"cpu": 2**14, "cuda": 2**18}
_SMALL_ITEMS = 8
AUGMENTATION_VERSION = 1
"""Part of the key of augmented features: raised with every change of bench/video/train_views.py that changes pixels."""


@dataclass
class Extraction:
    """What an extraction did."""

    failures: dict[str, str] = field(default_factory=dict)
    """Item key -> why it could not be read."""
    encoded_clips: int = 0
    cached_clips: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    halved_to: int | None = None
    """Clips that the encoder saw at once after memory had run out on more; None where it did not."""


def item_key(item: VideoItem) -> str:
    """Name of an item's tokens in its space: content id and draw, which is all that its pixels depend on; and, where it
    is a part between two times, what these are."""
    part = "" if item.start_s is None and item.end_s is None else "/presentation"
    return f"{item.id}/{item.draw}{part}"


def feature_fields(encoder: Encoder, plan: ClipPlan | TrainViews, token_bits: int = 16) -> dict[str, Any]:
    """Every field that decides the tokens of a video, and none that does not: the key of the feature space.

    Device, batch and workers are not among them, nor is the seed of a plan that draws nothing. The decoder is: a few
    kinds of file differ between the two. Preprocessing other than the official one adds fields of its own, so that
    the keys of official features stay what they are.
    """
    spec = encoder.input_spec
    return {
        "protocol_version": 1,
        **encoder.key_fields,
        "precision": encoder.precision,
        "dtype": "int8" if token_bits == 8 else "fp16",
        "mean": spec.mean,
        "std": spec.std,
        "frames_per_clip": plan.frames_per_clip,
        "frame_step": plan.frame_step,
        "num_segments": plan.num_segments,
        "size": plan.size,
        "decoder": "decord" if plan.decoder == "decord" else "pyav",
        **({"layers": encoder.facts.out_layers} if encoder.facts.out_layers else {}),
        **encoder.rounding(encoder.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)),
        **_pace_fields(plan),
        **_view_fields(plan),
        **({} if plan.frame_order == "ordered" else {"frame_order": plan.frame_order}),
    }


def _pace_fields(plan: ClipPlan | TrainViews) -> dict[str, Any]:
    if plan.fps is None and plan.duration_s is None:
        return {}
    return {"frame_step": None, "fps": plan.fps, "duration_s": plan.duration_s}


def _view_fields(plan: ClipPlan | TrainViews) -> dict[str, Any]:
    if isinstance(plan, TrainViews):
        return {"augmentation": plan.policy, "augmentation_version": AUGMENTATION_VERSION, "seed": plan.seed}
    unusual: dict[str, Any] = {}
    if plan.interpolation != "opencv-bilinear":
        unusual["interpolation"] = plan.interpolation
    if plan.squash:
        unusual["squash"] = True
    if plan.ending:
        unusual["ending"] = asdict(plan.ending)
    draws = plan.ending.drawn if plan.ending else plan.sampling == "random"
    return {
        "views": plan.views,
        "short_side": plan.short_side,
        "sampling": plan.sampling,
        "seed": plan.seed if draws else None,
        **unusual,
    }


def extract(
    encoder: Encoder,
    items: Sequence[VideoItem],
    plan: ClipPlan | TrainViews,
    store: Store,
    *,
    num_workers: int,
    timeout_s: float = 60.0,
    batch_size: int | None = None,
    progress: Progress | None = None,
    changed: Callable[[Iterable[str]], Collection[str]] = lambda paths: (),
) -> Extraction:
    """Bring the tokens of all `items` into `store`, shard by shard; what is there is kept, what fails is listed.

    An interrupted extraction goes on at the last finished shard. Where a batch does not fit the memory of the device,
    it and all that follow are halved. `changed` says which of the files that were just read are not what they were
    when their ids were taken: these fail. Raises BenchError, with the video, where the encoder gives values that are
    not finite in fp16, and where fp16 loses what tells tokens apart.
    """
    started = time.perf_counter()
    result = Extraction()
    unique = {item_key(item): item for item in items}
    result.notes += store.open(unique)
    clips_per_item = math.prod(plan.shape[:2])
    missing = {key: item for key, item in unique.items() if key not in store.locations}
    result.cached_clips = (len(unique) - len(missing)) * clips_per_item
    num_tokens = encoder.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)
    item_bytes = token_bytes(encoder.embed_dim, store.token_bits) * num_tokens * clips_per_item
    check_space(store.folder, len(missing) * item_bytes)
    at_once = ClipsAtOnce(batch_size or clips_at_once(encoder, num_tokens))
    per_shard = items_per_shard(item_bytes)
    loaded = remembered_clips(missing, plan, num_workers=num_workers, timeout_s=timeout_s)
    half = HalfPrecision(encoder, store.token_bits)
    shard: dict[str, Array] = {}

    def write() -> None:
        half.check()
        other = changed({missing[key].path for key in shard})
        failed = [key for key in shard if missing[key].path in other]
        for key in failed:
            del shard[key]
            result.failures[key] = CHANGED
        result.encoded_clips -= len(failed) * clips_per_item
        if shard:
            store.add(list(shard), np.stack(list(shard.values())))
        shard.clear()

    together = items_at_once(encoder, at_once.size, clips_per_item, num_tokens)
    for batch in _batches(zip(missing, loaded, strict=True), together, result.failures):
        pixels = [clips.pixels for _, clips in batch if clips.pixels is not None]
        tokens = encode(encoder, pixels, [missing[key] for key, _ in batch], plan, at_once, half)
        for (key, _), item_tokens in zip(batch, tokens.cpu().numpy(), strict=True):
            shard[key] = item_tokens
            if len(shard) == per_shard:
                write()
        result.encoded_clips += len(batch) * clips_per_item
        if progress:
            cached = len(unique) - len(missing)
            progress(cached + result.encoded_clips // clips_per_item + len(result.failures), len(unique))
    if shard:
        write()
    if at_once.halved:
        result.halved_to = at_once.size
        result.notes.append(f"out of memory on larger batches: {at_once.size} clips were encoded at once")
    result.seconds = time.perf_counter() - started
    return result


def items_at_once(encoder: Encoder, clips_at_once: int, clips_per_item: int, num_tokens: int) -> int:
    """Items that are collected before they are encoded. On a CPU, which sees one clip after another, only as many as
    save calls: the workers decode a few ahead, and would stand still while many are encoded."""
    together = clips_at_once // clips_per_item
    if encoder.device.type == "cpu":
        together = min(together, _SMALL_ITEMS, SMALL_CLIP // (num_tokens * encoder.embed_dim))
    return max(1, together)


def clips_at_once(encoder: Encoder, num_tokens: int) -> int:
    """Clips of so many tokens that the encoder is given at once, where the user does not say."""
    return max(1, _TOKENS_PER_BATCH.get(encoder.device.type, 2**16) // num_tokens)


def encode(
    encoder: Encoder,
    pixels: Sequence[Tensor],
    items: Sequence[VideoItem],
    plan: ClipPlan | TrainViews,
    at_once: ClipsAtOnce,
    half: HalfPrecision | None = None,
) -> Tensor:
    """Clips of several items, each uint8 [V, K, T, S, S, 3] -> tokens [b, V, K * N, D] (protocol.md 4.3), float32, or
    what `half` makes of them. Raises BenchError, with the video, where they are not finite.

    They are on the device of the encoder, which sees at most `at_once.size` clips at once. On a CPU it sees one: matrix
    products of other sizes are summed in other orders, and tokens that depended on their neighbours in a batch would
    make scores depend on the batch size, on what the cache held already, and on files that could not be read.
    """
    if encoder.device.type == "cpu":
        at_once = ClipsAtOnce(1)
    b, (V, K) = len(pixels), plan.shape[:2]
    numbers = encoder.embed_dim * encoder.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)
    with small_steps(encoder.device, numbers, small=SMALL_CLIP):
        stacked = torch.stack(list(pixels))

        def encoded(size: int) -> Tensor:
            parts: list[Tensor] = []
            for some in _normalised(encoder, stacked, items, plan, size):
                tokens, before = encoder(some), sum(map(len, parts))

                def name(row: int, before: int = before) -> str:
                    return items[(before + row) // (V * K)].path

                if half is None:
                    check_finite(encoder, tokens, name)
                parts.append(tokens if half is None else half.rounded(tokens, name))
            return torch.cat(parts)

        tokens = at_once.fitting(encoded)
    return tokens.view(b, V, K * tokens.shape[1], tokens.shape[2])


def _normalised(
    encoder: Encoder, pixels: Tensor, items: Sequence[VideoItem], plan: ClipPlan | TrainViews, batch_size: int
) -> Iterator[Tensor]:
    """Pixels [b, V, K, T, S, S, 3] -> at most `batch_size` normalised clips [n, 3, T, S, S] at a time, in order."""
    spec = encoder.input_spec
    if isinstance(plan, TrainViews):
        size = max(1, batch_size // plan.num_segments)
        for start in range(0, len(pixels), size):
            part = _on_device(pixels[start : start + size], encoder)
            clips = finish(part, items[start : start + size], plan, spec.mean, spec.std)
            yield from _chunks(clips, batch_size)
        return
    for clips in _chunks(pixels.flatten(0, 2), batch_size):
        yield normalise(_on_device(clips, encoder), spec.mean, spec.std)


def _on_device(pixels: Tensor, encoder: Encoder) -> Tensor:
    if encoder.device.type != "cuda":
        return pixels
    return pixels.pin_memory().to(encoder.device, non_blocking=True)


def _chunks(clips: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(clips), size):
        yield clips[start : start + size]


def _batches(
    loaded: Iterator[tuple[str, LoadedClips]], size: int, failures: dict[str, str]
) -> Iterator[list[tuple[str, LoadedClips]]]:
    """Readable items in lists of at most `size`; the others go to `failures`."""
    batch: list[tuple[str, LoadedClips]] = []
    for key, clips in loaded:
        if clips.pixels is None:
            failures[key] = clips.error or "could not be read"
            continue
        batch.append((key, clips))
        if len(batch) >= max(1, size):
            yield batch
            batch = []
    if batch:
        yield batch
