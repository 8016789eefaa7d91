"""Where things are on disk, whether they fit, and how files are written: to a temporary name, then renamed."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from bench.core.errors import BenchError
from bench.core.remote import remote_url, url_digest

_PACKAGE = Path(__file__).resolve().parents[1]
_reading_umask = threading.Lock()
_PART = ".part"
PARTS = f".*{_PART}"
"""How the temporary folders are called."""
_MARK = ".vjepa-bench"
"""Name of the mark in folders that are made here. A folder without the mark is never removed."""
_LONGEST_NAME = 255


def content_folder(name: str) -> Path:
    """The shipped folder `datasets`, `probes` or `results`: inside an installed wheel, or at the top of a checkout."""
    packaged = _PACKAGE / "content" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def cache_folder(given: str | Path | None = None) -> Path:
    """The cache, created and known to be writable."""
    return writable_folder(cache_path(given), option="--cache")


def cache_path(given: str | Path | None = None) -> Path:
    """Where the cache is: `given`, else `BENCH_CACHE`, else the user's cache directory.

    For a cache at an address, such as `s3://bucket/cache`, the folder of its local part in `BENCH_CACHE` or the user's.
    """
    variable = os.environ.get("BENCH_CACHE")
    users = Path(platformdirs.user_cache_dir("vjepa-bench", appauthor=False))
    url = remote_url(given or variable)
    if url is None:
        return Path(given or variable or users).expanduser()
    base = users if variable is None or remote_url(variable) else Path(variable).expanduser()
    return base / "remote" / url_digest(url)


def writable_folder(folder: Path, *, option: str) -> Path:
    """Create `folder` if needed and check that a file can be written in it; `option` is what the user can change."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BenchError(
            f"cannot write here ({error.strerror})",
            where=str(folder),
            fix=f"choose another folder with {option}",
        ) from error
    return folder


def check_output(path: Path, *, option: str, inputs: Iterable[Path] = (), runs: Iterable[Path] = ()) -> None:
    """Raise BenchError where the file that `option` names cannot be written without loss: it is one of the files
    `inputs`, there or not, or a file of a run in the results folders `runs`, under whatever name, or no regular
    file."""
    where = f"{option} {path}"
    refuse_special(path, where)
    there, place = path.exists(), path.resolve()
    read = itertools.chain(inputs, (file for folder in runs if there for file in folder.glob("*/**/*")))
    if any(file.resolve() == place or (there and file.exists() and path.samefile(file)) for file in read):
        what = "this command reads or writes that file for something else"
        raise BenchError(what, where=where, fix="name another file to write")


def refuse_special(path: Path, where: str) -> None:
    """Raise BenchError where there is something at `path` that is no regular file: nothing takes its place."""
    if path.is_dir():
        raise BenchError("is a folder", where=where, fix="name a file")
    if os.path.lexists(path) and not path.is_file():
        what = "is a pipe, a socket, a device or a link to nowhere, not a regular file"
        raise BenchError(what, where=where, fix="name a file")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path near `path`; it takes the name `path` only when the block ends without an error.

    Raises BenchError where `path` is there and no regular file.
    """
    refuse_special(path, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _own_folder(path.parent, path.name) as folder:
            temporary = folder / path.name
            temporary.touch()
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)  # a write does not say where it was
        raise


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden temporary folder near `folder`, whose parent exists; it takes that name when the block ends
    without an error, unless another process was faster: then its folder stays.

    Temporary folders of processes that were killed hours ago are removed.
    """
    remove_abandoned(folder.parent)
    with _own_folder(folder.parent, folder.name) as own:
        temporary = own / folder.name
        temporary.mkdir()
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # a cache may be shared
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


@contextmanager
def _own_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder in `parent` for what becomes `name` there; it bears the mark, and is gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=_PART, dir=parent))
    try:
        write_mark(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path, pattern: str = PARTS, age_s: float = 2 * 3600) -> None:
    """Remove what processes that were killed hours ago left half written in `parent`: hidden folders that bear the mark
    of their own name. Whatever else is called like them belongs to someone else."""
    for part in parent.glob(pattern):
        with suppress(OSError):  # another process may remove it too
            if has_mark(part) and time.time() - _last_change_s(part) > age_s:
                shutil.rmtree(part, ignore_errors=True)


def _last_change_s(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def write_mark(folder: Path) -> None:
    """Mark a folder as made here: what is in it may be removed."""
    (folder / _MARK).write_bytes(os.fsencode(folder.name))


def has_mark(folder: Path) -> bool:
    """Whether a folder was made here under the name that it has."""
    mark = folder / _MARK
    if folder.is_symlink() or mark.is_symlink() or not mark.is_file():
        return False
    # A copy under another name is someone's own.
    return mark.stat().st_size <= _LONGEST_NAME and mark.read_bytes() == os.fsencode(folder.name)


def set_aside(path: Path) -> None:
    """Give a file that cannot be read as what its name says another name, for it may be someone else's."""
    with suppress(FileNotFoundError):  # another process was faster
        path.replace(path.with_name(f"{path.name}.damaged-{secrets.token_hex(3)}"))


def _umask() -> int:
    # It can only be read by setting it: two threads at once would leave it at 0.
    with _reading_umask:
        umask = os.umask(0)
        os.umask(umask)
    return umask


BLANKS = " \t\r\n\v\f"
"""What is no part of a cell at its ends. Other blanks of Unicode may belong to the name of a file."""


def lines_of(text: str) -> list[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Lines end at line feeds alone, which a text file has in place of carriage returns when it is read, as for pandas and
    csv: `str.splitlines` would also cut a name that holds U+2028, U+0085 or one of the other separators of Unicode.
    """
    lines = enumerate(text.split("\n"), start=1)
    return [(number, line) for number, whole in lines if (line := whole.strip(BLANKS))]


def token_bytes(embed_dim: int, token_bits: int) -> int:
    """Size of one stored token: fp16, or 8 bits a channel and a scale (bench.features.store)."""
    return embed_dim + 4 if token_bits == 8 else 2 * embed_dim


_ROOM = "free some space, choose another disk with --cache, --token-bits 8, or a subset with --limit"


def check_space(folder: Path, num_bytes: int, *, what: str = "the features take", fix: str = _ROOM) -> None:
    """Raise BenchError where `num_bytes`, of `what`, do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        sizes = f"{human_bytes(num_bytes)}, and {human_bytes(free)} are free"
        raise BenchError(f"{what} {sizes}", where=str(folder), fix=fix)


def human_bytes(count: float) -> str:
    """A size for people: `3.1 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
