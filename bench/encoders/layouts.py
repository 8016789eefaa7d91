"""Checkpoint layouts: where the encoder is in a file, under which names, and what follows from its tensors' shapes.

Layouts: protocol.md 2.1 and 2.2; files of this project's pretraining have the official one, and under one more key,
`bench`, what shapes do not tell (in safetensors files: JSON text of that name in the metadata). Whatever is missing,
unexpected or misshapen is an error that names it.

A file is taken as a flat list of tensors: keys of nested dictionaries and the parts of names are one path, from which
the parts that wrappers add are left out. An encoder is wherever `patch_embed.proj.weight` is: under a key, below
others, or under a prefix of its tensors' names.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import Tensor

from bench.cards.fields import Million
from bench.core.errors import BenchError
from bench.core.tensors import WRAPPERS, listing, read_tensors, weights, word
from bench.encoders import vjepa
from bench.encoders.contract import InputSpec

OWN_KEY = "bench"
"""Where files of this project's pretraining say what they hold; the schema is OwnFacts."""

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


def _encoder_fields() -> type[BaseModel]:
    """A strict schema of VitConfig: every number a whole one and at least 1. Fields with defaults may be absent, so
    that files stay readable when VitConfig grows."""
    hints = get_type_hints(vjepa.VitConfig)
    fields: dict[str, Any] = {
        f.name: (
            Annotated[int, Field(ge=1)] if hints[f.name] is int else hints[f.name],
            ... if f.default is dataclasses.MISSING else f.default,
        )
        for f in dataclasses.fields(vjepa.VitConfig)
    }
    return create_model("EncoderFields", __config__=_STRICT, **fields)


class InputFacts(BaseModel):
    """The clips that an encoder was trained on, as far as its architecture does not say."""

    model_config = _STRICT
    frame_step: Million
    """Frames of the source video between two frames of a clip."""


class OwnFacts(BaseModel):
    """The entry `bench` of a file that this project's pretraining wrote. What else it holds concerns training alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    version: Literal[1]
    encoder: _encoder_fields()  # type: ignore[valid-type]
    input: InputFacts
    objective: str
    preset: str | None = None
    head: Any = None
    """What sat on the encoder in training; pretraining checks it whole."""

    @property
    def config(self) -> vjepa.VitConfig:
        """The encoder's architecture as the file states it."""
        return vjepa.VitConfig(**self.encoder.model_dump())

    @property
    def predictor_depth(self) -> int | None:
        """Blocks of the predictor as the file states them; none where it states no predictor."""
        head = self.head if isinstance(self.head, dict) and self.head.get("kind") == "predictor" else {}
        depth = head.get("depth")
        return depth if isinstance(depth, int) else None


def read_own_facts(path: Path, content: dict[str, Any]) -> OwnFacts | None:
    """What a file of this project's pretraining says of itself, taken out of `content`; None for other files."""
    stated = content.pop(OWN_KEY, None)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(OWN_KEY, "null")
        try:
            stated = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise bad_own_facts(path, f"{OWN_KEY}: the metadata is not JSON") from error
    if stated is None:
        return None
    try:
        return OwnFacts.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:40] for part in (OWN_KEY, *first["loc"]))
        raise bad_own_facts(path, f"{field}: {first['msg']}") from error


def bad_own_facts(path: Path, what: str) -> BenchError:
    """The error of a file whose entry `bench` cannot be believed."""
    fix = "the file is damaged, not written by bench, or written by a newer version of it"
    return BenchError(what, where=str(path), fix=fix)


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
    """Its key in the innermost dictionary."""
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


_LARGEST_FACT = 10**15
_ROLES = frozenset({*ENCODER_KEYS, "predictor"})


@dataclass(frozen=True)
class Checkpoint:
    """The encoder's tensors of a file, under their plain names, and what else the file said."""

    path: Path
    key: str
    """Where the encoder was, keys and parts of names joined by dots; empty where the file is a bare state dict."""
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    """Epoch, batch size and the like, as far as the file holds them."""
    predictor: dict[str, Tensor]
    own: OwnFacts | None = None
    """What a file of this project's pretraining says of itself."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the file calls a tensor, by our name for it, where the two differ."""
    has_empty_predictor: bool = False
    """Whether this is the whole state of a training run, encoder and average, whose predictor was emptied."""

    @property
    def prefix(self) -> str:
        """What stands before the names of the encoder's tensors in the file."""
        name = self.names.get(PATCHES, PATCHES)
        return word(name[: name.rfind("patch_embed")])

    @property
    def title(self) -> str:
        """The encoder's place in the file, for a reader."""
        prefix = f", prefix '{self.prefix}'" if self.prefix else ""
        return f"state_dict under '{word(self.key)}'{prefix}" if self.key else f"bare state_dict{prefix}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of the encoder's tensors."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def frame_step(self) -> int:
        """Frames of the source video between two frames of a clip; that of the official files where not stated."""
        return self.own.input.frame_step if self.own else InputSpec.frame_step

    @property
    def predictor_depth(self) -> int:
        """Blocks of the predictor in the file, 0 without one."""
        return count_blocks(self.predictor, "predictor_blocks")

    @property
    def is_action_conditioned(self) -> bool:
        """Whether this is V-JEPA 2-AC: its predictor takes actions, `encoder` is the frozen one (protocol.md 2.2)."""
        return "action_encoder.weight" in self.predictor


def read_checkpoint(path: Path, *, key: str | None = None) -> Checkpoint:
    """Read a `.pth.tar`, `.pt` or `.safetensors` file and pick the encoder's tensors.

    Raises BenchError where there is no encoder, or several and neither `key` nor their names tell which to read.
    """
    content = read_tensors(path)
    own = read_own_facts(path, content)
    entries = entries_of(content, path)
    home = find_home(entries, content, key, path)
    tensors, names = _under(home, entries, path)
    predictor, _ = _under((*home[:-1], "predictor"), entries, path)
    facts = {k: content[k] for k in ("epoch", "loss", "batch_size", "world_size", "lr") if _is_number(content.get(k))}
    return Checkpoint(
        path=path,
        key=".".join(home),
        tensors=tensors,
        facts=facts,
        predictor=predictor,
        own=own,
        names=names,
        has_empty_predictor=_has_empty_predictor(content),
    )


def _under(home: Home, entries: Sequence[Entry], path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of one place in a file by their plain names, and the names that the file gives them.

    Entries with a role of their own beside an encoder without a place are not its tensors.
    """
    depth = len(home)
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for entry in entries:
        if entry.parts[:depth] != home or len(entry.parts) == depth or entry.parts[depth] in _ROLES:
            continue
        tensor = weights(entry.name, entry.value, path)
        short = ".".join(entry.parts[depth:])
        if short in tensors:
            known = names.get(short, short)
            raise BenchError(f"two tensors are called '{short}': '{known}' and '{entry.name}'", where=str(path))
        tensors[short] = tensor
        if short != entry.name:
            names[short] = entry.name
    return tensors, names


def _has_empty_predictor(content: Mapping[str, Any]) -> bool:
    encoder, average = content.get("encoder"), content.get("target_encoder")
    if not isinstance(encoder, Mapping) or not isinstance(average, Mapping) or content.get("predictor") != {}:
        return False
    return encoder.keys() == average.keys()


def tensor_sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Any]:
    """The fields of VitConfig that follow from the shapes of the tensors (protocol.md 2.2)."""
    patches = shape_of(shapes, PATCHES, 5, where)
    return {
        "embed_dim": patches[0],
        "tubelet_size": patches[2],
        "patch_size": patches[3],
        "depth": count_blocks(shapes, "blocks"),
        "mlp_dim": shape_of(shapes, "blocks.0.mlp.fc1.weight", 2, where)[0],
    }


def count_blocks(names: Iterable[str], prefix: str) -> int:
    """How many blocks there are among tensors called `prefix.NUMBER.…`.

    Counted, not read off the highest number: one made-up name must not ask for a billion blocks.
    """
    return len({m.group(1) for m in (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names) if m})


def shape_of(shapes: Mapping[str, tuple[int, ...]], name: str, ndim: int, where: str) -> tuple[int, ...]:
    """The shape of a tensor that every encoder has. Raises BenchError where it is missing or of other dimensions."""
    shape = shapes.get(name)
    if shape is None or len(shape) != ndim:
        raise BenchError(
            f"tensor '{name}' is missing (present: {listing(shapes)})"
            if shape is None
            else f"tensor '{name}' has shape {list(shape)}, expected {ndim} dimensions",
            where=where,
            fix="give a V-JEPA video encoder checkpoint",
        )
    return shape


def check_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    where: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """Raise BenchError naming every tensor that is missing, unexpected or of another shape, as `names` call them."""
    called = names or {}
    missing = [f"'{n}' is missing" for n in sorted(set(expected) - set(shapes))]
    unexpected = [f"'{called.get(n, n)}' is unexpected" for n in sorted(set(shapes) - set(expected))]
    misshapen = [
        f"'{n}' has shape {list(shape)} instead of {list(expected[n])}"
        for n, shape in sorted(shapes.items())
        if n in expected and shape != expected[n]
    ]
    # Some of each: a wrapper that is not known makes all names both missing and unexpected.
    problems = [*missing[:2], *unexpected[:2], *misshapen[:2]]
    if problems:
        num_more = len(missing) + len(unexpected) + len(misshapen) - len(problems)
        more = f" and {num_more} more" if num_more else ""
        raise BenchError(
            f"the tensors do not make a V-JEPA encoder: {', '.join(problems)}{more}",
            where=where,
            fix="the file is of another architecture or damaged",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_FACT
