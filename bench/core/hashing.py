"""SHA-256 digests, as 64 hex digits: what names results of earlier work, or tells whether two things are the same.

Keys of caches and records on disks hold them: what is hashed must stay the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

_BLOCK_BYTES = 1 << 20


def digest(value: object) -> str:
    """Of what JSON can hold; the order of keys does not matter."""
    return text_digest(json.dumps(value, sort_keys=True))


def text_digest(text: str) -> str:
    """Of a text in UTF-8; it may hold names of files that are not."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def file_digest(path: Path, told: Callable[[int], None] | None = None) -> str:
    """Of a file's bytes; `told` hears how many have been read."""
    found, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
            done += len(block)
            if told:
                told(done)
    return found.hexdigest()
