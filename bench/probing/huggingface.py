"""The classifier in a Hugging Face folder of `VJEPA2ForVideoClassification` (protocol.md 2.4), without transformers.

Read are `config.json` and, of `model.safetensors` or its parts, the probe's tensors; the encoder's begin with
`vjepa2.` and stay on the disk. The probe computes what Hugging Face computes: with the encoder's number of heads and
epsilon, where the official code has 16 heads and 1e-5.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.cards.fields import Million, Thousand
from bench.core.errors import BenchError
from bench.core.inputs import CONFIGURATION, WEIGHTS, check_input, read_json
from bench.core.tensors import weights
from bench.core.types import Positive
from bench.probing import attentive, blocks
from bench.probing.blocks import BlockProbe
from bench.probing.class_names import are_numbers, names_in_order
from bench.probing.loaded import LoadedProbe, check_shapes, matrix_shape

PREFIXES = ("vjepa2.", "classifier.", "pooler.self_attention_layers.", "pooler.cross_attention_layer.")
"""How tensors are called here and in no official file."""
_RENAMED = (
    ("pooler.cross_attention_block.", "pooler.cross_attention_layer."),
    ("pooler.blocks.", "pooler.self_attention_layers."),
    (".norm", ".layer_norm"),
    (".xattn.", ".cross_attn."),
    (".attn.", ".self_attn."),
    (".proj.", ".out_proj."),
    ("linear.", "classifier."),
)
_SPLIT = {".q.": ("q",), ".kv.": ("k", "v"), ".qkv.": ("q", "k", "v")}


class _Config(BaseModel):
    """The fields of config.json that decide what the probe computes, with the defaults of transformers."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    model_type: Literal["vjepa2"]
    hidden_size: Million = 1024
    num_attention_heads: Thousand = 16
    num_pooler_layers: int = Field(default=3, ge=0, le=1000)
    layer_norm_eps: Positive = 1e-6
    hidden_act: Literal["gelu"] = "gelu"
    id2label: dict[str, str] = {}


def load_folder(folder: Path, *, num_heads: int | None = None) -> LoadedProbe:
    """The probe of a folder; see `files.load_probe`."""
    config = _read_config(folder / "config.json")
    tensors = _read_tensors(folder)
    if not tensors:
        raise BenchError(
            "an encoder without a classifier",
            where=str(folder),
            fix="give a classifier such as facebook/vjepa2-vitl-fpc16-256-ssv2",
        )
    classes, width = matrix_shape(tensors, "classifier.weight", str(folder))
    if width != config.hidden_size:
        raise BenchError(
            f"config.json says hidden_size {config.hidden_size}, the classifier has {width}",
            where=str(folder),
            fix="download the folder again",
        )
    official = blocks.tensor_shapes(width, classes, 1 + config.num_pooler_layers)
    parts = {name: their_names(name) for name in official}
    expected = {
        theirs: (shape[0] // len(parts[name]), *shape[1:]) for name, shape in official.items() for theirs in parts[name]
    }
    check_shapes(tensors, expected, str(folder))
    weights = {name: torch.cat([tensors[theirs] for theirs in parts[name]]).float() for name in official}
    heads = num_heads or config.num_attention_heads
    attentive.check_heads(width, heads)
    probe = BlockProbe(weights, heads, norm_eps=config.layer_norm_eps)
    return LoadedProbe(
        [probe], layout="Hugging Face", class_names=_names(config, classes, folder), notes=_notes(width, heads)
    )


def their_names(name: str) -> list[str]:
    """What an official tensor is called here: one name, or one for each part of joined queries, keys and values."""
    letters = next((letters for joined, letters in _SPLIT.items() if joined in name), None)
    for official, theirs in _RENAMED:
        name = name.replace(official, theirs)
    if letters is None:
        return [name]
    joined = f".{''.join(letters)}."
    return [name.replace(joined, f".{letter}_proj.") for letter in letters]


def _notes(width: int, heads: int) -> list[str]:
    official = attentive.OFFICIAL_NUM_HEADS.get(width, heads)
    if heads == official:
        return []
    return [f"probe with {heads} attention heads, as Hugging Face computes it; official ones have {official}"]


def _names(config: _Config, classes: int, folder: Path) -> tuple[str, ...] | None:
    if not config.id2label:
        return None
    names = names_in_order({"id2label": config.id2label}, where=folder / "config.json")
    if len(names) != classes:
        raise BenchError(
            f"id2label of config.json names {len(names)} classes, the classifier has {classes}",
            where=str(folder),
            fix="download the folder again",
        )
    return None if are_numbers(names) else names


def _read_config(path: Path) -> _Config:
    try:
        return _Config.model_validate(read_json(path, CONFIGURATION))
    except FileNotFoundError as error:
        raise BenchError(
            "a folder without config.json", where=str(path.parent), fix="give a Hugging Face folder, or a probe file"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BenchError(
            f"{field}: {first['msg']}", where=str(path), fix="give the folder of a V-JEPA 2 classifier"
        ) from error
    except OSError as error:
        raise BenchError("not a JSON file", where=str(path), fix="download the folder again") from error


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the folder that are not the encoder's."""
    tensors: dict[str, Tensor] = {}
    for file, names in _files(folder).items():
        path = folder / file
        try:
            check_input(path, WEIGHTS)
            with safe_open(path, framework="pt") as content:
                for name in names if names is not None else content.keys():
                    if not name.startswith("vjepa2."):
                        tensors[name] = weights(name, content.get_tensor(name), path)
        except (SafetensorError, OSError) as error:
            fix = "download the folder again"
            raise BenchError("missing, cut off or not safetensors", where=str(path), fix=fix) from error
    return tensors


def _files(folder: Path) -> dict[str, list[str] | None]:
    """The files that hold tensors of the probe, with their names; None for all that are in it."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return {"model.safetensors": None}
    try:
        content: Any = read_json(index, CONFIGURATION)
        weight_map = {str(name): str(file) for name, file in content["weight_map"].items()}
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise BenchError("not an index of safetensors", where=str(index), fix="download the folder again") from error
    files: dict[str, list[str] | None] = {}
    members = defaultdict(list)
    for name, file in weight_map.items():
        if not name.startswith("vjepa2."):
            members[file].append(name)
    for file, names in members.items():
        if Path(file).name != file:
            raise BenchError(f"names a file outside the folder: '{file}'", where=str(index), fix="download it again")
        files[file] = names
    return files
