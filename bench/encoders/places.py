"""Where in a file the encoder is: under a key, below others, or under a prefix of its tensors' names.

A file is taken as a flat list of tensors: keys of nested dictionaries and the parts of names are one path, from which
the parts that wrappers add are left out (`reading.WRAPPERS`). An encoder is wherever `patch_embed.proj.weight` is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.core.errors import BenchError
from bench.core.tensors import WRAPPERS, listing

ENCODER_KEYS = ("ema_encoder", "target_encoder", "encoder")
"""Where the weights are in an official file; the first that is present is read: the moving average of the encoder. In
the distilled V-JEPA 2.1 files that is `ema_encoder`, in all others `target_encoder` (protocol.md 1.4, 2.2)."""
PATCHES = "patch_embed.proj.weight"
"""The tensor that every encoder has."""
_PATCHES_PARTS = tuple(PATCHES.split("."))
_HUGGING_FACE_NAME = "encoder.embeddings.patch_embeddings.proj.weight"
_DEEPEST = 4
_MOST_ENTRIES = 1_000_000

Home = tuple[str, ...]
"""The path of an encoder's tensors: empty in a bare state dict."""


@dataclass(frozen=True)
class Entry:
    """A value in a file."""

    parts: tuple[Any, ...]
    """Its path without the parts of wrappers; the last may be no text."""
    name: Any
    """As it is called in the innermost dictionary."""
    value: Any


def entries_of(content: Mapping[Any, Any], path: Path) -> list[Entry]:
    """The values of a file and of the dictionaries in it. Raises BenchError where there are more than any model has."""
    entries: list[Entry] = []
    for entry in _walk(content, (), 1):
        entries.append(entry)
        if len(entries) > _MOST_ENTRIES:
            raise BenchError(f"holds more than {_MOST_ENTRIES} values", where=str(path), fix="give a checkpoint")
    return entries


def _walk(content: Mapping[Any, Any], lead: tuple[str, ...], depth: int) -> Iterator[Entry]:
    for key, value in content.items():
        parts = tuple(part for part in key.split(".") if part not in WRAPPERS) if isinstance(key, str) else (key,)
        if not isinstance(value, Mapping):
            yield Entry((*lead, *parts), key, value)
        elif isinstance(key, str) and depth < _DEEPEST:  # numbers are keys of an optimiser's state
            yield from _walk(value, (*lead, *parts), depth + 1)


def find_home(entries: Sequence[Entry], content: Mapping[Any, Any], key: str | None, path: Path) -> Home:
    """The place of the encoder that is to be read: under `key`, or the only one, or the average where there are more.

    Raises BenchError that shows the names in the file where there is none, or nothing tells which of several.
    """
    length = len(_PATCHES_PARTS)
    homes = dict.fromkeys(e.parts[:-length] for e in entries if e.parts[-length:] == _PATCHES_PARTS)
    wanted = [tuple(part for part in key.split(".") if part not in WRAPPERS)] if key else [(k,) for k in ENCODER_KEYS]
    for ending in wanted:
        found = [home for home in homes if home[len(home) - len(ending) :] == ending]
        # An encoder beside others that are not known may be any of them; the average is the one to read in any case.
        if len(found) == 1 and (key or ending != ("encoder",) or len(homes) == 1):
            return found[0]
        if found:
            raise _several(found if len(found) > 1 else list(homes), path)
    if len(homes) > 1 and not key:
        raise _several(list(homes), path)
    if len(homes) == 1 and not key:
        return next(iter(homes))
    raise _no_encoder(entries, content, [".".join(ending) for ending in wanted], path)


def _several(homes: Sequence[Home], path: Path) -> BenchError:
    names = [".".join(home) or "(without a key)" for home in homes]
    shown = ", ".join(f"'{name}'" for name in names[:6])
    fix = f"say which: --set encoder.key={next((name for name in names if name[0] != '('), names[0])}"
    return BenchError(
        f"holds {len(names)} encoders ({shown}), and nothing tells which to read", where=str(path), fix=fix
    )


def _no_encoder(entries: Sequence[Entry], content: Mapping[Any, Any], wanted: Sequence[str], path: Path) -> BenchError:
    where, fix = str(path), "give a V-JEPA video encoder checkpoint"
    tensors = {
        str(e.name): ".".join(map(str, e.parts))
        for e in entries
        if isinstance(e.name, str) and isinstance(e.value, Tensor)
    }
    if any(name.endswith(_HUGGING_FACE_NAME) for name in tensors.values()):
        fix = "give the folder that holds the file and its config.json"
        return BenchError("the tensors have Hugging Face names", where=where, fix=fix)
    under = [name for key in wanted for name in tensors if f".{key}." in f".{tensors[name]}"]
    bare = any(isinstance(value, Tensor) for value in content.values())
    if under or (bare and len(wanted) > 1):
        names = dict.fromkeys(under or tensors)
        what = f"tensor '{PATCHES}' is missing (the file's names: {listing(names)})"
        return BenchError(what, where=where, fix=fix)
    what = f"no encoder under the key {' or '.join(wanted)} (the file's keys: {listing(content)})"
    return BenchError(what, where=where, fix="give a V-JEPA pretraining checkpoint, not a probe or an optimiser file")
