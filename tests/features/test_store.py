"""Tokens on disk: what is written is read, and what is damaged is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.features.store import FeatureSet, Store, items_per_shard, space_key

FIELDS = {"encoder": "abc", "size": 16}
KEYS = [f"item{i}/0" for i in range(6)]
TOKENS = np.random.RandomState(0).standard_normal((6, 3, 5, 4)).astype(np.float16)  # [n, V, N, D]


def filled(cache: Path) -> Store:
    store = Store(cache, FIELDS)
    store.add(KEYS[:4], TOKENS[:4])
    store.add(KEYS[4:], TOKENS[4:])
    return store


def test_what_is_written_is_read_by_another_process(tmp_path: Path) -> None:
    filled(tmp_path)
    store = Store(tmp_path, FIELDS)
    assert store.open(KEYS) == []
    for key, tokens in zip(KEYS, TOKENS, strict=True):
        assert np.array_equal(store.item(key), tokens)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the Linux list of maps")
def test_tokens_are_mapped_not_loaded_and_hold_no_file_open(tmp_path: Path) -> None:
    store = Store(tmp_path, FIELDS)
    for key in KEYS:
        store.add([key], TOKENS[:1])
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = Store(tmp_path, FIELDS)
    store.open(KEYS)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    maps = Path("/proc/self/maps").read_text()
    assert all(path.name in maps for path in store.folder.glob("*.npy"))


def test_a_file_that_cannot_be_opened_is_not_taken_for_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)

    def too_many(path: Path) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("bench.features.store.map_array", too_many)
    with pytest.raises(OSError, match="Too many"):
        Store(tmp_path, FIELDS).open(KEYS)
    assert len(list(Store(tmp_path, FIELDS).folder.glob("*.npy"))) == 2


def test_every_field_gives_a_space_of_its_own() -> None:
    assert space_key(FIELDS) == space_key(dict(reversed(FIELDS.items())))
    assert len({space_key(FIELDS), space_key({**FIELDS, "size": 32}), space_key({**FIELDS, "encoder": "abd"})}) == 3


def test_batches_hold_the_asked_rows_and_views(tmp_path: Path) -> None:
    features = FeatureSet(filled(tmp_path), [[KEYS[0], KEYS[5]], [KEYS[3], KEYS[2]]])
    assert (features.num_samples, features.num_views, features.num_tokens, features.embed_dim) == (2, 6, 5, 4)
    for view in range(6):
        draw, spatial = divmod(view, 3)
        expected = np.stack([TOKENS[[3, 2][draw], spatial], TOKENS[[0, 5][draw], spatial]])
        assert np.array_equal(features.read(np.array([1, 0]), view).numpy(), expected)
    assert features.num_bytes == 2 * 6 * 5 * 4 * 2


def test_a_batch_is_a_copy(tmp_path: Path) -> None:
    features = FeatureSet(filled(tmp_path), [[KEYS[0]]])
    features.read(np.array([0]), 0).zero_()
    assert np.array_equal(features.read(np.array([0]), 0)[0].numpy(), TOKENS[0, 0])


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda npy, index: _flip_a_byte(npy),
        lambda npy, index: npy.write_bytes(npy.read_bytes()[:-20]),
        lambda npy, index: npy.write_bytes(b""),
        lambda npy, index: npy.unlink(),
        lambda npy, index: index.write_text("{"),
        lambda npy, index: index.write_text(json.dumps({"items": KEYS[:3], "sha256": "0"})),
        lambda npy, index: index.write_text("[]"),
    ],
    ids=["flipped bit", "cut", "empty", "gone", "index cut", "index of others", "index of another kind"],
)
def test_a_damaged_shard_is_named_and_its_items_are_missing(tmp_path: Path, damage: object) -> None:
    filled(tmp_path)
    store = Store(tmp_path, FIELDS)
    shard = next(p for p in store.folder.glob("*.npy") if len(np.load(p)) == 4)
    damage(shard, shard.with_suffix(".json"))  # type: ignore[operator]
    notes = store.open(KEYS)
    assert len(notes) == 1 and shard.stem in notes[0]
    assert set(store.locations) == set(KEYS[4:])
    store.add(KEYS[:4], TOKENS[:4])
    assert Store(tmp_path, FIELDS).open(KEYS) == []


def test_a_shard_without_its_index_does_not_exist(tmp_path: Path) -> None:
    """What a run leaves that is killed between the two renames."""
    filled(tmp_path)
    store = Store(tmp_path, FIELDS)
    for index in store.folder.glob("*.json"):
        if index.name != "space.json":
            index.unlink()
    assert store.open(KEYS) == [] and store.locations == {}


def test_two_writers_of_the_same_items_write_the_same_files(tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in filled(tmp_path).folder.iterdir()}
    assert {p.name: p.read_bytes() for p in filled(tmp_path).folder.iterdir()} == first


def test_shards_are_bounded_in_items_and_bytes() -> None:
    assert items_per_shard(8192) == 256
    assert items_per_shard(16 * 2**20) == 4
    assert items_per_shard(2**30) == 1
