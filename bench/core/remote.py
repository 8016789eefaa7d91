"""Addresses of remote storage (`s3://bucket/folder`), and its many errors as one line.

Credentials, endpoints and the like are the libraries' own business: they come from the environment, from their
configuration files and from fsspec's, never from an option or a card.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.hashing import text_digest

# A Path makes one slash of two; a single letter would be a drive.
_URL = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+):/+(?P<rest>.+)")
_LOCAL = ("file", "local")
_LIBRARIES = ("aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "gcsfs", "google", "adlfs", "azure", "s3fs")
"""Packages whose errors are the network's or the storage's. They have no class in common."""


def remote_url(path: str | os.PathLike[str] | None) -> str | None:
    """The address that a path on the command line stands for, without a slash at its end; None for a local path."""
    found = _URL.fullmatch(os.fspath(path)) if path else None
    if found is None or found["protocol"] in _LOCAL:
        return None
    return f"{found['protocol']}://{found['rest'].rstrip('/')}"


def url_digest(url: str) -> str:
    """Name of the local folder of an address: 24 hex digits."""
    return text_digest(url)[:24]


def remote_cache(given: str | Path | None) -> str | None:
    """The address of the cache, where `given`, or else `BENCH_CACHE`, is one."""
    return remote_url(given or os.environ.get("BENCH_CACHE"))


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the address as that calls it. Used inside `told_in_one_line`."""
    import fsspec

    system, root = fsspec.core.url_to_fs(url)
    return system, root.rstrip("/")


@contextmanager
def told_in_one_line(url: str) -> Iterator[None]:
    """Raise BenchError for what storage and network do in the block. Errors of local files pass as they are."""
    try:
        yield
    except ImportError as error:
        fix = "pip install 'vjepa-bench[remote]'" if url.startswith("s3:") else "install it"
        raise BenchError(f"a package is missing ({error})", where=url, fix=fix) from error
    except Exception as error:
        if isinstance(error, BenchError) or not _is_remote(error):
            raise
        what, fix = _in_words(error)
        raise BenchError(f"{what} ({error})", where=url, fix=fix) from error


def _is_remote(error: Exception) -> bool:
    if _of_library(error) or _of_library(error.__cause__):  # s3fs makes errors of the system's kinds of botocore's
        return True
    if isinstance(error, OSError):
        return error.filename is None and error.errno is None
    return isinstance(error, ValueError) and "Protocol not known" in str(error)


def _of_library(error: BaseException | None) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def _in_words(error: Exception) -> tuple[str, str]:
    """What an error means, and what to do about it."""
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, PermissionError):
        return "no permission", "check the credentials, and what they allow"
    if isinstance(error, FileNotFoundError):
        return "not there", "check the name of the bucket and the path"
    if isinstance(error, ValueError):
        return "unknown storage", "addresses begin with s3://, gs:// or another protocol of fsspec"
    return "cannot be reached", "check the network and AWS_ENDPOINT_URL; the same command goes on from here"
