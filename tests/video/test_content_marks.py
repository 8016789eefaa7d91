"""Files whose pixels have changed with their reader have other ids, and all others keep theirs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from containers import write

from bench.core.hashing import file_digest
from bench.video.contents import content_ids

Change = Callable[[bytes], bytes]


def with_matrix(a: int, b: int, c: int, d: int) -> Change:
    def change(content: bytes) -> bytes:
        start = content.index(b"tkhd") + 44
        matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        return content[:start] + matrix + content[start + 36 :]

    return change


def without_list(content: bytes) -> bytes:
    return content.replace(b"stss", b"free")


def kept(content: bytes) -> bytes:
    return content


@pytest.mark.parametrize(
    ("container", "codec", "change", "suffix"),
    [
        ("mp4", "h264-b", kept, ""),
        ("mkv", "h264-b", kept, ""),
        ("avi", "mpeg4", kept, ""),
        ("ts", "h264-b", kept, ""),
        ("webm", "vp9", kept, ""),
        ("mov", "mjpeg", kept, ""),
        ("mp4", "h264-b", without_list, ""),
        ("mp4", "h264-b", with_matrix(0, 1, -1, 0), ""),
        ("mp4", "h264-b", with_matrix(-1, 0, 0, 1), "-plain"),
        ("mp4", "h264-b", with_matrix(0, 1, 1, 0), "-plain"),
        ("mp4", "mpeg4", without_list, "-plain"),
        ("mp4", "h264-refresh", kept, "-plain"),
        ("mkv", "h264-refresh", kept, "-plain"),
        ("mpg", "mpeg2-b", kept, "-plain"),
        ("wmv", "h264-b", kept, "-plain"),
    ],
)
def test_ids_change_where_the_reading_did(
    container: str, codec: str, change: Change, suffix: str, tmp_path: Path
) -> None:
    path = write(tmp_path, container, codec)
    path.write_bytes(change(path.read_bytes()))
    for _ in range(2):  # the second time from memory
        assert content_ids(tmp_path, [str(path)]) == {str(path): file_digest(path)[:32] + suffix}


def test_files_of_a_few_bytes_have_ids(tmp_path: Path) -> None:
    for size in range(14):
        (tmp_path / "short.mp4").write_bytes(bytes(size))
        assert content_ids(tmp_path / "..", [str(tmp_path / "short.mp4")])
