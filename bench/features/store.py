"""Tokens on disk: memory-mapped fp16 shards with an index and a checksum each, addressed by content.

    CACHE/features/<space>/space.json       the fields that decide the tokens of a video, besides the video
    CACHE/features/<space>/<shard>.npy      tokens [n, V, N, D] of n items, V views, fp16, or 8 bits
    CACHE/features/<space>/<shard>.json     item keys in order, and the SHA-256 of the tokens

A shard is there when its index is: both are written under a temporary name and renamed, the tokens first. Names derive
from the item keys, so that two runs at once write the same files with the same bytes and do not harm each other.

In 8 bits a token x is kept as q = round(x / s) with s = max |x| / 127, and read as q * s: at most s / 2 from what it
was, and then rounded to fp16. The largest channel comes back as it was, and so does a token of zeros (s = 0). Scales
are fp32: those of small tokens would vanish in fp16. All of one view lies together, scales first, so that both are read
without steps; numpy reads such a file as an array of records, with fields `scales` and `values`.

Shapes: b samples, n items, V views, N tokens of a view, D channels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.files import atomic_write, remove_abandoned
from bench.core.hashing import digest, text_digest

SHARD_BYTES = 64 * 2**20
MAX_SHARD_ITEMS = 256

Array = NDArray[np.float16]
Stored = NDArray[Any]
"""What a shard holds: tokens [n, V, N, D] fp16, or records [n, V] of 8-bit tokens."""


@dataclass(frozen=True)
class Location:
    """Where an item's tokens are."""

    shard: str
    row: int


def space_key(fields: Mapping[str, Any]) -> str:
    """Name of the feature space that `fields` (everything that changes the tokens, and nothing else) decide."""
    return digest(dict(fields))[:24]


def shard_name(keys: Sequence[str]) -> str:
    """Name of the shard that holds these items in this order."""
    return text_digest("\n".join(keys))[:24]


def items_per_shard(item_bytes: int) -> int:
    """How many items of `item_bytes` bytes go into one shard."""
    return max(1, min(MAX_SHARD_ITEMS, SHARD_BYTES // item_bytes))


class Store:
    """The features of one space, in 8 bits where its field `dtype` is int8."""

    def __init__(self, cache: Path, fields: Mapping[str, Any]) -> None:
        self.key = space_key(fields)
        self.folder = cache / "features" / self.key
        self.token_bits = 8 if fields.get("dtype") == "int8" else 16
        self._tokens: dict[str, Stored] = {}
        self.locations: dict[str, Location] = {}
        self.added: Callable[[str], None] | None = None
        """Told of every shard that was written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        description = self.folder / "space.json"
        text = json.dumps(dict(fields), indent=1, sort_keys=True)
        if not description.is_file() or description.read_bytes() != text.encode():
            with atomic_write(description) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def shards(self) -> list[str]:
        """Names of all shards that are there."""
        return sorted(path.stem for path in self.folder.glob("*.json") if path.name != "space.json")

    def open(self, wanted: Iterable[str], shards: Iterable[str] | None = None) -> list[str]:
        """Find the items `wanted` among the shards, all or these, and check the checksums of those that hold them.

        Returns one line for every damaged shard; it is removed, so that its items are missing and are encoded again.
        """
        remove_abandoned(self.folder)
        damaged = []
        wanted = set(wanted)
        for name in self.shards() if shards is None else shards:
            index_path = self.folder / f"{name}.json"
            try:
                index = json.loads(index_path.read_text(encoding="utf-8"))
                keys, digest = index["items"], index["sha256"]
                if shard_name(keys) != name:
                    raise ValueError("the index was changed")
                if wanted.isdisjoint(keys):
                    continue
                tokens = self._map(name)
                if len(tokens) != len(keys) or _digest(tokens) != digest:
                    raise ValueError("checksum differs")
                if are_records(tokens.dtype) != (self.token_bits == 8) or list(token_shape(tokens)) != index["shape"]:
                    raise ValueError("the header was changed")
            except (FileNotFoundError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
                damaged.append(f"damaged shard {name} of the feature cache ({error}): encoded again")
                self._forget(name)
                continue
            for row, key in enumerate(keys):
                self.locations[key] = Location(name, row)
        return damaged

    def add(self, keys: Sequence[str], tokens: Array) -> None:
        """Write one shard: finite tokens [n, V, N, D] of the items `keys`."""
        name = shard_name(keys)
        stored: Stored = packed(tokens) if self.token_bits == 8 else tokens
        with atomic_write(self.folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, stored)
        with atomic_write(self.folder / f"{name}.json") as temporary:
            index = {"items": list(keys), "shape": list(tokens.shape), "sha256": _digest(stored)}
            temporary.write_text(json.dumps(index), encoding="utf-8")
        self._tokens.pop(name, None)
        for row, key in enumerate(keys):
            self.locations[key] = Location(name, row)
        if self.added:
            self.added(name)

    def item(self, key: str) -> Stored:
        """The memory-mapped tokens [V, N, D] of one item, fp16, or records [V] of 8-bit tokens."""
        location = self.locations[key]
        tokens: Stored = self._map(location.shard)[location.row]
        return tokens

    def _map(self, name: str) -> Stored:
        if name not in self._tokens:
            self._tokens[name] = map_array(self.folder / f"{name}.npy")
        return self._tokens[name]

    def _forget(self, name: str) -> None:
        self._tokens.pop(name, None)
        for suffix in (".json", ".npy"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)


class FeatureSet:
    """The features of one split in the order of its samples: what probes are trained and tested on.

    `keys` holds the item of every sample for each draw: one list of K keys a sample. A sample has K * V views: the V
    views of its first draw, then of its second.
    """

    def __init__(self, store: Store, keys: Sequence[Sequence[str]]) -> None:
        items = [[store.item(key) for key in draws] for draws in keys]
        self.num_samples = len(items)
        self.num_tokens: int
        self.embed_dim: int
        first = items[0][0]
        views_per_draw, self.num_tokens, self.embed_dim = token_shape(first)
        self._in_8_bits = are_records(first.dtype)
        self._views = [
            [draws[draw][view : view + 1] for draws in items]
            for draw in range(len(items[0]))
            for view in range(views_per_draw)
        ]
        self.num_views = len(self._views)
        self._view_bytes = first[:1].nbytes

    @property
    def num_bytes(self) -> int:
        """Size of all tokens on the disk."""
        return self.num_samples * self.num_views * self._view_bytes

    def read(self, rows: NDArray[np.int64], view: int) -> Tensor:
        """The tokens [b, N, D] (fp16, a copy) of view number `view` of the samples `rows`."""
        views = self._views[view]
        batch = [views[row] for row in rows.tolist()]
        if self._in_8_bits:
            return unpacked(batch, self.num_tokens, self.embed_dim)
        # One call for the whole batch: with small items, a Python statement for each costs more than its copy.
        return torch.from_numpy(np.concatenate(batch))


def map_array(path: Path) -> Stored:
    """The array of a `.npy` file, fp16 or records of 8-bit tokens, memory-mapped.

    numpy's own maps hold a file descriptor each, and a large set has more shards than a process may hold; torch's do
    not. Raises ValueError where the file is not such an array, or is cut off.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"format {version}")
        try:
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # it is parsed as Python, whose errors are of many kinds
            raise ValueError("no header of an array") from error
        start = file.tell()
    num_bytes = path.stat().st_size
    if not (dtype == np.float16 or are_records(dtype)) or num_bytes != start + dtype.itemsize * math.prod(shape):
        raise ValueError("not the array that its header describes")
    content = torch.from_file(str(path), shared=False, size=num_bytes, dtype=torch.uint8)
    return content.numpy()[start:].view(dtype).reshape(shape)


def _digest(stored: Stored) -> str:
    return hashlib.sha256(np.ascontiguousarray(stored).data).hexdigest()


LARGEST = 127
_AT_ONCE = 1 << 19
"""Values that are unpacked at once: in fp32 they stay in the caches between the three steps."""

Records = NDArray[np.void]


def packed(tokens: NDArray[np.float16]) -> Records:
    """Finite tokens [n, V, N, D] as one record for each view, [n, V]."""
    n, V, N, D = tokens.shape
    records = np.empty((n, V), _record(N, D))
    for item, record in zip(tokens, records, strict=True):
        scales, steps = _steps(torch.from_numpy(item).float())
        record["scales"], record["values"] = scales.squeeze(-1).numpy(), steps.to(torch.int8).numpy()
    return records


def rounded(tokens: Tensor) -> Tensor:
    """Tokens [..., D], float32, as they are read back after being kept in 8 bits."""
    scales, steps = _steps(tokens)
    return steps * scales


def _steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """The scales [..., 1] of tokens [..., D], and their whole numbers [..., D]; both float32."""
    scales = x.abs().amax(dim=-1, keepdim=True) / LARGEST
    return scales, (x / scales.where(scales > 0, 1.0)).round_()


def _record(num_tokens: int, embed_dim: int) -> np.dtype[np.void]:
    return np.dtype([("scales", "<f4", (num_tokens,)), ("values", "i1", (num_tokens, embed_dim))])


def are_records(dtype: np.dtype[Any]) -> bool:
    """Whether an array of this type is one that `packed` gives."""
    if dtype.names != ("scales", "values") or len(dtype["values"].shape) != 2:
        return False
    return dtype == _record(*dtype["values"].shape)


def token_shape(stored: NDArray[Any]) -> tuple[int, ...]:
    """The shape of the tokens in an array of records, or of fp16."""
    return stored.shape if stored.dtype.names is None else stored["values"].shape


def unpacked(views: Sequence[Records], num_tokens: int, embed_dim: int) -> Tensor:
    """The tokens [b, N, D], fp16, of b views, each a record [1]."""
    # NumPy asks for large pages, which torch does not: a fresh batch is filled several times as fast.
    out = torch.from_numpy(np.empty((len(views), num_tokens, embed_dim), np.float16))
    together = max(1, _AT_ONCE // (num_tokens * embed_dim))
    buffer = torch.empty(max(together * num_tokens, 1), embed_dim)
    for start in range(0, len(views), together):
        some = views[start : start + together]
        # With small views, a statement for each costs more than a copy of their bytes.
        joined = some[0] if len(some) == 1 else np.concatenate([view.view(np.uint8) for view in some])
        records = joined.view(_record(num_tokens, embed_dim))
        _unpack(records, out[start : start + together].flatten(0, 1), buffer)
    return out


def _unpack(records: Records, out: Tensor, buffer: Tensor) -> None:
    """Records [b] -> fp16 tokens `out` [b * N, D], a part of them at a time in the fp32 `buffer` [m, D]."""
    D = out.shape[1]
    scales = torch.from_numpy(np.array(records["scales"])).view(-1, 1)  # a copy: records of odd sizes are not aligned
    values = torch.from_numpy(np.ascontiguousarray(records["values"])).view(-1, D)
    rows = max(1, _AT_ONCE // D)
    for start in range(0, len(out), rows):
        part = slice(start, start + rows)
        x = buffer[: len(out[part])].copy_(values[part]).mul_(scales[part])
        out[part].copy_(x)
