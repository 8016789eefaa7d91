"""Files of remote storage on the local disk: the lists of a task when its plan is made, its media before they are read.

Several processes that share a cache fetch each their part of the files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path, PurePosixPath

from bench.cards.load import TaskCard
from bench.core.distributed import World
from bench.core.errors import BenchError
from bench.core.files import atomic_write, cache_folder, check_space, human_bytes, remove_abandoned
from bench.core.progress import Reporter, Silent
from bench.core.remote import filesystem, remote_url, told_in_one_line
from bench.data.links import StagedFile, is_safe, link_tree, staged_files, tree_of
from bench.data.sample import ListOptions

AT_ONCE = 16
"""Files that one process fetches at the same time."""
_IN_HAND = 512
_PATIENCE_S = 120.0
"""After which a network file system must show what another machine wrote."""

_listed: ContextVar[dict[tuple[str, Path, bool], list[str]] | None] = ContextVar("listed", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """Within the block, a remote folder is listed once, however many plans are made."""
    token = _listed.set({})
    try:
        yield
    finally:
        _listed.reset(token)


def local_folder(folder: Path | None, cache: Path) -> Path | None:
    """The local folder that stands for `folder`, which may be an address."""
    url = remote_url(folder)
    return tree_of(cache, url) if url else folder


def local_lists(card: TaskCard, where: ListOptions, cache: Path | None, reporter: Reporter) -> ListOptions:
    """The same with local paths: remote folders as trees of links, and the annotation files of the task fetched.

    `cache` is as the user gave it. Raises BenchError where an address leads nowhere, or cannot be reached.
    """
    data = remote_url(where.data)
    lists = {name: url for name in ("train", "val") if (url := remote_url(getattr(where, name)))}
    if not data and not lists:
        return where
    folder = cache_folder(cache)
    places = {name: _place(url, data) for name, url in lists.items()}
    roots = {root: root == data or where.data is None for root, _ in places.values()}
    for root, deep in {**roots, **({data: True} if data else {})}.items():
        names = (*_names(card), *(relative for other, relative in places.values() if other == root))
        listed = _link_once(root, folder, reporter, deep=deep)
        tree = tree_of(folder, root)
        bring_files([str(tree / name) for name in _texts(listed, names)], reporter=reporter)
    paths = {}
    for name, (root, relative) in places.items():
        paths[name] = tree_of(folder, root) / relative
        if not os.path.lexists(paths[name]):
            raise BenchError("not there", where=lists[name], fix=f"check --{name}")
    return replace(where, data=local_folder(where.data, folder), **paths)


def bring_files(paths: Sequence[str], world: World | None = None, reporter: Reporter | None = None) -> None:
    """Fetch those of the files, and frames of the folders, that are remote and not here; all processes of `world` do
    their part. Files that are gone over there stay missing.

    Raises BenchError where the disk has not the room, before the first, and where the storage cannot be reached.
    """
    world, reporter = world or World(), reporter or Silent()
    files = {file.object: file for path in dict.fromkeys(paths) for file in staged_files(path)}
    missing = {place for place, file in files.items() if not file.is_here}
    if not world.gather(bool(files))[0]:
        return
    _check_room([files[place] for place in missing])
    # By their place among all files, not among the missing: others may have fetched some before this process looked.
    own = [file for place, file in list(files.items())[world.rank :: world.size] if place in missing]
    gone = _fetch(own, reporter)
    told = {place for part in world.gather(gone) for place in part}
    _wait_for([files[place] for place in missing if place not in told])


def _place(url: str, data: str | None) -> tuple[str, str]:
    """The remote folder that an annotation file is staged with, and its path there."""
    root = data if data and url.startswith(f"{data}/") else url.rpartition("/")[0]
    relative = url.removeprefix(f"{root}/")
    if not remote_url(root) or not is_safe(relative):
        raise BenchError("not an address of a file", where=url, fix="such as s3://bucket/train.csv")
    return root, relative


def _names(card: TaskCard) -> list[str]:
    """Patterns of the annotation files of a task."""
    names = [card.train, card.test, *card.annotations.train, *card.annotations.test]
    if card.boxes:
        boxes = card.boxes
        names += [*boxes.action_list, *boxes.detections]
        names += [name for files in (boxes.excluded, boxes.included) for name in (*files.train, *files.test)]
    return names


def _texts(listed: Sequence[str], names: Sequence[str]) -> list[str]:
    """Files of a remote folder that lie beside an annotation file, or directly in the folder.

    Readers look for lists of classes and the like beside annotation files, and for those in the folder itself and
    one folder down.
    """
    texts = [path for path in listed if path.lower().endswith((".csv", ".json", ".pbtxt", ".tsv", ".txt"))]
    folders, exact = {""}, set(names)
    for path in texts:
        pure = PurePosixPath(path)
        for pattern in (pattern for name in names for pattern in (name, f"*/{name}")):
            if pattern.count("/") == path.count("/") and pure.match(pattern):
                folders.add(path.rpartition("/")[0])
    return [path for path in listed if path in exact] + [p for p in texts if p.rpartition("/")[0] in folders]


def _link_once(url: str, cache: Path, reporter: Reporter, *, deep: bool) -> list[str]:
    known = _listed.get()
    if known is not None and (url, cache, deep) in known:
        return known[url, cache, deep]
    listed, notes = link_tree(url, cache, deep=deep)
    for note in notes:
        reporter.say(note)
    if known is not None:
        known[url, cache, deep] = listed
    return listed


def _check_room(files: Sequence[StagedFile]) -> None:
    """Raise BenchError where files that are to be fetched do not fit on the disk."""
    if files:
        fix = "free some space, choose another disk with --cache, or a subset with --limit"
        needed = sum(file.size for file in files)
        check_space(files[0].root, needed, what=f"{len(files)} files to fetch take", fix=fix)


def _fetch(files: Sequence[StagedFile], reporter: Reporter) -> list[Path]:
    """Fetch files; the objects of those that are not there any more come out."""
    gone: list[Path] = []
    total, done_bytes = sum(file.size for file in files), 0
    for root in {file.root for file in files}:
        remove_abandoned(root / "objects", "*/.*.part")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for start in range(0, len(files), _IN_HAND):
                part = files[start : start + _IN_HAND]
                for done, (file, there) in enumerate(zip(part, pool.map(_fetch_one, part), strict=True), start + 1):
                    gone += [] if there else [file.object]
                    done_bytes += file.size
                    detail = f"{human_bytes(done_bytes)} of {human_bytes(total)}"
                    reporter.stage("fetching files", done, len(files), detail)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # those under way end first
            raise
    return gone


class _GoneError(Exception):
    """A file that was listed is not there any more."""


def _fetch_one(file: StagedFile) -> bool:
    """Whether the file was there."""
    url = f"{file.url}/{file.relative}"
    try:
        with told_in_one_line(url), atomic_write(file.object) as temporary:
            _download(file, temporary)
            size = temporary.stat().st_size
            if size != file.size:
                what = f"{size} bytes came instead of {file.size}: it was changed meanwhile, or the connection broke"
                raise BenchError(what, where=url, fix="run the same command again")
    except _GoneError:
        return False
    return True


def _download(file: StagedFile, target: Path) -> None:
    system, root = filesystem(file.url)
    try:
        system.get_file(f"{root}/{file.relative}", str(target))
    except FileNotFoundError as error:
        if error.filename:  # a local one
            raise
        raise _GoneError from error


def _wait_for(files: Sequence[StagedFile]) -> None:
    """Wait until this machine sees what others fetched: a network file system may show it only later."""
    deadline = time.monotonic() + _PATIENCE_S
    for file in files:
        while not file.is_here:
            if time.monotonic() > deadline:
                raise BenchError("another process fetched it, and this one does not see it", where=str(file.object))
            time.sleep(0.1)
