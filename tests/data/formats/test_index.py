"""Finding the files of samples in a data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data.formats.index import index_folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_wanted_files_are_found_at_any_depth_the_least_deep_first(tmp_path: Path) -> None:
    touch(tmp_path, "b/deep/a.mp4", "b/a.webm", "c ü/a.MKV", "a.txt", "other.mp4", ".hidden/a.mp4")
    assert index_folder(tmp_path, {"a"}) == {"a": ["b/a.webm", "c ü/a.MKV", "b/deep/a.mp4"]}


def test_a_wanted_folder_is_a_sample_and_its_frames_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "frames/12/00001.jpg", "frames/13/12.jpg")
    import os

    listed: list[str] = []
    scandir = os.scandir

    def spy(path: str) -> object:
        listed.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    assert index_folder(tmp_path, {"12"}) == {"12": ["frames/12", "frames/13/12.jpg"]}
    assert "12" not in listed and "13" in listed


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "disk/a.mp4", "data/b.mp4")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert index_folder(tmp_path / "data", {"a", "b"}) == {"b": ["b.mp4"], "a": ["more/a.mp4"]}
