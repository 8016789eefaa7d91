"""What killed processes leave behind is removed by later ones, and what living ones write is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bench.features.store import Store
from bench.files import remove_abandoned


@pytest.fixture
def remains(tmp_path: Path) -> list[Path]:
    """A file and a folder of hours ago."""
    store = Store(tmp_path, {"encoder": "a"})
    file, folder = store.folder / ".x.npy.abc.part", store.folder / ".y.abc.part"
    file.write_bytes(b"half")
    folder.mkdir()
    for path in (file, folder):
        os.utime(path, (0, 0))
    return [file, folder]


def test_a_cache_that_is_opened_is_rid_of_them(tmp_path: Path, remains: list[Path]) -> None:
    store = Store(tmp_path, {"encoder": "a"})
    store.add(["k"], np.zeros((1, 1, 1, 1), np.float16))
    living = store.folder / ".z.npy.abc.part"
    living.write_bytes(b"half")
    store.open(["k"])
    assert not any(path.exists() for path in remains) and living.exists() and "k" in store.locations


def test_unfinished_runs_go_and_records_stay(tmp_path: Path) -> None:
    for name in (".run.abc", "20260101-000000-run"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path, ".run.*")
    assert [path.name for path in tmp_path.iterdir()] == ["20260101-000000-run"]
