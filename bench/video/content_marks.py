"""Files that are read otherwise than by the readers of the first content ids: their ids say so.

A content id stands for the pixels of a file. Where a reader comes to give other pixels of the same bytes, the ids of
these files must change, and those of all others stay. Signs in the bytes tell them; a file that has a sign without need
is encoded once more, and no harm is done.
"""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

SUFFIX = "-plain"
"""Of the ids of files whose frames are those of a plain decode, mirrors included, where they were not before."""

_PROGRAM_STREAM = b"\x00\x00\x01\xba"
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_MP4 = re.compile(rb"....(ftyp|moov|mdat|wide|free|skip)", re.DOTALL)
_TRACK_HEADER = re.compile(rb"tkhd([\x00\x01])")
_MATRIX_AFTER = {b"\x00": 40, b"\x01": 52}
"""Bytes between the version of a track header and its display matrix."""
_REFRESHED = b"intra_refresh=1"
"""What x264 notes of its settings in a stream without key frames."""


def suffix_of(path: Path) -> str:
    """What the content id of a file ends with. Raises OSError where the file cannot be read."""
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12:
            return ""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return SUFFIX if _has_a_sign(content, head) else ""


def _has_a_sign(content: mmap.mmap, head: bytes) -> bool:
    if head.startswith((_PROGRAM_STREAM, _ASF)) or content.find(_REFRESHED) >= 0:
        return True
    if not _MP4.match(head):
        return False
    flags_all = content.find(b"stss") < 0 and content.find(b"mp4v") >= 0  # other codecs tell a key frame themselves
    return flags_all or _mirrors(content)


def _mirrors(content: mmap.mmap) -> bool:
    """Whether the display matrix of a track has a negative determinant."""
    for header in _TRACK_HEADER.finditer(content):
        place = header.end() + _MATRIX_AFTER[header[1]] - 1
        if place + 20 <= len(content):
            a, b, _, c, d = struct.unpack(">5i", content[place : place + 20])
            if a * d - b * c < 0:
                return True
    return False
