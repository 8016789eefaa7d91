"""`bench fetch`: names -> the weights they stand for, each downloaded from where its authors offer it.

A weights file is downloaded, checked, and only then given its name. The authors publish no digests. So the SHA-256 of
the first download is noted beside the file, as `sha256sum` writes it, and what is there later is held to it; a digest
in the card goes before it. Weights from Hugging Face go into its own cache, where every program that knows it finds
them: huggingface_hub resumes, retries, locks, and names weights by the digest that Hugging Face states.
"""

from __future__ import annotations

import glob
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from bench.core.errors import BenchError, nearest
from bench.core.files import atomic_write, writable_folder
from bench.core.hashing import file_digest
from bench.core.inputs import CACHED, read_bytes
from bench.core.progress import Reporter
from bench.encoders.catalog import ModelCard, model_cards
from bench.encoders.download import Wanted, discard, download, report_bytes

_MADE = ("random", "pixels")
"""Kinds of encoder that have no weights to read."""
_PARAMETERS_TOLERANCE = 0.05
"""Share of the card's rounded number; neighbouring sizes of a family differ by more than half."""
_FILES = ["*.json", "*.safetensors"]
"""Configurations and weights as data; no pickles, no code."""


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


def fetch(
    names: Sequence[str], reporter: Reporter, *, check: bool = False, wait: Callable[[float], None] = time.sleep
) -> list[Fetched]:
    """Download what is not here of the encoders that `names` stand for, and check what is.

    A name is one of the catalog, a wildcard, or a Hugging Face repository, hf:OWNER/NAME. With `check` nothing is
    downloaded or written, and a name without wildcards must be here. Every name is tried; raises BenchError where one
    fails. `wait` pauses for a number of seconds between attempts.
    """
    results: list[Fetched] = []
    problems: list[BenchError] = []
    for name in _chosen(names):
        try:
            result = _fetch(name, reporter, check, wait)
            if result.state == "not here" and name in names:
                raise BenchError("the weights are not here", where=result.path or name, fix=f"run `bench fetch {name}`")
            results.append(result)
        except BenchError as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        for each in problems:
            reporter.say(str(each))
        tried = len(problems) + len(results)
        raise BenchError(f"{len(problems)} of {tried} names failed", where="bench fetch", fix="see the lines above")
    return results


def _chosen(names: Sequence[str]) -> list[str]:
    """The names, each once, with wildcards replaced by what they match. Raises BenchError for what no card has."""
    cards = model_cards()
    known = {card.name for card in cards} | {card.hf for card in cards if card.hf}
    chosen: list[str] = []
    for name in names:
        if glob.has_magic(name):
            found = [card.name for card in model_cards(name)]
        else:
            found = [name] if name in known or name.partition(":")[0] in (*_MADE, "hf") else []
        if not found:
            raise BenchError(f"no encoder is called '{name}'", where="bench fetch", fix=nearest(name, known))
        chosen += found
    return list(dict.fromkeys(chosen))


def _fetch(name: str, reporter: Reporter, check: bool, wait: Callable[[float], None]) -> Fetched:
    card = next((card for card in model_cards() if card.name == name), None)
    licence = card.licence if card else None
    if name.partition(":")[0] in _MADE or (card and card.is_built_in):
        return Fetched(name=name, state="nothing to fetch", licence=licence)
    if card and (card.url or not card.hf):
        return fetch_file(card, reporter, check=check, wait=wait)
    repository = card.hf if card and card.hf else name.removeprefix("hf:")
    return fetch_folder(name, repository, check=check, licence=licence)


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
    checking = partial(report_bytes, reporter, f"checking {card.name}", total=size_bytes)
    digest, noted = file_digest(file, checking), _noted_digest(wanted)
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


def fetch_folder(name: str, repository: str, *, check: bool, licence: str | None = None) -> Fetched:
    """The folder of a repository (OWNER/NAME): downloaded as far as it is not here, and its weights compared with their
    digests. `name` is what the user calls it.

    With `check` nothing is downloaded. No credentials are sent. Raises BenchError where it cannot be had.
    """
    here = _folder(name, repository, only_local=True)
    before = _digests(here) if here else {}
    folder = here if check else _folder(name, repository, only_local=False)
    url = f"https://huggingface.co/{repository}"
    if folder is None:
        return Fetched(name=name, state="not here", licence=licence, url=url)
    after = _digests(folder)
    weights = [file for file in after if file.suffix == ".safetensors"]
    if not weights:
        raise BenchError("no safetensors in this repository", where=url, fix="only weights as data are fetched")
    for file in weights:
        stated = after[file]
        if stated and file_digest(file) != stated:
            blob = str(file.resolve())
            raise BenchError("not the digest that Hugging Face states", where=blob, fix="delete it and fetch again")
    return Fetched(
        name=name,
        state="already here" if after == before else "fetched",
        licence=licence,
        url=url,
        path=str(folder),
        size_bytes=sum(file.stat().st_size for file in after),
        agrees_with="Hugging Face" if all(after[file] for file in weights) else None,
    )


def _folder(name: str, repository: str, *, only_local: bool) -> Path | None:
    """Where the repository's files are; None where they are not here and only those are asked for."""
    # Its usage statistics are no part of a download.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    url = f"https://huggingface.co/{repository}"
    try:
        return Path(snapshot_download(repository, allow_patterns=_FILES, token=False, local_files_only=only_local))
    except LocalEntryNotFoundError as error:
        if only_local:
            return None
        reason = (str(error.__cause__ or "").strip().splitlines() or ["no connection"])[0]
        raise BenchError(
            f"cannot be fetched: {reason}",
            where=url,
            fix=f"elsewhere run `hf download {repository}`, bring the folder here, and give its path as the model",
        ) from error
    except RepositoryNotFoundError as error:
        raise BenchError("no such repository, or not a public one", where=url, fix="check the spelling") from error
    except HFValidationError as error:
        raise BenchError(f"'{repository}' is no repository name", where=name, fix="give hf:OWNER/NAME") from error


def _digests(folder: Path) -> dict[Path, str | None]:
    """The files of a folder of the cache, each with the digest it is filed under; None where that is none."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file: _hex_name(file.resolve().name) for file in files}


def _hex_name(name: str) -> str | None:
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None
