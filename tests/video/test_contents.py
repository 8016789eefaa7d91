"""Content ids follow bytes, names of frames and readers; they are remembered until something may have changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from containers import write

from bench.core.hashing import file_digest
from bench.video import contents
from bench.video.contents import content_ids


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


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    seen: list[str] = []
    digest = contents.file_digest
    monkeypatch.setattr(contents, "file_digest", lambda path: (seen.append(path.name), digest(path))[1])
    return seen


def test_a_file_replaced_by_one_of_its_size_and_time_has_another_id(tmp_path: Path) -> None:
    path, other = tmp_path / "a.avi", tmp_path / "b.avi"
    path.write_bytes(b"one")
    first = content_ids(tmp_path, [str(path)])
    other.write_bytes(b"two")
    shutil.copystat(path, other)
    other.replace(path)
    assert content_ids(tmp_path, [str(path)]) != first


def test_what_leaves_the_content_as_it_is_leaves_the_id(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(b"one")
    first = content_ids(tmp_path, [str(path)])
    for change in (lambda: path.chmod(0o600), path.touch, lambda: (tmp_path / "b.avi").hardlink_to(path)):
        change()
        assert content_ids(tmp_path, [str(path)]) == first
        assert content_ids(tmp_path, [str(path)]) == first
    assert reads == ["a.avi"] * 4


def test_paths_are_remembered_whatever_folder_a_command_runs_in(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for name in ("one", "two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        path = Path(os.fsdecode(b"\xff.avi"))
        if not path.exists():
            path.write_text(name)
        ids.append(content_ids(tmp_path, [str(path)]).popitem()[1])
    assert ids[0] == ids[2] != ids[1] and len(reads) == 2


def test_a_memory_of_an_older_version_is_read_anew(tmp_path: Path, reads: list[str]) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(b"one")
    with sqlite3.connect(tmp_path / "contents.sqlite") as old:
        old.execute("CREATE TABLE ids (path TEXT PRIMARY KEY, size, mtime_ns, digest)")
        old.execute("INSERT INTO ids VALUES (?, 3, ?, ?)", (str(path), path.stat().st_mtime_ns, "0" * 32))
    assert content_ids(tmp_path, [str(path)])[str(path)] != "0" * 32
    content_ids(tmp_path, [str(path)])
    assert reads == ["a.avi"]


Change = Callable[[bytes], bytes]


def with_matrix(a: int, b: int, c: int, d: int) -> Change:
    def change(content: bytes) -> bytes:
        start = content.index(b"tkhd") + 44
        matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        return content[:start] + matrix + content[start + 36 :]

    return change


def without_list(content: bytes) -> bytes:
    return content.replace(b"stss", b"free")


def kept(content: bytes) -> bytes:
    return content


@pytest.mark.parametrize(
    ("container", "codec", "change", "suffix"),
    [
        ("mp4", "h264-b", kept, ""),
        ("mkv", "h264-b", kept, ""),
        ("avi", "mpeg4", kept, ""),
        ("ts", "h264-b", kept, ""),
        ("webm", "vp9", kept, ""),
        ("mov", "mjpeg", kept, ""),
        ("mp4", "h264-b", without_list, ""),
        ("mp4", "h264-b", with_matrix(0, 1, -1, 0), ""),
        ("mp4", "h264-b", with_matrix(-1, 0, 0, 1), "-plain"),
        ("mp4", "h264-b", with_matrix(0, 1, 1, 0), "-plain"),
        ("mp4", "mpeg4", without_list, "-plain"),
        ("mp4", "h264-refresh", kept, "-plain"),
        ("mkv", "h264-refresh", kept, "-plain"),
        ("mpg", "mpeg2-b", kept, "-plain"),
        ("wmv", "h264-b", kept, "-plain"),
    ],
)
def test_ids_change_where_the_reading_did(
    container: str, codec: str, change: Change, suffix: str, tmp_path: Path
) -> None:
    path = write(tmp_path, container, codec)
    path.write_bytes(change(path.read_bytes()))
    for _ in range(2):  # the second time from memory
        assert content_ids(tmp_path, [str(path)]) == {str(path): file_digest(path)[:32] + suffix}


def test_files_of_a_few_bytes_have_ids(tmp_path: Path) -> None:
    for size in range(14):
        (tmp_path / "short.mp4").write_bytes(bytes(size))
        assert content_ids(tmp_path / "..", [str(tmp_path / "short.mp4")])
