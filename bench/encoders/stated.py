"""What a user states of an encoder where its file leaves more than one reading: `--set encoder.KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.core.errors import BenchError, nearest
from bench.encoders.vjepa import Family

FAMILY_WORDS: dict[str, Family] = {"vjepa1": "V-JEPA", "vjepa2": "V-JEPA 2", "vjepa2.1": "V-JEPA 2.1"}
"""Families as a user states them."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What is stated of a file's encoder; None for what the file is to tell."""

    family: Family | None = None
    num_heads: int | None = None
    """Attention heads of the encoder."""
    key: str | None = None
    """Where the encoder is in the file, such as `encoder`; parts of a path are separated by dots."""

    @property
    def names(self) -> list[str]:
        """The settings that were given."""
        return [f"encoder.{name}" for name, value in vars(self).items() if value is not None]


NOTHING = Stated()


def read_stated(given: Mapping[str, Any]) -> Stated:
    """What `given` states by the names of the fields; None counts as not given.

    Raises BenchError for another name, a family that is not known, heads that are no number, a key that is no text.
    """
    known = Stated.__dataclass_fields__
    values = {name: value for name, value in given.items() if value is not None}
    for name in values:
        if name not in known:
            raise BenchError(f"no setting 'encoder.{name}'", where="--set", fix=nearest(name, known))
    family, num_heads, key = (values.get(name) for name in ("family", "num_heads", "key"))
    if family is not None and (not isinstance(family, str) or family not in FAMILY_WORDS):
        raise _bad("family", family, nearest(str(family), FAMILY_WORDS))
    if num_heads is not None and (not isinstance(num_heads, int) or isinstance(num_heads, bool) or num_heads < 1):
        raise _bad("num_heads", num_heads, "give a whole number, 1 or more")
    if key is not None and (not isinstance(key, str) or not key):
        raise _bad("key", key, "give the name of an entry of the file, such as encoder")
    return Stated(family=None if family is None else FAMILY_WORDS[family], num_heads=num_heads, key=key)


def stated_settings(settings: Mapping[str, Any], *, only: bool = False) -> Stated:
    """What the settings `encoder.KEY` state; others are passed over, or with `only` a BenchError."""
    sections = {key: key.partition(".") for key in settings}
    for key, (section, _, _) in sections.items():
        if only and section != "encoder":
            raise BenchError(f"unknown setting '{key}'", where="--set", fix="settings here begin with encoder.")
    return read_stated({name: settings[key] for key, (section, _, name) in sections.items() if section == "encoder"})


def title(family: Family) -> str:
    """The name of a family as people say it: the first has a number too."""
    return "V-JEPA 1" if family == "V-JEPA" else family


def _bad(name: str, value: object, fix: str) -> BenchError:
    return BenchError(f"encoder.{name} cannot be {value!r}", where="--set", fix=fix)
