"""Tokens in 8 bits: near what they were, half as large, and as safe on the disk as those of 16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bench.core.files import token_bytes
from bench.features.store import FeatureSet, Store, map_array, packed, unpacked

FIELDS = {"encoder": "abc", "dtype": "int8"}
KEYS = [f"item{i}/0" for i in range(6)]
TOKENS = np.random.RandomState(0).standard_normal((6, 3, 5, 7)).astype(np.float16)  # [n, V, N, D]; odd sizes
LARGEST = float(np.finfo(np.float16).max)


def stored(cache: Path, tokens: NDArray[np.float16] = TOKENS, keys: list[str] = KEYS) -> Store:
    store = Store(cache, FIELDS)
    store.add(keys, tokens)
    return store


def read(tokens: NDArray[np.float16]) -> NDArray[np.float16]:
    """Tokens [N, D], packed and unpacked."""
    read_back: NDArray[np.float16] = unpacked([packed(tokens[None, None])[0]], *tokens.shape)[0].numpy()
    return read_back


@settings(max_examples=200, deadline=None)
@given(arrays(np.float16, (3, 5), elements=st.floats(-LARGEST, LARGEST, width=16)))
def test_a_channel_is_at_most_half_a_step_from_what_it_was(tokens: NDArray[np.float16]) -> None:
    x = tokens.astype(np.float64)
    step = np.abs(x).max(-1, keepdims=True) / 127
    record = packed(tokens[None, None])[0, 0]
    exact = record["values"].astype(np.float64) * record["scales"].astype(np.float64)[:, None]
    # A scale is an fp32 number: what it is off from max / 127 counts at most 127 times.
    assert (np.abs(exact - x) <= step * (0.5 + 127 * 2.0**-23)).all()
    back = read(tokens)
    assert np.array_equal(back, exact.astype(np.float32).astype(np.float16))
    largest = np.abs(x).argmax(-1)[:, None]
    assert np.array_equal(np.take_along_axis(back, largest, -1), np.take_along_axis(tokens, largest, -1))


@pytest.mark.parametrize(
    "value", [0.0, LARGEST, -LARGEST, 6e-8, -6e-5, 1.0], ids=["zero", "max", "min", "least", "subnormal", "one"]
)
def test_tokens_of_one_value_come_back_as_they_were(value: float) -> None:
    tokens = np.full((4, 6), value, np.float16)
    assert np.array_equal(read(tokens), tokens)


def test_a_small_token_beside_a_large_one_keeps_its_own_scale() -> None:
    tokens = np.stack([np.full(8, LARGEST), np.linspace(-6e-5, 6e-5, 8), np.zeros(8)]).astype(np.float16)
    assert np.abs(read(tokens)[1] - tokens[1]).max() <= 6e-5 / 254 + 6e-8


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (70, 1, 64, 64), (2, 2, 392, 384), (1, 1, 700, 1024)])
def test_batches_hold_the_asked_rows_and_views(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tokens = np.random.default_rng(0).standard_normal(shape, np.float32).astype(np.float16)
    keys = [f"{i}/0" for i in range(len(tokens))]
    stored(tmp_path, tokens, keys)
    store = Store(tmp_path, FIELDS)
    assert store.open(keys) == []
    features = FeatureSet(store, [[key] for key in keys])
    assert (features.num_samples, features.num_views, features.num_tokens, features.embed_dim) == shape
    rows = np.arange(len(keys))[::-1].copy()
    for view in range(shape[1]):
        wanted = np.stack([read(tokens[row, view]) for row in rows])
        assert np.array_equal(features.read(rows, view).numpy(), wanted)


def test_features_take_about_half_the_disk(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).standard_normal((8, 1, 64, 384), np.float32).astype(np.float16)
    keys = [f"{i}/0" for i in range(8)]
    sizes = {}
    for dtype in ("fp16", "int8"):
        store = Store(tmp_path, {"dtype": dtype})
        store.add(keys, tokens)
        sizes[dtype] = sum(path.stat().st_size for path in store.folder.glob("*.npy"))
        num_bytes = FeatureSet(store, [[key] for key in keys]).num_bytes
        assert num_bytes == 8 * 64 * token_bytes(384, store.token_bits)
        assert 0 <= sizes[dtype] - num_bytes <= 256  # the header
    assert 0.50 < sizes["int8"] / sizes["fp16"] < 0.51


def test_numpy_alone_reads_a_shard(tmp_path: Path) -> None:
    shard = next(stored(tmp_path).folder.glob("*.npy"))
    records = np.load(shard)
    assert np.abs(records["values"] * records["scales"][..., None] - TOKENS).max() < 0.02


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the Linux list of maps")
def test_8_bit_tokens_are_mapped_not_loaded(tmp_path: Path) -> None:
    stored(tmp_path)
    store = Store(tmp_path, FIELDS)
    store.open(KEYS)
    assert next(store.folder.glob("*.npy")).name in Path("/proc/self/maps").read_text()


def damage_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def of_16_bits(path: Path) -> None:
    np.save(path, TOKENS)


def other_shape(path: Path) -> None:
    """The bytes of a view taken for more tokens of fewer channels."""
    content = path.read_bytes()
    assert content.count(b"(5,)") == content.count(b"(5, 7)") == 1
    path.write_bytes(content.replace(b"(5,)", b"(1,)").replace(b"(5, 7)", b"(1,51)"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    "damage",
    [lambda path: damage_byte(path, -1), lambda path: damage_byte(path, -50), of_16_bits, other_shape, cut],
    ids=["values", "scales", "16 bits", "shape", "cut"],
)
def test_a_damaged_shard_is_named_and_its_items_are_missing(tmp_path: Path, damage: object) -> None:
    shard = next(stored(tmp_path).folder.glob("*.npy"))
    record = map_array(shard)
    last_view_bytes = record.dtype.itemsize
    assert 35 < 50 < last_view_bytes == 5 * 4 + 5 * 7  # from the end: 35 bytes of values, then the scales
    damage(shard)  # type: ignore[operator]
    store = Store(tmp_path, FIELDS)
    (note,) = store.open(KEYS)
    assert shard.stem in note and "encoded again" in note and not store.locations
    store.add(KEYS, TOKENS)
    assert Store(tmp_path, FIELDS).open(KEYS) == []


def test_a_shard_without_its_index_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run leaves that is killed between the two renames; tokens and scales are one file."""

    def killed(*given: object, **named: object) -> str:
        raise KeyboardInterrupt

    store = Store(tmp_path, FIELDS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bench.features.store.json.dumps", killed)
        store.add(KEYS, TOKENS)
    assert len(list(store.folder.glob("*.npy"))) == 1
    again = Store(tmp_path, FIELDS)
    assert again.open(KEYS) == [] and not again.locations
    again.add(KEYS, TOKENS)
    assert Store(tmp_path, FIELDS).open(KEYS) == []


def test_two_writers_of_the_same_items_write_the_same_files(tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in stored(tmp_path).folder.iterdir()}
    assert {p.name: p.read_bytes() for p in stored(tmp_path).folder.iterdir()} == first
