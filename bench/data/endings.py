"""Does a file end where its format says? Told from a few bytes, for a quick check.

MP4 and MOV are checked where they are opened (bench/video/decode.py); MPEG-TS and the like do not say where they end.
"""

from __future__ import annotations

from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
_RIFF_UNKNOWN = (0, 0xFFFFFFFF)


def is_cut_off(file: BinaryIO, size: int) -> bool:
    """Whether a Matroska or WebM file of `size` bytes ends before its last element does."""
    if file.read(4) != _EBML:
        return False
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(12)
        id_bytes = _vint_bytes(head[:1])
        size_bytes = _vint_bytes(head[id_bytes : id_bytes + 1])
        if not id_bytes or not size_bytes or len(head) < id_bytes + size_bytes:
            return True
        bits = 7 * size_bytes
        length = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:  # written as a stream: the element lasts to the end
            return False
        position += id_bytes + size_bytes + length
    return position > size


def is_doubtful(pieces: list[bytes], size: int) -> bool:
    """Whether a file of `size` bytes looks unfinished, which only reading it all can tell.

    `pieces` are its beginning, middle and end: an image without its end mark, an AVI or WebP file shorter than it
    says, or zeros where data belong, as of a download that has reserved its space.
    """
    head, middle, tail = pieces
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if head.startswith(b"RIFF"):
        length = int.from_bytes(head[4:8], "little")
        return length not in _RIFF_UNKNOWN and 8 + length > size
    return not any(middle) or not any(tail)


def _vint_bytes(first: bytes) -> int:
    """Length of an EBML number by its first byte: the position of the highest bit. 0 where there is none."""
    return 9 - first[0].bit_length() if first and first[0] else 0
