"""What killed processes leave behind is removed by later ones; what living ones write, and what is someone else's, is
not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import left_behind

from bench.core.files import atomic_folder, atomic_write, remove_abandoned, set_aside
from bench.data.verify.prepare import only_writer
from bench.features.store import Store
from bench.probing.checkpoints import Checkpoints


def open_store(folder: Path) -> None:
    store = Store(folder, {"encoder": "a"})
    store.add(["k"], np.zeros((1, 1, 1, 1), np.float16))
    store.open(["k"])
    assert "k" in store.locations


def make_folder(folder: Path) -> None:
    with atomic_folder(folder / "new"):
        pass


def prepare(folder: Path) -> None:
    with only_writer(folder):
        pass


def finish_training(folder: Path) -> None:
    Checkpoints(folder).remove()


CLEANERS: list[tuple[Callable[[Path], None], str]] = [
    (open_store, "features/{key}"),
    (make_folder, "."),
    (prepare, "clips/deep"),
    (finish_training, "."),
]


@pytest.mark.parametrize(("clean", "place"), CLEANERS)
def test_remains_go_and_the_files_of_others_stay(tmp_path: Path, clean: Callable[[Path], None], place: str) -> None:
    home = tmp_path / place.format(key=Store(tmp_path / "other", {"encoder": "a"}).key)
    home.mkdir(parents=True, exist_ok=True)
    mine = left_behind(home / ".x.npy.abc.part")
    foreign = [home / ".run.backup/thesis.txt", home / ".y.abc.part/thesis.txt", home / ".z.part", home / ".run.sh"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        os.utime(path, (0, 0))
    for path in {path.parent for path in foreign[:2]}:
        os.utime(path, (0, 0))
    clean(tmp_path)
    assert not mine.exists() and all(path.read_text() == "mine" for path in foreign)


def test_living_processes_keep_what_they_write(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as temporary:
        os.utime(temporary.parent, (0, 0))
        make_folder(tmp_path)
        assert temporary.exists(), "the file in it is new"
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize("alike", ["copy", "link", "other mark"])
def test_what_is_like_remains_is_not_removed(tmp_path: Path, alike: str) -> None:
    part, other = left_behind(tmp_path / "here" / ".x.part"), tmp_path / "there" / ".mine.part"
    other.parent.mkdir()
    if alike == "link":
        other = other.with_name(".x.part")
        other.symlink_to(part)
    else:
        shutil.copytree(part, other)
        (other / ".vjepa-bench").write_text(part.name if alike == "copy" else "me")
    os.utime(other, (0, 0))
    remove_abandoned(other.parent, age_s=-1)
    assert other.exists() and part.exists()


def test_an_unreadable_memory_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "contents.sqlite").write_text("mine")
    set_aside(tmp_path / "contents.sqlite")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    assert not (tmp_path / "contents.sqlite").exists()
