"""Does a file end before it should by its own format? Asked of every file before it is read.

FFmpeg takes the end of a file for the end of the video, so half a download would be a short video. What follows the
last part of a video (tags, a camera's trailer, padding) is no part of it and is passed over. MPEG-TS, raw streams and
live ASF do not say how long they are; in Ogg, MPEG program streams and other files that were written as a live stream,
only a cut inside a page, a packet or a block can be told, not one between two.

Formats: ISO/IEC 14496-12 (MP4), RFC 9559 (Matroska), ASF 01.20.03, AVI with OpenDML 1.02, GIF89a, FLV 10.1, RFC 3533
(Ogg), ISO/IEC 13818-1 (program streams), ITU-T T.81 (JPEG), PNG third edition, RIFF of WebP.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from bench.video.info import open_file

_TAIL_BYTES = 1 << 18  # several times the longest page of Ogg or packet of a program stream
_BLOCK_BYTES = 4096

_MP4_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_MP4_PARTS = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"meta", b"mfra", b"sidx", b"ssix", b"emsg", b"prft"}

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_MATROSKA_PARTS = {
    *(_CLUSTER, 0x1C53BB6B, 0x1254C367, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1941A469, 0x1043A770),
    *(0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xEC, 0xBF),  # of clusters: times, blocks, sizes; padding, checksums
}

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_INDICES = {
    bytes.fromhex("90080033b1e5cf1189f400a0c90349cb"),  # simple
    bytes.fromhex("d329e2d6da35d111903400a0c90349be"),
    bytes.fromhex("f803b1fead12644c840f2a1d2f7ad48c"),  # of media objects
    bytes.fromhex("d03fb73c4a0c0348953dedf7b6228f0c"),  # of time codes
}
_ASF_DATA_HEADER_BYTES = 50
_ASF_MOST_BYTES = 1 << 20  # of a header, or of a packet

_RIFF_UNKNOWN = (0, 0xFFFFFFFF)
_AVI_PARTS = {b"LIST", b"JUNK", b"idx1"}
_AVI_PICTURES = re.compile(rb"[0-9]{2}[a-z]{2}|ix[0-9]{2}")

_FLV_TAGS = (8, 9, 18)
_FLV_SIZE = b"\x00\x08filesize\x00"

_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = 0x21, 0x2C, 0x3B

_PROGRAM_END, _PACK = 0xB9, 0xBA


def is_cut_off(path: str | os.PathLike[str]) -> bool:
    """Whether a file is known to end too early, or to hold zeros where its last pictures belong, as a download that has
    reserved its space does. Raises OSError where it cannot be read."""
    with open_file(path) as stream:
        file = _File(stream)
        head = file.at(0, 16)
        return any(ends_early(file) for is_format, ends_early in _FORMATS if is_format(head))


class _File:
    """Parts of a file by their place."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = os.fstat(stream.fileno()).st_size

    def at(self, position: int, length: int) -> bytes:
        """Fewer bytes where the file ends."""
        self._stream.seek(position)
        return self._stream.read(length)

    def number(self, position: int, length: int) -> int:
        """A little-endian number."""
        return int.from_bytes(self.at(position, length), "little")


def _mp4(file: _File) -> bool:
    """MP4, MOV, 3GP, AVIF: a box of the format goes on behind the end. Another one, behind the video, is a trailer."""
    seen: set[bytes] = set()
    position = 0
    while position + 8 <= file.size:
        head = file.at(position, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if length < 8:  # 0: this box lasts to the end of the file
            return False
        if kind == b"sidx" and _indexed_end(file.at(position, length), position + length) > file.size:
            return True
        whole = seen & {b"moov", b"meta"} and seen & {b"mdat", b"moof"}
        if position + length > file.size:
            return kind in _MP4_PARTS or not whole
        seen.add(kind)
        position += length
    return False


def _indexed_end(index: bytes, anchor: int) -> int:
    """Where the last fragment ends that a segment index lists, whose offsets count from `anchor`."""
    start, offset = (40, index[28:36]) if index[8:9] == b"\x01" else (32, index[24:28])
    count = int.from_bytes(index[start - 2 : start], "big")
    sizes = [int.from_bytes(index[place : place + 4], "big") for place in range(start, start + 12 * count, 12)]
    return anchor + int.from_bytes(offset, "big") + sum(size & 0x7FFFFFFF for size in sizes)


def _matroska(file: _File) -> bool:
    """Matroska and WebM. What follows the segment is no part of it, where the segment says how long it is."""
    position = 0
    while (element := _element(file, position)) is not None:
        name, start, length = element
        if name == _SEGMENT:
            end = None if length is None else start + length
            return _segment(file, start, end) if end is None or end <= file.size else True
        if length is None:
            return False
        position = start + length
    return position > file.size


def _segment(file: _File, position: int, stated_end: int | None) -> bool:
    """The elements of a segment one after the other; those of clusters that do not say how long they are, too."""
    end = file.size if stated_end is None else stated_end
    last_cluster = (end, end)
    while position < end:
        element = _element(file, position)
        if element is None:  # zeros, or the beginning of an element
            return stated_end is not None and file.at(position, 1) == b"\0"
        name, start, length = element
        if start + (length or 0) > end:
            return stated_end is None and name in _MATROSKA_PARTS
        if stated_end is None and name not in _MATROSKA_PARTS:
            return False
        if name == _CLUSTER and length is not None:
            last_cluster = (start, start + length)
        position = start + (length or 0)
    position, end = last_cluster
    while position < end and (element := _element(file, position)) is not None:
        position = element[1] + (element[2] or 0)
    return position < end and file.at(position, 1) == b"\0"


def _element(file: _File, position: int) -> tuple[int, int, int | None] | None:
    """Name, place of the content, and its length: None where it is not stated. None where there is no element."""
    head = file.at(position, 12)
    name_bytes = _vint_bytes(head[:1])
    size_bytes = _vint_bytes(head[name_bytes : name_bytes + 1])
    if not 0 < name_bytes <= 4 or not size_bytes or len(head) < name_bytes + size_bytes:
        return None
    unknown = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big") & unknown
    start = position + name_bytes + size_bytes
    return int.from_bytes(head[:name_bytes], "big"), start, None if length == unknown else length


def _vint_bytes(first: bytes) -> int:
    """Length of an EBML number by its first byte: the position of the highest bit. 0 where there is none."""
    return 9 - first[0].bit_length() if first and first[0] else 0


def _asf(file: _File) -> bool:
    """ASF and WMV. A live stream states no lengths."""
    head = file.at(0, min(file.number(16, 8), _ASF_MOST_BYTES))
    properties = head.find(_ASF_PROPERTIES)
    flags, packet_bytes = struct.unpack_from("<II", head.ljust(properties + 96, b"\0"), properties + 88)
    live = properties < 0 or flags & 1
    position = 0
    while position + 24 <= file.size:
        name, length = file.at(position, 16), file.number(position + 16, 8)
        if name not in (_ASF, _ASF_DATA, *_ASF_INDICES) or length < 24:
            return False
        if name == _ASF_DATA and (live or length <= _ASF_DATA_HEADER_BYTES):
            return False
        position += length
        if position > file.size:
            return True
        if name == _ASF_DATA:
            packet_bytes = min(packet_bytes, length - _ASF_DATA_HEADER_BYTES, _ASF_MOST_BYTES)
            last_packet = file.at(position - packet_bytes, packet_bytes)
            if last_packet and not any(last_packet):
                return True
    return False


def _avi(file: _File) -> bool:
    """AVI, in which more than one RIFF may follow each other."""
    position, pictures, live = 0, (0, 0), False
    while position + 8 <= file.size:
        name, length = file.at(position, 4), file.number(position + 4, 4)
        unstated = name == b"LIST" and length in _RIFF_UNKNOWN
        if name == b"RIFF" or unstated:
            live |= unstated  # its pictures and their indices follow
            position += 12
            continue
        end = position + 8 + length
        if name not in _AVI_PARTS and not (live and _AVI_PICTURES.fullmatch(name)):
            break
        if end > file.size:
            return name != b"JUNK" or not pictures[1]  # padding
        if file.at(position + 8, 4) == b"movi":
            pictures = (position + 12, end)
        position = end + end % 2
    return _ends_in_zeros(file, *pictures)


def _ends_in_zeros(file: _File, position: int, end: int) -> bool:
    """Whether the last chunks of an AVI are missing, whose place is between the two."""
    if position == end or any(file.at(max(position, end - _BLOCK_BYTES), _BLOCK_BYTES)):
        return False
    while position + 8 <= end:
        name, length = file.at(position, 4), file.number(position + 4, 4)
        if not any(name):
            return True
        position += 12 if name == b"LIST" else 8 + length + length % 2
    return False


def _flv(file: _File) -> bool:
    """FLV: by the size that its first tag may state, else by its last tag."""
    head = file.at(0, 1 << 16)
    number = head.partition(_FLV_SIZE)[2][:8]
    stated = struct.unpack(">d", number)[0] if len(number) == 8 else 0.0
    if stated > file.size:
        return True
    position = int.from_bytes(head[5:9], "big") + 4
    while position < file.size:
        tag = file.at(position, 11)
        if tag[0] not in _FLV_TAGS or any(tag[8:]):  # the number of its stream is 0
            return position < stated
        position += 11 + int.from_bytes(tag[1:4], "big") + 4
    return position - 4 > file.size


def _gif(file: _File) -> bool:
    """GIF: its blocks lead to a trailer of one byte, which some writers of still pictures leave out."""
    data = file.at(0, file.size)
    position, pictures = 13 + _colours(data, 10), 0
    while position < len(data):
        kind = data[position]
        if kind == _GIF_IMAGE:
            pictures += 1
            position += 11 + _colours(data, position + 9)  # to the sub-blocks, past the size of codes
        elif kind == _GIF_EXTENSION:
            position += 2
        else:
            return kind != _GIF_TRAILER and not any(data[position:])
        while position < len(data) and data[position]:
            position += data[position] + 1
        position += 1
    return position > len(data) or pictures != 1 or b"NETSCAPE2.0" in data  # an animation says that it repeats


def _colours(data: bytes, place: int) -> int:
    """Bytes of the colour table that the flags at `place` announce."""
    flags = data[place] if place < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _ogg(file: _File) -> bool:
    """Ogg: its last page goes on behind the end."""
    start = max(0, file.size - _TAIL_BYTES)
    tail = file.at(start, _TAIL_BYTES)
    position = tail.find(b"OggS")
    while tail.startswith(b"OggS", position):
        count = sum(tail[position + 26 : position + 27])
        position += 27 + count + sum(tail[position + 27 : position + 27 + count])
    return position > len(tail)


def _program_stream(file: _File) -> bool:
    """MPEG program stream (MPG, VOB): its last packet goes on behind the end."""
    tail = file.at(max(0, file.size - _TAIL_BYTES), _TAIL_BYTES)
    position = tail.find(b"\0\0\1\xba")
    while position + 3 < len(tail) and tail.startswith(b"\0\0\1", position):
        name, rest = tail[position + 3], tail[position + 4 : position + 14]
        if name == _PROGRAM_END:
            return False
        if name < _PACK:  # not of the system's layer
            position = tail.find(b"\0\0\1\xba", position)
        elif name == _PACK:  # that of MPEG-2 says how much padding follows
            position += 12 if rest[:1] < b"\x40" else 14 + (rest[9] & 7 if len(rest) > 9 else 0)
        else:
            position += 6 + int.from_bytes(rest[:2], "big")
    return position > len(tail)


def _jpeg(file: _File) -> bool:
    """JPEG, or several one after the other (Motion JPEG): the last has no end mark."""
    data = file.at(0, file.size)
    return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xd8\xff")


def _png(file: _File) -> bool:
    """PNG and APNG: its chunks lead to IEND."""
    position, name = 8, b""
    while position + 8 <= file.size and name != b"IEND":
        head = file.at(position, 8)
        name = head[4:]
        position += 12 + int.from_bytes(head[:4], "big")
    return name != b"IEND" or position > file.size


def _webp(file: _File) -> bool:
    length = file.number(4, 4)
    return 8 + length > file.size


_FORMATS: list[tuple[Callable[[bytes], bool], Callable[[_File], bool]]] = [
    (lambda head: head[4:8] in _MP4_FIRST, _mp4),
    (lambda head: head.startswith(_EBML), _matroska),
    (lambda head: head.startswith(_ASF), _asf),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"AVI ", _avi),
    (lambda head: head.startswith(b"FLV"), _flv),
    (lambda head: head.startswith((b"GIF87a", b"GIF89a")), _gif),
    (lambda head: head.startswith(b"OggS"), _ogg),
    (lambda head: head.startswith(b"\0\0\1\xba"), _program_stream),
    (lambda head: head.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda head: head.startswith(b"\x89PNG"), _png),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", _webp),
]
