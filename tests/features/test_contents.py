"""Content ids of folders of frames: they follow names and bytes, and are remembered until a frame changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.features import contents
from bench.features.contents import content_ids


def write_folder(folder: Path, frames: dict[str, bytes]) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in frames.items():
        (folder / name).write_bytes(content)
    return str(folder)


def test_ids_follow_the_names_and_bytes_of_the_frames(tmp_path: Path) -> None:
    frames = {"1.jpg": b"one", "2.jpg": b"two"}
    one = write_folder(tmp_path / "a", frames)
    same = write_folder(tmp_path / "b", frames | {"Thumbs.db": b"no frame"})
    others = [
        write_folder(tmp_path / "c", {"1.jpg": b"two", "2.jpg": b"one"}),
        write_folder(tmp_path / "d", {"1.jpg": b"one", "3.jpg": b"two"}),
        write_folder(tmp_path / "e", frames | {"3.jpg": b""}),
    ]
    ids = content_ids(tmp_path, [one, same, *others])
    assert ids[one] == ids[same] and len(set(ids.values())) == 4


def test_a_folder_without_frames_has_no_id(tmp_path: Path) -> None:
    assert content_ids(tmp_path, [write_folder(tmp_path / "a", {"notes.txt": b"text"})]) == {}


def test_frames_are_read_once_until_one_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "a", {"1.jpg": b"one", "2.jpg": b"two"})
    read: list[Path] = []
    digest = contents.file_digest
    monkeypatch.setattr(contents, "file_digest", lambda path: (read.append(path), digest(path))[1])
    first = content_ids(tmp_path, [folder])
    assert content_ids(tmp_path, [folder]) == first and len(read) == 2
    frame = tmp_path / "a" / "2.jpg"
    frame.write_bytes(b"six")  # as many bytes as before
    os.utime(frame, ns=(0, frame.stat().st_mtime_ns + 1))
    assert content_ids(tmp_path, [folder]) != first and len(read) == 4
