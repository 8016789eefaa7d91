"""Features and probes in a cache on remote storage: what is there is fetched, what is new is uploaded.

    URL/features/<space>/space.json, <shard>.npy, <shard>.json      as in bench.features.store
    URL/probes/<key>.safetensors                                    as in bench.probing.cache

Everything is read from and written to the local part of the cache. Names derive from contents, so that machines that
share a remote cache write the same objects with the same bytes. As on a disk, a shard is there when its index is: the
index goes up last, and comes down last. Checksums are compared where shards are opened, in bench.features.store; one
that came damaged is removed over there too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.distributed import World
from bench.core.files import atomic_write, check_space
from bench.core.progress import Reporter
from bench.core.remote import filesystem, told_in_one_line
from bench.features.store import Store, shard_name
from bench.video.states import state_of

AT_ONCE = 8
"""Shards that one process moves at the same time."""
_INDEXES_AT_ONCE = 256
_SHARD = re.compile(r"(?P<name>[0-9a-f]{24})\.(?P<suffix>[a-z0-9.]+)")

Files = dict[str, int]
"""Suffix -> bytes of the files of a shard."""


@contextmanager
def shared_features(
    store: Store, cache: str | None, wanted: Iterable[str], world: World, reporter: Reporter
) -> Iterator[None]:
    """Around an extraction of the items `wanted` into a local store: what the remote `cache` has of them is fetched
    before, and shards that are new to it are uploaded, each as soon as it is written. Nothing without a remote cache.

    Raises BenchError where the storage cannot be reached or written, before anything is encoded.
    """
    if cache is None:
        yield
        return
    url, wanted = f"{cache}/features/{store.key}", set(wanted)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            with told_in_one_line(url):
                space = _Space(url, store, pool)
                known = world.gather(space.greet() if world.first else {})[0]
                fetched = space.fetch(known, wanted, world, reporter)
            world.gather(None)  # others look for shards here
            store.added = space.upload
            yield
            with told_in_one_line(url):
                _keep_uploaded(space, known, fetched, wanted, world, reporter)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those under way end first
            raise
        finally:
            store.added = None


@contextmanager
def shared_file(path: Path, cache: str | None) -> Iterator[None]:
    """Around work that reads or makes the file `path` of the local cache: it is fetched before, where it is not here,
    and uploaded after, where it is new. Nothing without a remote cache."""
    if cache is None:
        yield
        return
    url = f"{cache}/{path.parent.name}/{path.name}"
    with told_in_one_line(url):
        system, name = filesystem(url)
        system.invalidate_cache()
        there = system.exists(name)
        if there and not path.is_file():
            _download(system, name, path)
        before = state_of(path) if path.is_file() and there else None
    yield
    with told_in_one_line(url):
        if path.is_file() and state_of(path) != before:
            system.put_file(str(path), name)


@dataclass
class _Space:
    """The remote folder of a feature space."""

    url: str
    store: Store
    pool: ThreadPoolExecutor
    uploads: dict[str, Future[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.system, self.root = filesystem(self.url)

    def greet(self) -> dict[str, Files]:
        """The shards that are there. The description of the space is written, so that a bucket that is not there, or
        must not be written, is noticed at once."""
        self.system.invalidate_cache()
        self.system.put_file(str(self.store.folder / "space.json"), f"{self.root}/space.json")
        self.system.invalidate_cache()
        shards: dict[str, Files] = {}
        for info in self.system.ls(self.root, detail=True):
            found = _SHARD.fullmatch(info["name"].rpartition("/")[2])
            if found and info["type"] == "file":
                shards.setdefault(found["name"], {})[found["suffix"]] = int(info["size"])
        return {name: files for name, files in shards.items() if "json" in files}

    def fetch(self, known: Mapping[str, Files], wanted: set[str], world: World, reporter: Reporter) -> list[str]:
        """Fetch this process's part of the shards that hold items which are not here; their names."""
        here = set(self.store.shards())
        missing = wanted - self._items_here(here)
        # A part of all, not of those that are not here: others may have fetched some before this process looked.
        own = [name for name in sorted(known)[world.rank :: world.size] if missing and name not in here]
        indexes = dict(self._holding(own, missing, reporter))
        fix = "free some space, or set BENCH_CACHE to a folder on another disk"
        num_bytes = sum(sum(known[name].values()) for name in indexes)
        check_space(self.store.folder, num_bytes, what="features to fetch take", fix=fix)
        moves = self.pool.map(lambda name: self._fetch_one(name, known[name], indexes[name]), indexes)
        for done, _ in enumerate(moves, 1):
            reporter.stage("fetching features", done, len(indexes))
        return list(indexes)

    def upload(self, name: str) -> None:
        """Begin to upload a shard of the local store."""
        self.uploads[name] = self.pool.submit(self._upload_one, name)

    def remove(self, name: str) -> None:
        """Remove a shard, its index first."""
        files = self.system.glob(f"{self.root}/{name}.*")
        for file in sorted(files, key=lambda file: not file.endswith(".json")):
            self.system.rm_file(file)

    def _items_here(self, shards: Iterable[str]) -> set[str]:
        items: set[str] = set()
        for name in shards:
            try:
                items.update(json.loads((self.store.folder / f"{name}.json").read_text(encoding="utf-8"))["items"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue  # damaged: the store says so when it opens it
        return items

    def _holding(self, names: Sequence[str], missing: set[str], reporter: Reporter) -> Iterator[tuple[str, bytes]]:
        """Yield those shards, with their index, that hold a missing item which none before them holds."""
        for start in range(0, len(names), _INDEXES_AT_ONCE):
            part = [f"{self.root}/{name}.json" for name in names[start : start + _INDEXES_AT_ONCE]]
            for path, index in self.system.cat(part, on_error="return").items():
                if isinstance(index, FileNotFoundError):
                    continue  # another machine has removed it
                if isinstance(index, Exception):
                    raise index
                name = path.rpartition("/")[2].removesuffix(".json")
                items = _items(name, index)
                if items is None:
                    reporter.say(f"damaged index of shard {name} in {self.url}: removed")
                    self.remove(name)
                elif not missing.isdisjoint(items):
                    missing -= set(items)
                    yield name, index

    def _fetch_one(self, name: str, files: Files, index: bytes) -> None:
        for suffix in files.keys() - {"json"}:
            try:
                _download(self.system, f"{self.root}/{name}.{suffix}", self.store.folder / f"{name}.{suffix}")
            except FileNotFoundError as error:
                if error.filename:
                    raise
        with atomic_write(self.store.folder / f"{name}.json") as temporary:
            temporary.write_bytes(index)

    def _upload_one(self, name: str) -> None:
        files = sorted(self.store.folder.glob(f"{name}.*"), key=lambda file: file.suffix == ".json")
        for file in files:
            self.system.put_file(str(file), f"{self.root}/{file.name}")


def _keep_uploaded(
    space: _Space,
    known: Mapping[str, Files],
    fetched: Sequence[str],
    wanted: set[str],
    world: World,
    reporter: Reporter,
) -> None:
    """Remove over there what came damaged, and upload what is not there yet: new shards, and those of runs that were
    interrupted or had no remote cache."""
    for name in fetched:
        if name not in space.uploads and not (space.store.folder / f"{name}.json").is_file():
            space.remove(name)
            reporter.say(f"damaged shard {name} removed from {space.url}")
    done = {name for part in world.gather(set(space.uploads)) for name in part}
    used = {place.shard for key, place in space.store.locations.items() if key in wanted}
    for name in sorted(used - known.keys() - done)[world.rank :: world.size]:
        space.upload(name)
    for number, upload in enumerate(list(space.uploads.values()), 1):
        upload.result()
        reporter.stage("uploading features", number, len(space.uploads))


def _items(name: str, index: bytes) -> list[str] | None:
    """The items of a shard; None where its index is damaged."""
    try:
        items = json.loads(index)["items"]
        return list(items) if shard_name(items) == name else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _download(system: Any, name: str, path: Path) -> None:
    with atomic_write(path) as temporary:
        system.get_file(name, str(temporary))
