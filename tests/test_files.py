"""Where outputs go: never over what a command reads, and never over what is no regular file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.files import atomic_write, check_output


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a command reads, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "read.json"
    path.write_text("read")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    return path


@pytest.mark.parametrize("name", ["read.json", "./read.json", "link", "hard", "folder/read.json", "folder/link"])
def test_an_output_is_no_input_under_any_name(read: Path, name: str) -> None:
    with pytest.raises(BenchError, match=r"-o .*this command reads that file"):
        check_output(Path(name), option="-o", inputs=[read])


def test_an_output_is_no_file_of_a_run(read: Path) -> None:
    run = read.parent / "results" / "20260101-000000-x"
    (run / "deep").mkdir(parents=True)
    for path in (run / "record.json", run / "deep" / "01.jpg"):
        path.touch()
        with pytest.raises(BenchError, match="this command reads that file"):
            check_output(path, option="-o", runs=[read.parent / "results"])
    check_output(run.parent / "report.html", option="-o", runs=[read.parent / "results"])


def test_other_files_are_replaced(read: Path) -> None:
    other = read.with_name("other")
    for _ in range(2):
        check_output(other, option="-o", inputs=[read])
        with atomic_write(other) as temporary:
            temporary.write_text("new")
    assert other.read_text() == "new" and read.read_text() == "read"
    assert {path.name for path in read.parent.iterdir()} == {"read.json", "link", "hard", "folder", "other"}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop", "nowhere"])
def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/null", "loop": "out", "nowhere": "not/there"}[kind])
    before = path.lstat()
    with pytest.raises(BenchError, match="name a file"):
        check_output(path, option="-o")
    with pytest.raises(BenchError, match="name a file"), atomic_write(path):
        pass
    assert os.path.samestat(before, path.lstat()) and len(list(tmp_path.iterdir())) == 1
