"""A remote folder as a tree of local links, each to where its file will be once it was fetched.

    CACHE/staged/<digest of the address>/source.json                  the address
    CACHE/staged/<digest of the address>/tree/<the same path>  ->     a link to ...
    CACHE/staged/<digest of the address>/objects/<xx>/<version>-<bytes>

The name of an object holds the version (path, size, and ETag or time) and the size that the storage listed. So a link
tells what is known of a file that is not here; a file that changed over there has another object, and is fetched again;
and no file here can be half of one, or another than the one that is listed. This is how the cache of Hugging Face
keeps snapshots. A link to an object that was not fetched leads nowhere, which readers take for a file that is missing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.hashing import digest
from bench.core.remote import filesystem, told_in_one_line, url_digest

_OBJECT = re.compile(r"(?:\.\./)+(?P<object>objects/[0-9a-f]{2}/[0-9a-f]{32}-(?P<size>[0-9]+))")
_PLACE = re.compile(r"(?P<root>.*/staged/[0-9a-f]{24})/tree/(?P<relative>.+)", flags=re.S)
_VERSION_FIELDS = (
    *("generation", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created"),
    *("blob_id", "lfs", "xet_hash", "sha", "Content-MD5", "Digest", "Last-Modified", "modificationTime", "modify"),
)
"""What storages without ETags say of a file's content or time, by the name that fsspec gives it."""
_LONGEST_NAME = 255
_LONGEST_PATH = 1024
"""Bytes; what S3 and Linux allow."""


@dataclass(frozen=True)
class StagedFile:
    """A file of a remote folder, fetched or not."""

    root: Path
    """CACHE/staged/<digest>."""
    relative: str
    """Path in the remote folder."""
    object: Path
    size: int
    """Bytes, as the storage listed them."""

    @property
    def is_here(self) -> bool:
        """Whether the file was fetched, and nobody has cut it short since."""
        try:
            return self.object.stat().st_size == self.size
        except OSError:
            return False

    @property
    def url(self) -> str:
        """Address of the remote folder. Raises BenchError where the local one is damaged."""
        try:
            return str(json.loads((self.root / "source.json").read_text(encoding="utf-8"))["url"])
        except (OSError, ValueError, KeyError) as error:
            raise BenchError(f"damaged ({error})", where=str(self.root), fix="remove this folder") from error


def tree_of(cache: Path, url: str) -> Path:
    """The local folder that stands for a remote one."""
    return cache / "staged" / url_digest(url) / "tree"


def staged_file(path: str | Path) -> StagedFile | None:
    """What a path in a tree stands for; None for any other path."""
    place = _PLACE.fullmatch(os.fspath(path))
    found = _object_of(path) if place else None
    if not place or not found:
        return None
    root = Path(place["root"])
    return StagedFile(root, place["relative"], root / found["object"], int(found["size"]))


def staged_files(path: str) -> Iterator[StagedFile]:
    """What a path in a tree stands for: a file, or the files of a folder, such as frames; nothing for other paths."""
    file = staged_file(path)
    if file:
        yield file
    elif _PLACE.fullmatch(path) and os.path.isdir(path):  # noqa: PTH112
        with os.scandir(path) as entries:
            names = sorted(entry.path for entry in entries)
        yield from filter(None, map(staged_file, names))


def link_tree(url: str, cache: Path, *, deep: bool) -> tuple[list[str], list[str]]:
    """Make the tree of a remote folder what the storage lists now, `deep` with all folders below it; nothing is
    fetched. Objects of versions that are gone are removed.

    Returns the paths that it lists, and a line about those that cannot be files here. Raises BenchError where the
    folder is empty or not there.
    """
    listed = _list(url, deep=deep)
    objects, refused = _objects(listed)
    if not objects:
        raise BenchError("no files here", where=url, fix="check the name of the bucket and the path")
    tree = tree_of(cache, url)
    with atomic_write(tree.parent / "source.json") as temporary:
        temporary.write_text(json.dumps({"url": url}), encoding="utf-8")
    tree.mkdir(exist_ok=True)
    known = dict(_links(tree, deep=deep))
    for relative in known.keys() - objects.keys():
        _remove(tree, relative)
    for relative, name in objects.items():
        if known.get(relative) != name:
            _link(tree, relative, name)
    for name in set(known.values()) - set(objects.values()):
        (tree.parent / name).unlink(missing_ok=True)
    notes = [f"{len(refused)} names of {url} cannot be files here: left out, first {min(refused)!r}"] if refused else []
    if not any(map(_version, listed.values())):
        notes.append(f"{url} tells no versions of its files: one replaced by another of its size is not noticed")
    return list(objects), notes


def is_safe(relative: str) -> bool:
    """Whether a key of a bucket is the path of a file inside a folder, and one that file systems and lists can hold."""
    try:
        parts = [part.encode() for part in relative.split("/")]
    except UnicodeEncodeError:
        return False
    plain = all(part not in (b"", b".", b"..") and b"\0" not in part for part in parts)
    return plain and len(relative.encode()) <= _LONGEST_PATH and max(map(len, parts)) <= _LONGEST_NAME


def _list(url: str, *, deep: bool) -> dict[str, Mapping[str, Any]]:
    """Path in the folder -> what the storage says of the file. Folder markers, which end in a slash, are left out."""
    with told_in_one_line(url):
        system, root = filesystem(url)
        system.invalidate_cache()
        found = system.find(root, detail=True).values() if deep else system.ls(root, detail=True)
    inside = (info for info in found if info["type"] == "file" and info["name"].startswith(f"{root}/"))
    names = {info["name"].removeprefix(f"{root}/"): info for info in inside}
    return {name: info for name, info in names.items() if name and not name.endswith("/")}


def _objects(listed: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Path -> object for the files of a listing, and the names that cannot be files here, such as `../x`.

    A bucket may hold `a` and `a/b`; a disk cannot: the folder stays.
    """
    safe = {relative for relative in listed if is_safe(relative)}
    folders = {relative[:end] for relative in safe for end in (i for i, letter in enumerate(relative) if letter == "/")}
    objects = {relative: _object(relative, listed[relative]) for relative in sorted(safe - folders)}
    return objects, [relative for relative in listed if relative not in objects]


def _object(relative: str, info: Mapping[str, Any]) -> str:
    size = int(info.get("size") or 0)
    name = digest([relative, size, _version(info)])[:32]
    return f"objects/{name[:2]}/{name}-{size}"


def _version(info: Mapping[str, Any]) -> str | list[str]:
    """Identifies the content of a file among those of its size; empty where the storage says nothing of it."""
    etag = info.get("ETag") or info.get("etag")
    return str(etag) if etag else [f"{field}: {info[field]}" for field in _VERSION_FIELDS if info.get(field)]


def _links(tree: Path, *, deep: bool) -> Iterator[tuple[str, str]]:
    """(path, object) of the links of a tree that were made here."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(tree / folder) as entries:
            for entry in entries:
                found = _object_of(entry.path) if entry.is_symlink() else None
                if found:
                    yield folder + entry.name, found["object"]
                elif deep and entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}{entry.name}/")


def _object_of(link: str | Path) -> re.Match[str] | None:
    """The object that a link of a tree leads to; None for links, and for what else lies there, that were not made
    here."""
    try:
        return _OBJECT.fullmatch(os.readlink(link))  # noqa: PTH115 - a million Path objects take seconds
    except OSError:
        return None


def _link(tree: Path, relative: str, name: str) -> None:
    link, target = f"{tree}/{relative}", f"{'../' * (relative.count('/') + 1)}{name}"
    try:
        os.symlink(target, link)  # noqa: PTH211 - a million Path objects take seconds
    except FileNotFoundError:
        Path(link).parent.mkdir(parents=True, exist_ok=True)
        _link(tree, relative, name)
    except FileExistsError:  # of another version, or another process was faster
        if _object_of(link) is None:
            what = "stands where a remote file belongs, and was not put there by bench"
            raise BenchError(what, where=link, fix="move it away") from None
        temporary = tree.parent / f".{os.getpid()}.link"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)


def _remove(tree: Path, relative: str) -> None:
    """Remove a link, and the folders that it leaves empty: a file may come in their place."""
    (tree / relative).unlink(missing_ok=True)
    folder = (tree / relative).parent
    with suppress(OSError):  # not empty
        while folder != tree:
            folder.rmdir()
            folder = folder.parent
