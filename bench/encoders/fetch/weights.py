"""The official weights file of one encoder: downloaded, checked, and only then given its name.

The authors publish no digests. So the SHA-256 of the first download is noted beside the file, as `sha256sum` writes it,
and what is there later is held to it; a digest in the card goes before it.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.core.errors import BenchError
from bench.core.files import atomic_write, writable_folder
from bench.core.inputs import CACHED, read_bytes
from bench.core.progress import Reporter
from bench.encoders.catalog import ModelCard
from bench.encoders.fetch.download import Wanted, discard, download, report_bytes

_BLOCK_BYTES = 1 << 22
_PARAMETERS_TOLERANCE = 0.05
"""Of the card's rounded number; neighbouring sizes of a family differ by more than half."""


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What became of one name."""

    name: str
    state: Literal["fetched", "already here", "not here", "nothing to fetch"]
    licence: str | None = None
    url: str | None = None
    path: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    agrees_with: Literal["the card", "the first download", "Hugging Face"] | None = None
    """Whose digest the file has; none where no other was known."""


def fetch_file(card: ModelCard, reporter: Reporter, *, check: bool, wait: Callable[[float], None]) -> Fetched:
    """Download the weights of a card that has a `url` if they are not here, and check them.

    With `check` nothing is downloaded or written. Raises BenchError where they cannot be had or are not the right ones.
    """
    wanted = _wanted(card)
    if check:
        if not wanted.path.is_file():
            return Fetched(name=card.name, state="not here", licence=card.licence, url=card.url, path=str(wanted.path))
        return _checked(card, wanted, reporter)
    writable_folder(wanted.path.parent, option="BENCH_CACHE")
    with _alone(wanted, reporter):
        if wanted.path.is_file():
            result = _checked(card, wanted, reporter)
        else:
            reporter.say(f"{card.name}: {card.url}, licence {card.licence}")
            download(wanted, reporter, wait)
            result = _named(card, wanted, reporter)
        if not result.agrees_with:
            _note_digest(wanted, result.sha256 or "")
            reporter.say(
                f"{card.name}: no digest of its authors is known; the SHA-256 of this file is noted in "
                f"{_digest_note(wanted)}, and compared from now on"
            )
    return result


def check_weights(card: ModelCard, file: Path) -> None:
    """Raise BenchError where a file is not a whole, readable checkpoint of the encoder that the card describes.

    Checkpoints in a zip archive, as PyTorch writes them, have a checksum for each tensor: they are compared.
    """
    from bench.encoders.checkpoints import describe_checkpoint, read_checkpoint

    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged:
            raise BenchError(f"damaged: '{damaged}' in it does not have its checksum")
    config = describe_checkpoint(file, card).config
    tensors = read_checkpoint(file, key=card.key).tensors
    millions = sum(tensor.numel() for name, tensor in tensors.items() if name != "pos_embed") / 1e6
    same_size = abs(millions - card.parameters_m) <= _PARAMETERS_TOLERANCE * card.parameters_m
    if not same_size or (config.num_frames, config.resolution) != (card.num_frames, card.resolution):
        raise BenchError(
            f"another encoder: {millions:.1f} M parameters for {config.num_frames}x{config.resolution}px instead of "
            f"{card.parameters_m:g} M for {card.num_frames}x{card.resolution}px"
        )


def _wanted(card: ModelCard) -> Wanted:
    if not card.url or not card.weights_path:
        raise BenchError(f"{card.name} is a part of the package, and missing", fix="install vjepa-bench again")
    return Wanted(name=card.name, url=card.url, path=card.weights_path, size_bytes=card.size_bytes, sha256=card.sha256)


@contextmanager
def _alone(wanted: Wanted, reporter: Reporter) -> Iterator[None]:
    """Nobody else writes the file meanwhile. The lock's own file stays: deleting it would let in two."""
    from filelock import FileLock, Timeout

    wanted.part.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(wanted.part.with_name(f"{wanted.part.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.say(f"{wanted.name}: is being fetched by another process; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _checked(card: ModelCard, wanted: Wanted, reporter: Reporter) -> Fetched:
    """The file that is here, where it is right."""
    try:
        return _verified(card, wanted, wanted.path, reporter)
    except BenchError as problem:
        raise BenchError(
            problem.what, where=str(wanted.path), fix=f"move it away and run `bench fetch {card.name}`"
        ) from problem


def _named(card: ModelCard, wanted: Wanted, reporter: Reporter) -> Fetched:
    """The file that has come, where it is right, under its name."""
    try:
        result = _verified(card, wanted, wanted.part, reporter)
    except BenchError as problem:
        discard(wanted)
        note = _digest_note(wanted)
        replaced = f"; if its authors have replaced it, delete {note}" if note.exists() else ""
        raise BenchError(
            f"not the right file, nothing is kept: {problem.what}",
            where=wanted.where,
            fix=f"try again later or on another network{replaced}",
        ) from problem
    with wanted.part.open("rb") as file:
        os.fsync(file.fileno())
    wanted.part.replace(wanted.path)
    discard(wanted)
    return result


def _verified(card: ModelCard, wanted: Wanted, file: Path, reporter: Reporter) -> Fetched:
    """What is said of `file`. Raises BenchError where size, digest or content are not those of the card."""
    size_bytes = file.stat().st_size
    if card.size_bytes and size_bytes != card.size_bytes:
        raise BenchError(f"{size_bytes:,} bytes instead of {card.size_bytes:,}")
    digest, noted = _digest(file, card.name, reporter), _noted_digest(wanted)
    known = card.sha256 or noted
    if known and digest != known:
        whose = "as the card says" if card.sha256 else "as of the first download"
        raise BenchError(f"its SHA-256 is {digest} instead of {known} {whose}")
    check_weights(card, file)
    return Fetched(
        name=card.name,
        state="already here" if file == wanted.path else "fetched",
        licence=card.licence,
        url=card.url,
        path=str(wanted.path),
        size_bytes=size_bytes,
        sha256=digest,
        agrees_with="the card" if card.sha256 else "the first download" if noted else None,
    )


def _digest(file: Path, name: str, reporter: Reporter) -> str:
    digest, done, size_bytes = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            report_bytes(reporter, f"checking {name}", done, size_bytes)
    return digest.hexdigest()


def _digest_note(wanted: Wanted) -> Path:
    return wanted.path.with_name(f"{wanted.path.name}.sha256")


def _note_digest(wanted: Wanted, digest: str) -> None:
    with atomic_write(_digest_note(wanted)) as temporary:
        temporary.write_text(f"{digest}  {wanted.path.name}\n", encoding="utf-8")


def _noted_digest(wanted: Wanted) -> str | None:
    """The SHA-256 of the first download; None where none is noted."""
    note = _digest_note(wanted)
    if not note.is_file():
        return None
    found = re.match(r"[0-9a-f]{64}\b", read_bytes(note, CACHED).decode(errors="replace"))
    if not found:
        raise BenchError(f"{note.name} beside it holds no SHA-256, delete that file")
    return found.group()
