"""Bringing features into a cache that several processes share: each encodes its part of what is missing.

Every clip is encoded on its own (on a CPU; see bench.features.extract.encode), so who encodes it changes nothing.
Shards are named by what is in them, so no two processes write one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.core.distributed import World
from bench.core.space import check_space, token_bytes
from bench.encoders.contract import Encoder
from bench.features.extract import Extraction, extract, item_key
from bench.features.store import Store
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.contents import Progress, content_ids
from bench.video.train_views import TrainViews


def extract_shared(
    encoder: Encoder,
    items: Sequence[VideoItem],
    plan: ClipPlan | TrainViews,
    store: Store,
    *,
    world: World,
    **options: Any,
) -> Extraction:
    """`extract`, with these `options`, by all processes of `world`: what it does and says is what they did together.

    Its seconds are this process's, and progress is told of its own part. Raises as `extract` does, and BenchError
    where another process has ended.
    """
    if world.size == 1:
        return extract(encoder, items, plan, store, **options)
    unique = {item_key(item): item for item in items}
    notes = _open_in_parts(store, list(unique), world)
    missing = [item for key, item in unique.items() if key not in store.locations]
    clips_per_item = math.prod(plan.shape[:2])
    if world.first:
        num_tokens = encoder.facts.num_tokens(plan.frames_per_clip, plan.size, plan.size)
        clip_bytes = token_bytes(encoder.embed_dim, store.token_bits) * num_tokens
        check_space(store.folder, clip_bytes * clips_per_item * len(missing))
    # Neighbours of a list are often of a class, and so of a length: every process gets some of each.
    done = extract(encoder, missing[world.rank :: world.size], plan, store, **options)
    # Told, not looked for: a network file system may show the files of another machine in a folder only later.
    written = {key: store.locations[key] for key in map(item_key, missing) if key in store.locations}
    parts = world.gather((written, done.failures, done.encoded_clips, done.notes, done.halved_to))
    for locations, *_ in parts:
        store.locations.update(locations)
    return replace(
        done,
        failures={key: reason for _, failures, *_ in parts for key, reason in failures.items()},
        encoded_clips=sum(encoded for _, _, encoded, *_ in parts),
        cached_clips=(len(unique) - len(missing)) * clips_per_item,
        notes=notes + [note for _, _, _, told, _ in parts for note in told],
        halved_to=min((part[-1] for part in parts if part[-1]), default=None),
    )


def _open_in_parts(store: Store, wanted: Sequence[str], world: World) -> list[str]:
    """Find the items `wanted`; every process checks its part of the shards. Returns a line for every damaged one."""
    names: list[str] = world.gather(store.shards() if world.first else [])[0]
    damaged = store.open(wanted, names[world.rank :: world.size])
    parts = world.gather((store.locations, damaged))
    for locations, _ in parts:
        store.locations.update(locations)
    return [line for _, lines in parts for line in lines]


def content_ids_shared(cache: Path, paths: Sequence[str], world: World, progress: Progress) -> dict[str, str]:
    """`content_ids` of all paths, of which every process hashes its part; progress is told of its own."""
    distinct = list(dict.fromkeys(paths))
    parts = world.gather(content_ids(cache, distinct[world.rank :: world.size], progress))
    return {path: digest for part in parts for path, digest in part.items()}
