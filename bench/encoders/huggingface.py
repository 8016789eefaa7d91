"""Hugging Face folders of V-JEPA 2, read without transformers: config.json and safetensors (protocol.md 2.4).

The base model and the classifier (whose encoder's names begin with `vjepa2.`) are read; weights may be in shards.
Tensors get the official names, queries, keys and values joined as there. Positions follow the actual input as in the
official code; transformers takes those of `crop_size` for every input.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bench.cards.fields import Million, Side, Thousand
from bench.core.errors import BenchError
from bench.core.inputs import CONFIGURATION, WEIGHTS, check_input, read_json
from bench.core.tensors import first_line, listing
from bench.core.types import Positive
from bench.encoders import vjepa
from bench.encoders.checkpoints import (
    Described,
    build_encoder,
    contradicted,
    disagreements,
    empty_encoder,
    weights_facts,
)
from bench.encoders.families import NOTHING, Stated
from bench.encoders.layouts import PATCHES, Checkpoint, count_blocks, tensor_sizes
from bench.encoders.vjepa import rotary_channels

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CLASSIFIER_PREFIX = "vjepa2."


class HfConfig(BaseModel):
    """What config.json says of the architecture; the defaults are those of transformers."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())
    model_type: Literal["vjepa2"]
    patch_size: Side = 16
    crop_size: Side = 256
    frames_per_clip: Side = 64
    tubelet_size: Side = 2
    hidden_size: Million = 1024
    num_attention_heads: Thousand = 16
    num_hidden_layers: Thousand = 24
    mlp_ratio: Positive = 4.0
    num_pooler_layers: int = Field(3, ge=0, le=1000, strict=True)
    pred_hidden_size: Million = 384
    pred_num_hidden_layers: Thousand = 12
    pred_num_mask_tokens: Million = 10
    id2label: dict[int, str] = {}
    """Class names, of classifiers."""
    in_chans: int = 3
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_act: str = "gelu"


_COMPUTED = {"in_chans": 3, "layer_norm_eps": 1e-6, "qkv_bias": True, "hidden_act": "gelu"}
"""The only values of these fields that the transformer here computes."""


@dataclass(frozen=True)
class HfFolder:
    """A folder whose config and headers were read, and no weights yet."""

    path: Path
    config: HfConfig
    files: dict[str, Path]
    """Each tensor, under its name in the file, and the file that holds it."""
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, str]
    """The type of each tensor's values, as safetensors calls it."""

    def read(self, names: Sequence[str]) -> Tensor:
        """A tensor, memory-mapped; several are joined along their rows, in memory of their own.

        The file is opened anew for each call: the pages of joined pieces are given back when it returns.
        """
        pieces = []
        for name in names:
            with safe_open(self.files[name], framework="pt") as file:
                pieces.append(file.get_tensor(name))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


@dataclass(frozen=True)
class Rename:
    """How tensors of one kind are called in the official files."""

    pattern: str
    """Regular expression of the whole Hugging Face name; a group `part` names a piece of the official tensor."""
    official: str
    """The official name, with the groups of the pattern."""
    parts: tuple[str, ...] = ()
    """The pieces in the order of their rows; none where names map one to one."""


ENCODER_NAMES = (
    Rename(r"encoder\.embeddings\.patch_embeddings\.proj\.(\w+)", r"patch_embed.proj.\1"),
    Rename(
        r"encoder\.layer\.(\d+)\.attention\.(?P<part>query|key|value)\.(\w+)",
        r"blocks.\1.attn.qkv.\3",
        ("query", "key", "value"),
    ),
    Rename(r"encoder\.layer\.(\d+)\.attention\.proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    Rename(r"encoder\.layer\.(\d+)\.(norm1|norm2|mlp\.fc1|mlp\.fc2)\.(\w+)", r"blocks.\1.\2.\3"),
    Rename(r"encoder\.layernorm\.(\w+)", r"norm.\1"),
)


def load_folder(path: str | Path, *, stated: Stated = NOTHING) -> tuple[vjepa.VisionTransformer, dict[str, Any]]:
    """Build the encoder of a Hugging Face folder, and report what was read, as `checkpoints.load_vjepa`."""
    folder = open_folder(Path(path))
    names, config = _checked(folder, stated)
    tensors = {official: folder.read(pieces) for official, pieces in names.items()}
    return build_encoder(_checkpoint(folder, tensors), config, [])


def describe_folder(path: str | Path, *, stated: Stated = NOTHING) -> Described:
    """What a Hugging Face folder holds, from its config and the headers of its files."""
    folder = open_folder(Path(path))
    _, config = _checked(folder, stated)
    checkpoint = _checkpoint(folder, {})
    return Described(config, checkpoint.frame_step, weights_facts(checkpoint, config, []))


def open_folder(path: Path) -> HfFolder:
    """Read the config and the headers of a Hugging Face folder. Raises BenchError for what is no V-JEPA 2."""
    config_file = path / CONFIG
    if not config_file.exists():
        raise BenchError(
            f"no {CONFIG} in the folder", where=str(path), fix="give a checkpoint file or a model's folder"
        )
    content = _read_json(config_file)
    kind = content.get("model_type")
    if kind != "vjepa2":
        raise BenchError(f"holds a model of type '{kind}', not vjepa2", where=str(config_file))
    try:
        config = HfConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:40] for part in first["loc"])
        raise BenchError(f"{field}: {first['msg']}", where=str(config_file), fix="give a V-JEPA 2 folder") from error
    files = tensor_files(path)
    headers = [tensor_headers(file) for file in set(files.values())]
    shapes = {name: shape for header in headers for name, (shape, _) in header.items()}
    types = {name: kind for header in headers for name, (_, kind) in header.items()}
    return HfFolder(path, config, files, shapes, types)


def official_names(names: Iterable[str], renames: Sequence[Rename], where: str) -> dict[str, list[str]]:
    """For each official tensor the Hugging Face names of its pieces, in the order of their rows.

    Names that no pattern knows are left out. Raises BenchError where a piece is missing.
    """
    pieces: dict[str, dict[str, str]] = {}
    parts: dict[str, tuple[str, ...]] = {}
    for name in names:
        for rename in renames:
            match = re.fullmatch(rename.pattern, name)
            if match:
                official = match.expand(rename.official)
                parts[official] = rename.parts or ("",)
                pieces.setdefault(official, {})[match["part"] if rename.parts else ""] = name
                break
    for official, found in pieces.items():
        missing = [part for part in parts[official] if part not in found]
        if missing:
            raise BenchError(
                f"no '{missing[0]}' beside '{next(iter(found.values()))}'", where=where, fix="download the folder again"
            )
    return {official: [found[part] for part in parts[official]] for official, found in pieces.items()}


def _checked(folder: HfFolder, stated: Stated) -> tuple[dict[str, list[str]], vjepa.VitConfig]:
    """The encoder's official tensors with what they are made of, and the architecture, of which they all are."""
    names = _encoder_names(folder)
    config = _vit_config(folder, names)
    wrong = contradicted(config, stated) or ("a folder has no keys, and one is stated" if stated.key else "")
    if wrong:
        raise BenchError(wrong, where=str(folder.path / CONFIG), fix="drop the setting: the folder says it itself")
    refuse_other_types({piece: folder.types[piece] for pieces in names.values() for piece in pieces}, folder.path)
    empty = {official: _joined([folder.shapes[piece] for piece in pieces]) for official, pieces in names.items()}
    empty_encoder(_checkpoint(folder, empty), config)
    return names, config


def _joined(shapes: Sequence[tuple[int, ...]]) -> Tensor:
    """What `HfFolder.read` makes of tensors of these shapes, without values; the first alone where they do not fit."""
    pieces = [torch.empty(shape, device="meta") for shape in shapes]
    fit = len({shape[1:] for shape in shapes}) == 1 and all(shapes)
    return torch.cat(pieces) if fit and len(pieces) > 1 else pieces[0]


def _checkpoint(folder: HfFolder, tensors: dict[str, Tensor]) -> Checkpoint:
    names = {PATCHES: f"{_prefix(folder)}{PATCHES}"}
    return Checkpoint(path=folder.path, key="Hugging Face", tensors=tensors, facts={}, predictor={}, names=names)


def _encoder_names(folder: HfFolder) -> dict[str, list[str]]:
    """The encoder's official tensors and what they are made of; whatever else the encoder has keeps its name."""
    prefix = _prefix(folder)
    names = [name for name in folder.files if name.startswith(f"{prefix}encoder.")]
    renames = [Rename(re.escape(prefix) + rename.pattern, rename.official, rename.parts) for rename in ENCODER_NAMES]
    official = official_names(names, renames, str(folder.path))
    known = {name for pieces in official.values() for name in pieces}
    return {**official, **{name: [name] for name in names if name not in known}}


def _prefix(folder: HfFolder) -> str:
    return _CLASSIFIER_PREFIX if any(name.startswith(_CLASSIFIER_PREFIX) for name in folder.files) else ""


def _vit_config(folder: HfFolder, names: dict[str, list[str]]) -> vjepa.VitConfig:
    """The architecture that config.json states. Raises BenchError where the tensors are of another."""
    config = folder.config
    vit = vjepa.VitConfig(
        embed_dim=config.hidden_size,
        depth=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        mlp_dim=int(config.hidden_size * config.mlp_ratio),
        patch_size=config.patch_size,
        tubelet_size=config.tubelet_size,
        num_frames=config.frames_per_clip,
        resolution=config.crop_size,
        use_rope=True,
    )
    # The first piece stands for a tensor joined from several: no size is read from such tensors.
    shapes = {official: folder.shapes[pieces[0]] for official, pieces in names.items()}
    sizes = tensor_sizes(shapes, str(folder.path))
    found = {name: sizes[name] for name in ("patch_size", "tubelet_size")}
    found |= {"hidden_size": sizes["embed_dim"], "num_hidden_layers": sizes["depth"]}
    wrong = [*disagreements(vars(config), found), *_predictor_problems(folder)]
    if vit.mlp_dim != sizes["mlp_dim"]:
        wrong.append(f"hidden_size x mlp_ratio is {vit.mlp_dim} but the tensors have {sizes['mlp_dim']}")
    wrong += [
        f"{name} is {getattr(config, name)}, not {value}"
        for name, value in _COMPUTED.items()
        if getattr(config, name) != value
    ]
    if vit.embed_dim % vit.num_heads:
        wrong.append(f"hidden_size {vit.embed_dim} does not divide by num_attention_heads {vit.num_heads}")
    if wrong:
        raise BenchError(
            f"not what can be read here, or not of these weights: {', '.join(wrong)}",
            where=str(folder.path / CONFIG),
            fix="put the config and the weights of one V-JEPA 2 model into the folder",
        )
    rotary_channels(vit.head_dim, where=str(folder.path / CONFIG))
    return vit


def _predictor_problems(folder: HfFolder) -> list[str]:
    """Where the predictor's tensors, if there are any, contradict the config."""
    config, prefix = folder.config, f"{_prefix(folder)}predictor"
    names = [name for name in folder.files if name.startswith(f"{prefix}.")]
    if not names:
        return []
    found: dict[str, Any] = {"pred_num_hidden_layers": count_blocks(names, f"{prefix}.layer")}
    tokens = f"{prefix}.embeddings.mask_tokens"
    if tokens in folder.files:
        shape = folder.shapes[tokens]
        found |= {"pred_num_mask_tokens": shape[0], "pred_hidden_size": shape[-1]}
    return disagreements(vars(config), found)


def tensor_files(folder: Path) -> dict[str, Path]:
    """Which file holds each tensor. Raises BenchError where a file or a tensor of the index is missing."""
    index = folder / _INDEX
    if not index.exists():
        if not (folder / _WEIGHTS).exists():
            raise BenchError(
                f"no {_WEIGHTS} in the folder",
                where=str(folder),
                fix="download it; weights in pickle files are not read: save them with safe_serialization=True",
            )
        return dict.fromkeys(tensor_headers(folder / _WEIGHTS), folder / _WEIGHTS)
    stated = _read_json(index).get("weight_map")
    if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated.values()):
        raise BenchError("has no weight_map of names", where=str(index), fix="download the folder again")
    shards = sorted(set(stated.values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise BenchError(f"names a file outside its folder ('{shard}')", where=str(index))
        if not (folder / shard).exists():
            raise BenchError("this part of the weights is missing", where=str(folder / shard), fix="download it again")
    held = {name: folder / shard for shard in shards for name in tensor_headers(folder / shard)}
    lost = [name for name, shard in stated.items() if held.get(name) != folder / shard]
    if lost:
        raise BenchError(
            f"its files do not hold {listing(dict.fromkeys(lost))}", where=str(index), fix="download again"
        )
    return held


def tensor_headers(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names, shapes and types of the tensors of a safetensors file."""
    try:
        check_input(file, WEIGHTS)
        with safe_open(file, framework="pt") as content:
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 - no dict
            return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise BenchError(
            f"not a readable file of weights, or cut off ({first_line(error)})",
            where=str(file),
            fix="download it again",
        ) from error


def refuse_other_types(types: Mapping[str, str], folder: Path) -> None:
    """Raise BenchError that names the first tensor whose values are no floating-point numbers."""
    other = next((name for name, kind in types.items() if not re.fullmatch(r"B?F\d+(_.*)?", kind)), None)
    if other is not None:
        raise BenchError(
            f"'{other}' holds values of the type {types[other]}, not floating-point weights",
            where=str(folder),
            fix="give the folder of the weights as they were trained",
        )


def _read_json(file: Path) -> dict[str, Any]:
    content = read_json(file, CONFIGURATION)
    if not isinstance(content, dict):
        raise BenchError(f"holds a {type(content).__name__}, not an object", where=str(file))
    return content
