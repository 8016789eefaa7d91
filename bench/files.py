"""Where things are on disk, and how files are written: to a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from bench.errors import BenchError
from bench.remote.urls import remote_url, url_digest

_PACKAGE = Path(__file__).resolve().parent
_reading_umask = threading.Lock()


def content_folder(name: str) -> Path:
    """The shipped folder `datasets`, `probes` or `results`: inside an installed wheel, or at the top of a checkout."""
    packaged = _PACKAGE / "content" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


def cache_folder(given: str | Path | None = None) -> Path:
    """The cache, created and known to be writable."""
    return writable_folder(cache_path(given), option="--cache")


def cache_path(given: str | Path | None = None) -> Path:
    """Where the cache is: `given`, else `BENCH_CACHE`, else the user's cache directory.

    Of a cache at an address, such as `s3://bucket/cache`: where its local part is, in `BENCH_CACHE` or the user's.
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


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden temporary folder beside `folder`, whose parent exists; it takes that name when the block ends
    without an error, unless another process was faster: then its folder stays.

    Temporary folders of processes that were killed hours ago are removed.
    """
    remove_abandoned(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private, a cache may be shared
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_abandoned(parent: Path, pattern: str = ".*.part", age_s: float = 2 * 3600) -> None:
    """Remove the temporary files and folders in `parent` that processes left that were killed hours ago."""
    for part in parent.glob(pattern):
        with suppress(OSError):  # another process may remove it too
            if time.time() - part.stat().st_mtime <= age_s:
                continue
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink()


def _umask() -> int:
    # It can only be read by setting it: two threads at once would leave it at 0.
    with _reading_umask:
        umask = os.umask(0)
        os.umask(umask)
    return umask


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
