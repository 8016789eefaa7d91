"""Encoder x items -> features on disk: each item is encoded once for all its parts, whatever is there already is not
touched.

Shapes: b items, V * K clips of each, T frames of H x W pixels, P parts of an item, N tokens of a part of a clip, D
channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.core.distributed import World
from bench.core.files import check_space, token_bytes
from bench.core.threads import SMALL_CLIP, small_steps
from bench.encoders.contract import Encoder
from bench.features.half_precision import HalfPrecision, check_finite
from bench.features.spec import FeatureSpec, Request
from bench.features.store import Array, Store, items_per_shard
from bench.video.clip_views import Views
from bench.video.contents import CHANGED
from bench.video.loader import LoadedClips, remembered_clips

Progress = Callable[[int, int], None]

_TOKENS_PER_BATCH = {"cpu": 2**14, "cuda": 2**18}
_SMALL_ITEMS = 8


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """How items are decoded and encoded, as far as it does not decide what comes out."""

    num_workers: int
    timeout_s: float = 60.0
    """An item that takes longer to decode fails."""
    batch_size: int | None = None
    """Clips that the encoder sees at once; by their tokens where it is None."""


@dataclass
class Extraction:
    """Account of an extraction."""

    failures: dict[str, str] = field(default_factory=dict)
    """Id of a request -> why its item could not be read."""
    encoded_clips: int = 0
    cached_clips: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    halved_to: int | None = None
    """Clips that the encoder saw at once after memory had run out on more; None where it did not."""


def space_fields(encoder: Encoder, views: Views, spec: FeatureSpec, token_bits: int = 16) -> dict[str, Any]:
    """Every field that decides the features of an item besides its content, and none that does not: the key of the
    feature space. Device, batch and workers are not among them."""
    normalisation = encoder.input_spec
    return {
        **encoder.key_fields,
        "precision": encoder.precision,
        "dtype": "int8" if token_bits == 8 else "fp16",
        "mean": normalisation.mean,
        "std": normalisation.std,
        **views.fields(),
        **spec.fields(encoder.facts),
        **encoder.rounding(encoder.facts.num_tokens(*views.clip_shape)),
    }


def extract(
    encoder: Encoder,
    requests: Sequence[Request],
    views: Views,
    spec: FeatureSpec,
    store: Store,
    options: ExtractOptions,
    *,
    progress: Progress | None = None,
    changed: Callable[[Iterable[str]], Collection[str]] = lambda paths: (),
) -> Extraction:
    """Bring all parts of `requests` into `store`, shard by shard; what is there is kept, what fails is listed.

    An interrupted extraction goes on at the last finished shard. Where a batch does not fit the memory of the device,
    it and all that follow are halved. `changed` says which of the files that were just read are not what they were
    when their ids were taken: these fail. Raises BenchError, with the video, where the encoder gives values that are
    not finite in fp16, and where fp16 loses what distinguishes tokens.
    """
    started = time.perf_counter()
    unique = joined(requests)
    result = Extraction(notes=store.open(key for one in unique.values() for key in one.keys))
    missing = {name: one for name, one in unique.items() if not store.locations.keys() >= set(one.keys)}
    result.cached_clips = (len(unique) - len(missing)) * views.clips_per_item
    check_space(store.folder, _bytes(encoder, missing.values(), views, spec, store))
    clip_tokens = encoder.facts.num_tokens(*views.clip_shape)
    at_once = ClipsAtOnce(options.batch_size or clips_at_once(encoder, clip_tokens))
    half = HalfPrecision(encoder, store.token_bits)
    shards = _Shards(store, missing, items_per_shard(_part_bytes(encoder, views, spec, store)), half, changed)
    items = {name: one.item for name, one in missing.items()}
    loaded = remembered_clips(items, views, num_workers=options.num_workers, timeout_s=options.timeout_s)
    together = items_at_once(encoder, at_once.size, views.clips_per_item, clip_tokens)
    encoded = 0
    for batch in _batches(zip(missing.values(), loaded, strict=True), views, together, result.failures):
        asked = [one for one, _ in batch]
        parts = encode(encoder, [clips for _, clips in batch], asked, views, spec, at_once, half)
        for one, features in zip(asked, parts, strict=True):
            shards.put(one, features.cpu().numpy())
        encoded += len(batch)
        if progress:
            progress(len(unique) - len(missing) + encoded + len(result.failures), len(unique))
    shards.write_rest()
    result.failures |= dict.fromkeys(shards.failed, CHANGED)
    result.encoded_clips = (encoded - len(shards.failed)) * views.clips_per_item
    if at_once.halved:
        result.halved_to = at_once.size
        result.notes.append(f"out of memory on larger batches: {at_once.size} clips were encoded at once")
    result.seconds = time.perf_counter() - started
    return result


def extract_shared(
    encoder: Encoder,
    requests: Sequence[Request],
    views: Views,
    spec: FeatureSpec,
    store: Store,
    options: ExtractOptions,
    *,
    world: World,
    **told: Any,
) -> Extraction:
    """`extract`, by all processes of `world`: what it does and says is what they did together.

    Every clip is encoded on its own (on a CPU; see `encode`), so who encodes it changes nothing, and shards are named
    by what is in them, so no two processes write one. Seconds are this process's, and progress is told of its own
    part. Raises as `extract` does, and BenchError where another process has ended.
    """
    if world.size == 1:
        return extract(encoder, requests, views, spec, store, options, **told)
    unique = joined(requests)
    notes = _open_in_parts(store, [key for one in unique.values() for key in one.keys], world)
    missing = [one for one in unique.values() if not store.locations.keys() >= set(one.keys)]
    if world.first:
        check_space(store.folder, _bytes(encoder, missing, views, spec, store))
    # Neighbours of a list are often of a class, and so of a length: every process gets some of each.
    done = extract(encoder, missing[world.rank :: world.size], views, spec, store, options, **told)
    # Told, not looked for: a network file system may show the files of another machine in a folder only later.
    written = {key: store.locations[key] for one in missing for key in one.keys if key in store.locations}
    parts = world.gather((written, done.failures, done.encoded_clips, done.notes, done.halved_to))
    for locations, *_ in parts:
        store.locations.update(locations)
    return replace(
        done,
        failures={key: reason for _, failures, *_ in parts for key, reason in failures.items()},
        encoded_clips=sum(encoded for _, _, encoded, *_ in parts),
        cached_clips=(len(unique) - len(missing)) * views.clips_per_item,
        notes=notes + [note for _, _, _, told, _ in parts for note in told],
        halved_to=min((part[-1] for part in parts if part[-1]), default=None),
    )


def _open_in_parts(store: Store, wanted: Sequence[str], world: World) -> list[str]:
    """Find the parts `wanted`; every process checks its share of the shards. Returns a line for every damaged one."""
    names: list[str] = world.gather(store.shards() if world.first else [])[0]
    damaged = store.open(wanted, names[world.rank :: world.size])
    parts = world.gather((store.locations, damaged))
    for locations, _ in parts:
        store.locations.update(locations)
    return [line for _, lines in parts for line in lines]


def joined(requests: Iterable[Request]) -> dict[str, Request]:
    """The requests by their id, without those that keep nothing; those of one item become one."""
    unique: dict[str, Request] = {}
    for one in requests:
        known = unique.get(one.id)
        if known is None or one.keys == known.keys:
            unique |= {one.id: one} if one.keys else {}
            continue
        new = [place for place, key in enumerate(one.keys) if key not in known.keys]
        keys = (*known.keys, *(one.keys[place] for place in new))
        unique[one.id] = replace(known, keys=keys, boxes=(*known.boxes, *(one.boxes[place] for place in new)))
    return unique


def _part_bytes(encoder: Encoder, views: Views, spec: FeatureSpec, store: Store) -> int:
    num_tokens, channels = spec.shape(encoder.facts, views.clip_shape)
    return token_bytes(channels, store.token_bits) * num_tokens * views.clips_per_item


def _bytes(encoder: Encoder, requests: Iterable[Request], views: Views, spec: FeatureSpec, store: Store) -> int:
    return _part_bytes(encoder, views, spec, store) * sum(len(one.keys) for one in requests)


class _Shards:
    """Parts on their way to a store: written when there are enough for a shard."""

    def __init__(
        self,
        store: Store,
        requests: Mapping[str, Request],
        size: int,
        half: HalfPrecision,
        changed: Callable[[Iterable[str]], Collection[str]],
    ) -> None:
        self._store, self._size, self._half, self._changed = store, size, half, changed
        self._whose = {key: one for one in requests.values() for key in one.keys}
        self._waiting: dict[str, Array] = {}
        self.failed: set[str] = set()
        """Ids of requests whose file has changed since its id was taken."""

    def put(self, request: Request, parts: Array) -> None:
        """Take in the parts [P, V, N, D] of an item."""
        fresh = zip(request.keys, parts, strict=True)
        self._waiting |= {key: part for key, part in fresh if key not in self._store.locations}
        while len(self._waiting) >= self._size:
            self._write(list(self._waiting)[: self._size])

    def write_rest(self) -> None:
        """Write what is left."""
        if self._waiting:
            self._write(list(self._waiting))

    def _write(self, keys: Sequence[str]) -> None:
        self._half.check()
        other = self._changed({self._whose[key].item.path for key in keys})
        parts = {key: self._waiting.pop(key) for key in keys}
        self.failed |= {self._whose[key].id for key in keys if self._whose[key].item.path in other}
        sound = [key for key in keys if self._whose[key].item.path not in other]
        if sound:
            self._store.add(sound, np.stack([parts[key] for key in sound]))


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
    requests: Sequence[Request],
    views: Views,
    spec: FeatureSpec,
    at_once: ClipsAtOnce,
    half: HalfPrecision | None = None,
) -> list[Tensor]:
    """Clips of several items, each uint8 [V * K, T, H, W, 3] -> the parts of each, [P, V, K * N, D] (protocol.md 4.3),
    float32, or what `half` makes of them. Raises BenchError, with the video, where they are not finite.

    They are on the device of the encoder, which sees at most `at_once.size` clips at once. On a CPU it sees one: matrix
    products of other sizes are summed in other orders, and tokens that depended on their neighbours in a batch would
    make scores depend on the batch size, on what the cache held already, and on files that could not be read.
    """
    if encoder.device.type == "cpu":
        at_once = ClipsAtOnce(1)
    per_item = views.clips_per_item
    of_clips = [one for one in requests for _ in range(per_item)]
    names = [(one, part) for one in of_clips for part in range(len(one.keys))]
    items, spec_of_pixels = [one.item for one in requests], encoder.input_spec
    stacked = torch.cat(list(pixels))
    numbers = encoder.embed_dim * encoder.facts.num_tokens(*stacked.shape[1:4])

    def encoded(size: int) -> Tensor:
        parts: list[Tensor] = []
        clips_done = parts_done = 0
        mean, std = spec_of_pixels.mean, spec_of_pixels.std
        for clips in views.finish(stacked, items, mean, std, size, encoder.device):
            tokens = spec.read(encoder, clips, of_clips[clips_done : clips_done + len(clips)])

            def name(row: int, before: int = parts_done) -> str:
                one, part = names[before + row]
                return one.called(part)

            if half is None:
                check_finite(encoder, tokens, name)
            parts.append(tokens if half is None else half.rounded(tokens, name))
            clips_done, parts_done = clips_done + len(clips), parts_done + len(tokens)
        return torch.cat(parts)

    with small_steps(encoder.device, numbers, small=SMALL_CLIP):
        tokens = at_once.fitting(encoded)
    return _by_item(tokens, [len(one.keys) for one in requests], views)


def _by_item(tokens: Tensor, num_parts: Sequence[int], views: Views) -> list[Tensor]:
    """Parts of clips one after another, [*, N, D] -> of each item [P, V, K * N, D]."""
    V, N, D = views.num_views, *tokens.shape[1:]
    of_items = torch.split(tokens, [views.clips_per_item * count for count in num_parts])
    return [
        part.view(V, -1, count, N, D).permute(2, 0, 1, 3, 4).flatten(2, 3)
        for part, count in zip(of_items, num_parts, strict=True)
    ]


def _batches(
    loaded: Iterator[tuple[Request, LoadedClips]], views: Views, size: int, failures: dict[str, str]
) -> Iterator[list[tuple[Request, Tensor]]]:
    """Readable items and their clips, at most `size` neighbours of one shape at a time; the others go to `failures`."""
    batch: list[tuple[Request, Tensor]] = []
    for request, read in loaded:
        if read.pixels is None:
            failures[request.id] = read.error or "could not be read"
            continue
        clips = views.unpack(read.pixels)
        if batch and batch[0][1].shape != clips.shape:
            yield batch
            batch = []
        batch.append((request, clips))
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


Encoded = TypeVar("Encoded")


@dataclass
class ClipsAtOnce:
    """The largest batch that is tried; what did not fit once is not tried again."""

    size: int
    halved: bool = False
    """Whether memory ran out on a larger one."""

    @property
    def halved_to(self) -> int | None:
        """What goes to the record: the size, where it is not the one that was asked for."""
        return self.size if self.halved else None

    def fitting(self, encode: Callable[[int], Encoded]) -> Encoded:
        """What `encode` gives for the largest number of clips at once that fits.

        Raises torch.cuda.OutOfMemoryError where a single clip does not fit.
        """
        while True:
            try:
                return encode(self.size)
            except torch.cuda.OutOfMemoryError:
                if self.size == 1:
                    raise
            # Here, not in the handler: there the traceback still holds the tensors that filled the memory.
            self.size, self.halved = self.size // 2, True
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
