"""Digests name what lies in caches: the same things have the same digests as ever."""

import hashlib
from pathlib import Path

from bench.core.hashing import digest, file_digest, text_digest


def test_values_are_hashed_as_their_json() -> None:
    expected = hashlib.sha256(b'{"a": [2, null], "\\u00e9": 1.5}').hexdigest()
    assert digest({"é": 1.5, "a": [2, None]}) == digest({"a": (2, None), "é": 1.5}) == expected


def test_texts_are_hashed_as_utf_8_and_names_that_are_not_as_their_bytes() -> None:
    assert text_digest("é\udcff") == hashlib.sha256(b"\xc3\xa9\xff").hexdigest()


def test_files_are_hashed_block_by_block(tmp_path: Path) -> None:
    content = b"0123456789abcdef" * (1 << 17) + b"rest"
    (tmp_path / "file").write_bytes(content)
    told: list[int] = []
    assert file_digest(tmp_path / "file", told.append) == hashlib.sha256(content).hexdigest()
    assert told[-1] == len(content) and told == sorted(told) and len(told) > 1
