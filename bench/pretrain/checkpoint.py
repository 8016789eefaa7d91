"""Checkpoints of pretraining, in the official layout (protocol.md 2.2), and reading them back.

One top-level key is ours: `bench`, a plain mapping with the shapes of the networks, the preset, and where the run is.
Readers of official files ignore it.
"""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.tensors import read_tensors
from bench.encoders.checkpoints import infer_config as infer_encoder
from bench.encoders.checkpoints import plain_names, read_checkpoint
from bench.encoders.families import read_stated
from bench.encoders.predictor import PredictorConfig
from bench.encoders.vjepa import VisionTransformer, VitConfig
from bench.pretrain.presets import Preset, difference, validate
from bench.pretrain.state import ProjectorConfig, TrainState, build_head

VERSION = 1
_LARGEST = 1 << 12
"""No width or depth of a head is larger."""
_PREFIX = "module.backbone."


def save_state(path: Path, state: TrainState, *, facts: Mapping[str, Any], bench: Mapping[str, Any]) -> None:
    """Write the networks of a run, whole or not at all.

    `facts` are the official top-level entries (opt, scaler, epoch, loss, batch_size, world_size, lr); `bench` is added
    to the mapping of that name, beside the shapes of the networks.
    """
    content = {
        "encoder": _prefixed(state.encoder),
        "predictor": _prefixed(state.predictor),
        "target_encoder": _prefixed(state.target_encoder),
        **facts,
        "bench": {**shapes(state), **bench},
    }
    with atomic_write(path) as temporary:
        torch.save(content, temporary)


def shapes(state: TrainState) -> dict[str, Any]:
    """What a reader needs to rebuild the networks: plain numbers and names."""
    kind = "predictor" if isinstance(state.predictor.config, PredictorConfig) else "projector"
    head = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(state.predictor.config).items()}
    return {
        "version": VERSION,
        "encoder": dataclasses.asdict(state.encoder.config),
        "head": {"kind": kind, **head},
    }


def load_state(path: str | Path, *, num_heads: int | None = None) -> TrainState:
    """The networks of a pretraining checkpoint, ours or an official V-JEPA 1 file, strictly, on the CPU.

    `num_heads` says the encoder's attention heads where an official file is of no size with a name; its predictor has
    as many. Raises BenchError for a file that is no complete pretraining checkpoint, and where nothing tells the heads.
    """
    path = Path(path)
    content = read_tensors(path)
    for key in ("encoder", "predictor", "target_encoder"):
        if not isinstance(content.get(key), Mapping):
            raise BenchError(f"no '{key}' in the file", where=str(path), fix="give a pretraining checkpoint")
    checkpoint = read_checkpoint(path)
    config, _ = infer_encoder(checkpoint, stated=read_stated({"num_heads": num_heads}))
    if not checkpoint.own and config.family != "V-JEPA":
        raise BenchError(
            f"this is a {config.family} checkpoint; pretraining goes on from V-JEPA 1 files and its own",
            where=str(path),
            fix="use vitl16, vith16 or vith16-384 .pth.tar",
        )
    head = plain_names(content["predictor"], path)
    networks = (
        VisionTransformer(config),
        build_head(_head_config(content, head, config, path)),
        VisionTransformer(config),
    )
    for key, network in zip(("encoder", "predictor", "target_encoder"), networks, strict=True):
        load_strictly(network, plain_names(content[key], path), f"{path} [{key}]")
    networks[2].requires_grad_(False)
    return TrainState(*networks)


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int = 0
    """Finished steps."""
    loss: float | None = None
    """Mean over the last finished epoch."""
    failed: tuple[str, ...] = ()
    """Videos that were passed over."""


def load_training(
    path: Path, state: TrainState, optimiser: torch.optim.Optimizer, preset: Preset, data_digest: str
) -> Progress:
    """Fill the networks and the optimiser of a run that goes on; returns how far it has come.

    Raises BenchError where the file was written under another preset or on other videos, or is damaged.
    """
    content = read_tensors(path)
    _check_sums(path)
    ours = content.get("bench")
    if not isinstance(ours, Mapping) or not isinstance(ours.get("preset_content"), Mapping):
        raise BenchError("was not written by `bench pretrain`", where=str(path), fix="choose another --out")
    before = validate(dict(ours["preset_content"]), str(path))
    differing = [name for name in difference(before, preset) if name not in ("name", "title")]
    if differing:
        raise BenchError(
            f"this run was started from other settings: {', '.join(differing[:4])}",
            where=str(path),
            fix="give the same --preset and --set, or another --out",
        )
    if ours.get("data") != data_digest:
        raise BenchError("this run was started on other videos", where=str(path), fix="give the same --data")
    device = next(state.encoder.parameters()).device
    for key in ("encoder", "predictor", "target_encoder"):
        load_strictly(getattr(state, key), plain_names(content[key], path), f"{path} [{key}]")
    optimiser.load_state_dict(content["opt"])
    for moments in optimiser.state.values():
        for name, value in moments.items():
            moments[name] = value.to(device)
    return Progress(int(ours["step"]), float(content["loss"]), tuple(ours["failed"]))


def _check_sums(path: Path) -> None:
    """Raise BenchError where a part of the file is not what was written: torch reads without looking."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        damaged = str(error)
    if damaged is not None:
        raise BenchError(f"damaged: the checksum of {damaged} differs", where=str(path), fix="start again without it")


def load_strictly(network: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Fill a network; whatever is missing, unexpected or of another shape is a BenchError that names it."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise BenchError(
            f"{len(wrong)} tensors do not fit, first '{name}': shape {found.get(name)} instead of {expected.get(name)}",
            where=where,
            fix="the file is of another architecture or damaged",
        )
    network.load_state_dict(tensors)


def _prefixed(network: nn.Module) -> dict[str, Tensor]:
    return {_PREFIX + name: tensor for name, tensor in network.state_dict().items()}


def _stated_head(stated: Any, path: Path) -> PredictorConfig | ProjectorConfig:
    """The head's shape as our own files state it. Nothing in a file is believed before it is checked."""
    content = dict(stated) if isinstance(stated, Mapping) else {}
    kind = PredictorConfig if content.pop("kind", None) == "predictor" else ProjectorConfig
    unknown = sorted(str(name) for name in content.keys() - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise BenchError(f"its 'bench.head' entry is damaged (unknown '{unknown[0]}')", where=str(path))
    try:
        head = cast("PredictorConfig | ProjectorConfig", TypeAdapter(kind).validate_python(content))
    except ValidationError as error:
        raise BenchError(
            f"its 'bench.head' entry is damaged ({error.errors()[0]['msg']})", where=str(path), fix="copy it again"
        ) from error
    parts = [part for value in vars(head).values() for part in (value if isinstance(value, tuple) else [value])]
    sizes = [part for part in parts if isinstance(part, int)]
    if not all(0 < size <= _LARGEST for size in sizes if not isinstance(size, bool)):
        raise BenchError("its 'bench.head' entry holds an absurd size", where=str(path), fix="copy it again")
    return head


def _head_config(
    content: Mapping[str, Any], tensors: Mapping[str, Tensor], encoder: VitConfig, path: Path
) -> PredictorConfig | ProjectorConfig:
    """The head's shape: as our own files state it, or from the tensors of an official file."""
    ours = content.get("bench")
    if isinstance(ours, Mapping):
        return _stated_head(ours.get("head"), path)
    try:
        out_dim, width = tensors["predictor_proj.weight"].shape
    except KeyError as error:
        raise BenchError("its predictor has no 'predictor_proj.weight'", where=str(path)) from error
    if width % encoder.num_heads:
        what = f"its predictor of {width} channels does not divide into the encoder's {encoder.num_heads} heads"
        raise BenchError(what, where=str(path), fix="check num_heads")
    blocks = {match.group(1) for name in tensors if (match := re.match(r"predictor_blocks\.(\d+)\.", name))}
    return PredictorConfig(
        encoder_dim=encoder.embed_dim,
        out_dim=out_dim,
        embed_dim=width,
        depth=len(blocks),
        num_heads=encoder.num_heads,
        grid=encoder.native_grid,
        num_mask_tokens=sum(name.startswith("mask_tokens.") for name in tensors),
        uniform_power=encoder.uniform_power,
    )
