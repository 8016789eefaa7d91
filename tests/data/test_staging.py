"""Remote files on the local disk, with a storage in memory: links, versions, what may be a file here."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from standins import LAYOUTS, standin

from bench import BenchError
from bench.cards.load import load_task
from bench.core.progress import Silent
from bench.data.dataset import load_splits
from bench.data.links import is_safe, link_tree, staged_file, tree_of
from bench.data.missing_files import size_of
from bench.data.sample import ListOptions, Sample
from bench.data.staging import bring_files, local_lists
from bench.video.contents import content_ids

URL = "memory://videos"


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def put(system: MemoryFileSystem, **files: bytes) -> None:
    for name, content in files.items():
        system.pipe_file(f"/videos/{name.replace('__', '/')}.mp4", content)


def content_of(tree: Path) -> dict[str, bytes | None]:
    """Path -> bytes of what was fetched, None for what was not."""
    files = [Path(folder) / name for folder, _, names in os.walk(tree) for name in names]
    return {str(path.relative_to(tree)): path.read_bytes() if path.exists() else None for path in files}


def test_a_file_is_a_link_until_it_is_fetched(memory: MemoryFileSystem, tmp_path: Path) -> None:
    put(memory, a__x=b"12345", y=b"")
    link_tree(URL, tmp_path, deep=True)
    tree = tree_of(tmp_path, URL)
    assert content_of(tree) == {"a/x.mp4": None, "y.mp4": None}
    assert [size_of(Sample("x", str(tree / name), 0)) for name in ("a/x.mp4", "y.mp4", "z.mp4")] == [5, 0, None]
    bring_files([str(tree / "a/x.mp4"), "/elsewhere/z.mp4"])
    assert content_of(tree) == {"a/x.mp4": b"12345", "y.mp4": None}


def test_frames_of_a_folder_are_fetched_together(memory: MemoryFileSystem, tmp_path: Path) -> None:
    for frame in range(3):
        memory.pipe_file(f"/videos/7/{frame}.jpg", bytes([frame]))
    link_tree(URL, tmp_path, deep=True)
    folder = tree_of(tmp_path, URL) / "7"
    assert size_of(Sample("7", str(folder), 0)) == 1
    bring_files([str(folder)])
    assert content_of(folder) == {"0.jpg": b"\0", "1.jpg": b"\1", "2.jpg": b"\2"}


def test_what_is_here_is_not_fetched_again_and_what_changed_is(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, one=b"111", two=b"222", old=b"0")
    fetched: list[str] = []
    get_file = MemoryFileSystem.get_file

    def noted(self: Any, source: str, *given: Any, **named: Any) -> Any:
        fetched.append(Path(source).stem)
        return get_file(self, source, *given, **named)

    monkeypatch.setattr(MemoryFileSystem, "get_file", noted)
    tree = tree_of(tmp_path, URL)
    paths = [str(tree / f"{name}.mp4") for name in ("one", "two", "old")]
    link_tree(URL, tmp_path, deep=True)
    bring_files(paths)
    put(memory, two=b"333")
    memory.rm_file("/videos/old.mp4")
    link_tree(URL, tmp_path, deep=True)
    assert content_of(tree) == {"one.mp4": b"111", "two.mp4": None}
    bring_files(paths)
    assert content_of(tree) == {"one.mp4": b"111", "two.mp4": b"333"}
    assert sorted(fetched) == ["old", "one", "two", "two"]
    assert len(list((tree.parent / "objects").glob("*/*"))) == 2


def test_a_fetched_file_that_was_cut_short_is_fetched_again(memory: MemoryFileSystem, tmp_path: Path) -> None:
    put(memory, one=b"111")
    link_tree(URL, tmp_path, deep=True)
    path = tree_of(tmp_path, URL) / "one.mp4"
    for left in (b"111", b"1", b""):
        path.write_bytes(left) if path.exists() else None
        bring_files([str(path)])
        assert path.read_bytes() == b"111"


@pytest.mark.parametrize(
    ("field", "noticed"), [("ETag", True), ("blob_id", True), ("lfs", True), ("modificationTime", True), ("uid", False)]
)
def test_a_file_replaced_by_one_of_its_size_is_noticed_where_the_storage_tells(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, noticed: bool
) -> None:
    targets, notes = [], []
    for version in ("one", "two"):
        info = {"name": "/videos/a.mp4", "type": "file", "size": 3, field: version}
        monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, info=info, **__: {"/videos/a.mp4": info})
        notes += link_tree(URL, tmp_path, deep=True)[1]
        targets.append((tree_of(tmp_path, URL) / "a.mp4").readlink())
    assert (targets[0] != targets[1]) == noticed
    assert any("tells no versions of its files" in note for note in notes) != noticed


def test_a_file_may_take_the_place_of_a_folder_and_a_folder_that_of_a_file(
    memory: MemoryFileSystem, tmp_path: Path
) -> None:
    put(memory, a__b__c=b"1", d=b"2")
    link_tree(URL, tmp_path, deep=True)
    memory.rm("/videos", recursive=True)
    memory.pipe_file("/videos/a", b"3")
    memory.pipe_file("/videos/d.mp4/e", b"4")
    link_tree(URL, tmp_path, deep=True)
    assert content_of(tree_of(tmp_path, URL)) == {"a": None, "d.mp4/e": None}


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/.", "", "a\0b", "\udc80", "x" * 256, "ab/" * 400 + "c"],
)
def test_names_that_leave_the_folder_or_no_disk_can_hold_are_not_safe(name: str) -> None:
    assert not is_safe(name)


def test_files_that_cannot_be_files_here_are_left_out_and_told(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["../up.mp4", "/root.mp4", "good.mp4", "a", "a/b.mp4", "marker/"]
    facts = {"type": "file", "size": 1, "ETag": "0"}
    listing = {f"/videos/{name}": {"name": f"/videos/{name}", **facts} for name in names}
    listing["/other/x"] = {"name": "/other/x", "type": "file", "size": 1}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: listing)
    listed, notes = link_tree(URL, tmp_path, deep=True)
    assert listed == ["a/b.mp4", "good.mp4"]
    assert notes == ["3 names of memory://videos cannot be files here: left out, first '../up.mp4'"]
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert sorted(path.name for path in links) == ["b.mp4", "good.mp4"]


def test_files_and_links_of_others_stay_in_the_tree(memory: MemoryFileSystem, tmp_path: Path) -> None:
    put(memory, one=b"1")
    link_tree(URL, tmp_path, deep=True)
    tree = tree_of(tmp_path, URL)
    (tree / "thesis.txt").write_text("years of work")
    (tree / "link").symlink_to(tree / "thesis.txt")
    link_tree(URL, tmp_path, deep=True)
    assert (tree / "link").read_text() == "years of work"
    put(memory, link=b"2")
    memory.mv("/videos/link.mp4", "/videos/link")
    with pytest.raises(BenchError, match="link: stands where a remote file belongs"):
        link_tree(URL, tmp_path, deep=True)
    assert (tree / "link").read_text() == "years of work"


def test_links_of_others_are_not_taken_for_staged_files(tmp_path: Path) -> None:
    (tmp_path / "staged" / ("0" * 24) / "tree").mkdir(parents=True)
    link = tmp_path / "staged" / ("0" * 24) / "tree" / "x.mp4"
    link.symlink_to("/etc/passwd")
    assert staged_file(link) is None and staged_file("/etc/passwd") is None


def test_a_disk_without_room_is_refused_before_anything_is_fetched(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, one=b"1" * 2048)
    link_tree(URL, tmp_path, deep=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(1024))
    with pytest.raises(BenchError, match=r"1 files to fetch take 2.0 KiB, and 1.0 KiB are free - .*--limit"):
        bring_files([str(tree_of(tmp_path, URL) / "one.mp4")])


def test_a_file_that_is_gone_stays_missing_and_one_cut_off_is_told(
    memory: MemoryFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, gone=b"1", short=b"22")
    link_tree(URL, tmp_path, deep=True)
    tree = tree_of(tmp_path, URL)
    memory.rm_file("/videos/gone.mp4")
    bring_files([str(tree / "gone.mp4")])
    monkeypatch.setattr(MemoryFileSystem, "get_file", lambda _, __, target: Path(target).write_bytes(b"2"))
    with pytest.raises(BenchError, match=r"memory://videos/short.mp4: 1 bytes came instead of 2"):
        bring_files([str(tree / "short.mp4")])
    assert content_of(tree) == {"gone.mp4": None, "short.mp4": None}
    assert not [path for path in (tree.parent / "objects").rglob("*") if path.is_file()]


def test_lists_of_a_task_are_fetched_and_nothing_else(memory: MemoryFileSystem, tmp_path: Path) -> None:
    for name in ("labels/train.json", "labels/labels.json", "clips/1.webm", "clips/1.json", "prepared.json", "x.tar"):
        memory.pipe_file(f"/videos/{name}", b"{}")
    where = local_lists(load_task("ssv2"), ListOptions(Path(URL)), tmp_path, Silent())
    assert where.data == tree_of(tmp_path, URL)
    there = {name for name, content in content_of(where.data).items() if content is not None}
    assert there == {"labels/train.json", "labels/labels.json", "prepared.json"}


def test_a_list_may_be_in_another_remote_folder_than_the_data(memory: MemoryFileSystem, tmp_path: Path) -> None:
    put(memory, clips__a=b"1")
    memory.pipe_file("/videos/splits/small.list", b"clips/a.mp4 0\n")
    memory.pipe_file("/lists/val.csv", b"clips/a.mp4 0\n")
    memory.pipe_file("/lists/deep/x.csv", b"")
    given = ListOptions(Path(URL), Path(f"{URL}/splits/small.list"), Path("memory://lists/val.csv"))
    where = local_lists(load_task("custom"), given, tmp_path, Silent())
    assert where.train and where.train == tree_of(tmp_path, URL) / "splits" / "small.list" and where.train.is_file()
    assert where.val and where.val.read_bytes() == b"clips/a.mp4 0\n"
    assert not (where.val.parent / "deep").exists()
    with pytest.raises(BenchError, match=r"memory://lists/none.csv: not there - check --val"):
        local_lists(load_task("custom"), ListOptions(val=Path("memory://lists/none.csv")), tmp_path, Silent())


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_official_layout_gives_the_samples_of_local_files(
    memory: MemoryFileSystem, tmp_path: Path, name: str
) -> None:
    local, card = tmp_path / "local", load_task(name)
    standin(name, local, train=2, test=2)
    for path in filter(Path.is_file, local.rglob("*")):
        memory.pipe_file(f"/videos/{path.relative_to(local)}", path.read_bytes())
    expected = load_splits(card, ListOptions(local), tmp_path)
    where = local_lists(card, ListOptions(Path(URL)), tmp_path, Silent())
    found = load_splits(card, where, tmp_path)
    assert found.class_names == expected.class_names
    for ours, theirs in ((found.train, expected.train), (found.test, expected.test)):
        assert [replace(one, path="") for one in ours] == [replace(one, path="") for one in theirs]
        paths = [os.path.relpath(one.path, where.data or "") for one in ours]
        assert paths == [os.path.relpath(one.path, local) for one in theirs]
        assert all(size_of(one) for one in ours)
    bring_files([one.path for one in found.test])
    ids = [list(content_ids(tmp_path, [one.path for one in part]).values()) for part in (found.test, expected.test)]
    assert ids[0] == ids[1]


def test_local_paths_pass_as_they_are(tmp_path: Path) -> None:
    given = ListOptions(tmp_path, tmp_path / "train.csv", None)
    assert local_lists(load_task("custom"), given, tmp_path / "cache", Silent()) is given
    assert not (tmp_path / "cache").exists()


def test_a_folder_without_files_is_refused(memory: MemoryFileSystem, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"memory://videos: no(t there| files here)"):
        link_tree(URL, tmp_path, deep=True)
