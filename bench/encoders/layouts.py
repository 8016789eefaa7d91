"""Checkpoint layouts: where the encoder is in a file, under which names, and what its tensors' shapes tell.

Layouts: protocol.md 2.1 and 2.2. Whatever is missing, unexpected or misshapen is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.core.errors import BenchError
from bench.core.tensors import listing, read_tensors, weights, word
from bench.encoders.contract import InputSpec
from bench.encoders.own_facts import OwnFacts, read_own_facts
from bench.encoders.places import ENCODER_KEYS, PATCHES, Entry, Home, entries_of, find_home

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
    """Of tensors that are called otherwise in the file: how."""
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
    """The fields of VitConfig that the shapes of the tensors tell (protocol.md 2.2)."""
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
