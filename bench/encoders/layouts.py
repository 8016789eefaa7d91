"""Checkpoint layouts: where the encoder is in a file, under which names, and what its tensors' shapes tell.

Layouts: protocol.md 2.1 and 2.2. Whatever is missing, unexpected or misshapen is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.encoders.contract import InputSpec
from bench.encoders.own_facts import OwnFacts, read_own_facts
from bench.encoders.reading import listing, plain_names, read_tensors
from bench.errors import BenchError

ENCODER_KEYS = ("ema_encoder", "target_encoder", "encoder")
"""Where the weights are in an official file; the first that is present is read: the moving average of the encoder. In
the distilled V-JEPA 2.1 files that is `ema_encoder`, in all others `target_encoder` (protocol.md 1.4, 2.2)."""

_HUGGING_FACE_NAME = "encoder.embeddings.patch_embeddings.proj.weight"


@dataclass(frozen=True)
class Checkpoint:
    """The encoder's tensors of a file, under their plain names, and what else the file said."""

    path: Path
    key: str
    """Top-level key that was read; empty where the file is a bare state dict."""
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    """Epoch, batch size and the like, as far as the file holds them."""
    predictor: dict[str, Tensor]
    own: OwnFacts | None = None
    """What a file of this project's pretraining says of itself."""

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
    """Read a `.pth.tar`, `.pt` or `.safetensors` file and pick the encoder's tensors."""
    content = read_tensors(path)
    own = read_own_facts(path, content)
    nested = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    wanted = (key,) if key else ENCODER_KEYS
    found = next((name for name in wanted if name in nested), None)
    if found is None and (key or not any(isinstance(value, Tensor) for value in content.values())):
        raise BenchError(
            f"no encoder under the key {' or '.join(wanted)} (the file's keys: {listing(content)})",
            where=str(path),
            fix="give a V-JEPA pretraining checkpoint, not a probe or an optimiser file",
        )
    facts = {k: content[k] for k in ("epoch", "loss", "batch_size", "world_size", "lr") if _is_number(content.get(k))}
    return Checkpoint(
        path=path,
        key=found or "",
        tensors=plain_names(nested[found] if found else content, path),
        facts=facts,
        predictor=plain_names(nested.get("predictor", {}), path),
        own=own,
    )


def tensor_sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Any]:
    """The fields of VitConfig that the shapes of the tensors tell (protocol.md 2.2)."""
    patches = shape_of(shapes, "patch_embed.proj.weight", 5, where)
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
    if shape is None and any(other.endswith(_HUGGING_FACE_NAME) for other in shapes):
        raise BenchError(
            "the tensors have Hugging Face names",
            where=where,
            fix="give the folder that holds the file and its config.json",
        )
    if shape is None or len(shape) != ndim:
        raise BenchError(
            f"tensor '{name}' is missing (present: {listing(shapes)})"
            if shape is None
            else f"tensor '{name}' has shape {list(shape)}, expected {ndim} dimensions",
            where=where,
            fix="give a V-JEPA video encoder checkpoint",
        )
    return shape


def check_shapes(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise BenchError naming every tensor that is missing, unexpected or of another shape."""
    problems = [f"'{n}' is missing" for n in sorted(set(expected) - set(shapes))]
    problems += [f"'{n}' is unexpected" for n in sorted(set(shapes) - set(expected))]
    problems += [
        f"'{n}' has shape {list(shape)} instead of {list(expected[n])}"
        for n, shape in sorted(shapes.items())
        if n in expected and shape != expected[n]
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BenchError(
            f"the tensors do not make a V-JEPA encoder: {', '.join(problems[:5])}{more}",
            where=where,
            fix="the file is of another architecture or damaged",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
