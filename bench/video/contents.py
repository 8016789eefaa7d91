"""Content ids: the SHA-256 of a video's or image's bytes, or of the names and bytes of a folder's frames.

Where a name gives a file to another reader than is usual for its content, that reader is a part of the id: the same
bytes as .jpg and as .mjpg have other pixels. A few files have a suffix, as their pixels are not what they were when
others got their ids (bench.video.contents).

They are remembered with the states of the files (bench.video.states), which say of which files they still hold.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bench.core.hashing import file_digest
from bench.core.memo import Memo
from bench.video.endings import is_cut_off
from bench.video.image_frames import frame_files, reader_of, unusual_reader
from bench.video.states import remember, remembered, sampled, state_of

SUFFIX = "-plain"
"""Ends the ids of files whose frames are now those of a plain decode, mirrors included, and were not before."""

_PROGRAM_STREAM = b"\x00\x00\x01\xba"
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_MP4 = re.compile(rb"....(ftyp|moov|mdat|wide|free|skip)", re.DOTALL)
_TRACK_HEADER = re.compile(rb"tkhd([\x00\x01])")
_MATRIX_AFTER = {b"\x00": 40, b"\x01": 52}
"""Bytes between the version of a track header and its display matrix."""
_REFRESHED = b"intra_refresh=1"
"""What x264 notes of its settings in a stream without key frames."""


def suffix_of(path: Path) -> str:
    """What the content id of a file ends with. Raises OSError where the file cannot be read.

    A content id stands for the pixels of a file. Where a reader comes to give other pixels of the same bytes, the ids
    of these files must change, and those of all others stay. Signs in the bytes tell them; a file that has a sign
    without need is encoded once more, and no harm is done.
    """
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


_ID_DIGITS = 32
_ID = re.compile(f"[0-9a-f]{{{_ID_DIGITS}}}(-[a-z]+)*")

CHANGED = "it was changed while it was read: run the same command again"
"""Why a sample has no features that were encoded of one content, and would be kept under the id of another."""

Progress = Callable[[int, int], None]


def content_ids(cache: Path, paths: Sequence[str], progress: Progress | None = None) -> dict[str, str]:
    """The content id of every readable file or folder of frames among `paths`; one that cannot be read, or is known to
    be cut off, has none.

    Files are hashed once; later calls read the memory in `cache`, which is derived and may be deleted at any time.
    """
    distinct = list(dict.fromkeys(paths))
    with Memo(cache / "contents.sqlite") as memo:
        ids = {path: str(kept) for path, _, kept in remembered(memo, distinct) if _ID.fullmatch(str(kept))}
        for done, path in enumerate(distinct):
            if path in ids:
                continue
            try:
                state = state_of(path)
                if not state.files or _is_cut_off(path):
                    continue
                ids[path] = content_id(path)
                remember(memo, path, sampled(path, state), ids[path])
            except OSError:
                continue  # the decoder names the reason when it comes to this file
            if progress:
                progress(done + 1, len(paths))
    return {path: ids[path] for path in distinct if path in ids}


def content_id(path: str) -> str:
    """32 hex digits of the SHA-256 of a file's bytes, or of the names and bytes of a folder's frames in order; then the
    reader of a file, where it is not the usual one for its content, and the suffix of a video that is read otherwise
    than it was. Raises OSError."""
    if not Path(path).is_dir():
        reader = unusual_reader(path)
        suffix = suffix_of(Path(path)) if reader_of(path) == "video" else ""
        return file_digest(Path(path))[:_ID_DIGITS] + (f"-{reader}" if reader else "") + suffix
    digest = hashlib.sha256()
    for frame in frame_files(path):
        digest.update(f"{frame.name}/{file_digest(Path(frame.path))}/".encode(errors="surrogateescape"))
    return digest.hexdigest()[:_ID_DIGITS]


def changed_since(cache: Path, contents: Mapping[str, str], paths: Iterable[str]) -> set[str]:
    """Those of the paths that hold another content by now than `contents` says, and may have been read as such."""
    asked = list(paths)
    now = content_ids(cache, asked)
    return {path for path in asked if now.get(path) != contents.get(path)}


def bytes_of(content_id: str) -> str:
    """The part of a content id that all files of the same bytes share, whoever reads them."""
    return content_id[:_ID_DIGITS]


def _is_cut_off(path: str) -> bool:
    """Pillow itself refuses a still image whose pixels are not all there."""
    return reader_of(path) in ("video", "animation") and is_cut_off(path)
