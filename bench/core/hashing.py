"""SHA-256 digests, as 64 hex digits: they name results of earlier work, and show whether two things are the same.

Keys of caches and records on disks hold them: what is hashed must stay the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def digest(value: object) -> str:
    """SHA-256 of a value that JSON can hold, in hex; the order of keys does not matter."""
    return text_digest(json.dumps(value, sort_keys=True))


def text_digest(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex; the text may hold file names that are not valid UTF-8."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def file_digest(path: Path, told: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes, in hex; `told` is called with the bytes read so far."""
    found, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
            done += len(block)
            if told:
                told(done)
    return found.hexdigest()
