"""Damaged files of the cache: whatever is read from them is what was written, or is made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from fuzzing import Edit, edited, edits, fuzz
from hypothesis import strategies as st

from bench.features.store import Store
from bench.probing.checkpoints import Checkpoints
from bench.video.contents import content_ids

KEYS = [f"{i:032x}/0" for i in range(5)]
TOKENS = np.random.RandomState(0).standard_normal((5, 1, 3, 4)).astype(np.float16)  # [n, V, N, D]


def test_damaged_features_are_never_read_as_others(tmp_path: Path, long: bool) -> None:
    store = Store(tmp_path, {"encoder": "a"})
    store.add(KEYS[:3], TOKENS[:3])
    store.add(KEYS[3:], TOKENS[3:])
    files = sorted(store.folder.iterdir())
    whole = {path: path.read_bytes() for path in files}

    def check(value: tuple[Path, list[Edit]]) -> None:
        for path, content in whole.items():
            path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
            path.write_bytes(content)
        path, changes = value
        path.unlink()
        path.write_bytes(edited(whole[path], changes))
        opened = Store(tmp_path, {"encoder": "a"})
        opened.open(KEYS)
        for key, tokens in zip(KEYS, TOKENS, strict=True):
            assert key not in opened.locations or np.array_equal(opened.item(key), tokens)
        assert len(opened.locations) >= 2

    fuzz(st.tuples(st.sampled_from(files), edits), check, examples=500 if long else 60)


def test_a_damaged_memory_of_contents_gives_the_right_ids_or_unknown_ones(tmp_path: Path, long: bool) -> None:
    paths = []
    for i in range(40):
        (tmp_path / f"{i}.mp4").write_bytes(b"%d" % i)
        paths.append(str(tmp_path / f"{i}.mp4"))
    truth = content_ids(tmp_path, paths)
    memory = tmp_path / "contents.sqlite"
    whole = memory.read_bytes()

    def check(changes: list[Edit]) -> None:
        cache = tmp_path / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir()
        (cache / "contents.sqlite").write_bytes(edited(whole, changes))
        for _ in range(2):
            ids = content_ids(cache, paths)
            assert ids.keys() == truth.keys() and all(len(digest) == 32 for digest in ids.values())
            wrong = [path for path in paths if ids[path] != truth[path]]
            assert not {ids[path] for path in wrong} & set(truth.values()), "one file taken for another"

    fuzz(edits, check, examples=500 if long else 60)


def test_a_damaged_state_of_a_training_is_never_gone_on_from(tmp_path: Path, long: bool) -> None:
    checkpoints = Checkpoints(tmp_path)
    state, facts = checkpoints.of("sweep"), {"steps": 7, "losses": 3}
    tensors = {"values": torch.linspace(-1, 1, 40).view(8, 5), "finite": torch.tensor([True, False])}
    state.save(tensors, facts)
    assert checkpoints.settings_at_once(4) == 4
    numbers = tmp_path / "settings_at_once"
    whole = {path: path.read_bytes() for path in (state.path, numbers)}

    def check(value: tuple[Path, list[Edit]]) -> None:
        for path, content in whole.items():
            path.unlink()  # a new file: the old one may still be mapped
            path.write_bytes(edited(content, value[1]) if path == value[0] else content)
        assert 0 < checkpoints.settings_at_once(4) < 10**9
        kept = state.load()
        assert kept and kept[1] == facts and kept[0].keys() == tensors.keys()
        assert all(torch.equal(kept[0][name], tensors[name]) for name in tensors)

    fuzz(st.tuples(st.sampled_from(list(whole)), edits), check, examples=500 if long else 60)
