"""Checkpoint files -> frozen V-JEPA encoders, strictly: 1, 2 and 2.1, official layouts and this project's own.

What a file holds is told by its tensors, by what it states of itself, and by the card of the catalog whose name it was
asked for by; where they contradict each other nothing is loaded. The weights stay in the file, memory-mapped, until
they are used.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.core.errors import BenchError
from bench.core.tensors import plain_names, read_tensors, word
from bench.encoders import vjepa
from bench.encoders.catalog import ModelCard, card_of_file
from bench.encoders.families import (
    NOTHING,
    Stated,
    card_config,
    family_of,
    heads_of,
    identify_positions,
    is_sincos,
    open_question,
    rotary_input,
    title,
)
from bench.encoders.layouts import (
    OWN_KEY,
    Checkpoint,
    bad_own_facts,
    check_shapes,
    read_checkpoint,
    shape_of,
    tensor_sizes,
)
from bench.encoders.vjepa import rotary_channels

__all__ = [
    "Checkpoint",
    "build_encoder",
    "describe_checkpoint",
    "describe_vjepa",
    "identify_positions",
    "infer_config",
    "load_vjepa",
    "plain_names",
    "read_checkpoint",
    "read_tensors",
]


WEIGHTS_FACTS = ("family", "key", "prefix", "num_heads", "notes")
"""What is said of an encoder that was read from a file."""


@dataclass(frozen=True)
class Described:
    """Facts of the encoder in a V-JEPA file, from the file's header."""

    config: vjepa.VitConfig
    frame_step: int
    weights: dict[str, Any]
    """What was read and how: WEIGHTS_FACTS."""


def load_vjepa(
    path: str | Path, *, stated: Stated = NOTHING, card: ModelCard | None = None
) -> tuple[vjepa.VisionTransformer, dict[str, Any]]:
    """Build the encoder that a V-JEPA file holds, and report what was read.

    `stated` says what the file leaves open (its key: default the card's, or the first of ENCODER_KEYS present). With
    `card` the file must be what the card says. Raises BenchError for anything that is not a complete V-JEPA encoder,
    and where more than one reading fits.
    """
    checkpoint = _read(path, stated, card)
    config, notes = checked_config(checkpoint, card, stated)
    return build_encoder(checkpoint, config, notes)


def describe_vjepa(path: str | Path, *, stated: Stated = NOTHING) -> vjepa.VitConfig:
    """The architecture that a V-JEPA file holds, from its header and positions alone."""
    return describe_checkpoint(path, stated=stated).config


def describe_checkpoint(path: str | Path, card: ModelCard | None = None, *, stated: Stated = NOTHING) -> Described:
    """What a V-JEPA file holds, from its header and positions alone. Raises BenchError as `load_vjepa`."""
    checkpoint = _read(path, stated, card)
    config, notes = checked_config(checkpoint, card, stated)
    empty_encoder(checkpoint, config)
    return Described(config, checkpoint.frame_step, weights_facts(checkpoint, config, notes))


def weights_facts(checkpoint: Checkpoint, config: vjepa.VitConfig, notes: Sequence[str]) -> dict[str, Any]:
    """What was read and how, for a reader: WEIGHTS_FACTS."""
    return {
        "family": title(config.family),
        "key": word(checkpoint.key) or "(bare state dict)",
        "prefix": checkpoint.prefix,
        "num_heads": config.num_heads,
        "notes": list(notes),
    }


def _read(path: str | Path, stated: Stated, card: ModelCard | None) -> Checkpoint:
    return read_checkpoint(Path(path), key=stated.key or (card.key if card else None))


def build_encoder(
    checkpoint: Checkpoint, config: vjepa.VitConfig, notes: list[str]
) -> tuple[vjepa.VisionTransformer, dict[str, Any]]:
    """The encoder of a checkpoint in float32, and the report on it; its tensors are taken as they are, not copied.

    Raises BenchError naming every tensor that is missing, unexpected or misshapen.
    """
    model = empty_encoder(checkpoint, config)
    weights = {name: checkpoint.tensors[name].to(torch.float32) for name in model.state_dict()}
    model.load_state_dict(weights, strict=True, assign=True)
    report = {
        "file": checkpoint.path.name,
        **weights_facts(checkpoint, config, notes),
        **checkpoint.facts,
        **({"objective": checkpoint.own.objective, "preset": checkpoint.own.preset} if checkpoint.own else {}),
        "frame_step": checkpoint.frame_step,
        "tensors": len(weights),
        "parameters": sum(t.numel() for name, t in weights.items() if name != "pos_embed"),
    }
    return model, report


def empty_encoder(checkpoint: Checkpoint, config: vjepa.VitConfig) -> vjepa.VisionTransformer:
    """The encoder of a checkpoint without values. Raises BenchError as `build_encoder`."""
    with torch.device("meta"):
        model = vjepa.VisionTransformer(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    # Official V-JEPA 2 files carry stored positions that their encoder does not use (protocol.md 1.3).
    unused = {"pos_embed"} if config.family == "V-JEPA 2" and not checkpoint.own else set()
    shapes = {name: shape for name, shape in checkpoint.shapes.items() if name not in unused}
    check_shapes(shapes, expected, f"{checkpoint.path} [{checkpoint.key}]", checkpoint.names)
    return model


def checked_config(
    checkpoint: Checkpoint, card: ModelCard | None = None, stated: Stated = NOTHING
) -> tuple[vjepa.VitConfig, list[str]]:
    """As `infer_config`, held against the card and against the predictor that the file states or the card names."""
    config, notes = infer_config(checkpoint, card, stated)
    if card:
        _check_card(checkpoint, config, card)
    own, found = checkpoint.own.predictor_depth if checkpoint.own else None, checkpoint.predictor_depth
    if own is not None and found and own != found:
        raise bad_own_facts(checkpoint.path, f"{OWN_KEY}.head: depth is {own} but the predictor has {found} blocks")
    return config, notes


def infer_config(
    checkpoint: Checkpoint, card: ModelCard | None = None, stated: Stated = NOTHING
) -> tuple[vjepa.VitConfig, list[str]]:
    """The architecture, and notes on what a reader must know of it: as the file states it, or else from its tensors
    (protocol.md 2.2). What they do not show is as `stated`, or from `card`. Frames and resolution, which change no
    token of an encoder with rotary positions, may also be those of an official file of that name.

    Raises BenchError that says how to state it where more than one reading fits.
    """
    notes = []
    if checkpoint.key.rpartition(".")[2] == "encoder" and not checkpoint.is_action_conditioned:
        notes.append("weights under the key 'encoder': not the moving average that the papers evaluate")
    if checkpoint.own:
        return _as_the_file_says(checkpoint, checkpoint.own.config, stated), notes
    sizes = tensor_sizes(checkpoint.shapes, str(checkpoint.path))
    family, said = family_of(checkpoint, card, stated.family)
    num_heads, more = heads_of(family, sizes, card, stated.num_heads)
    notes += said + more
    if family is None or num_heads is None:
        raise open_question(checkpoint, family, sizes, heads_are_open=num_heads is None)
    if sizes["embed_dim"] % num_heads:
        what = f"{sizes['embed_dim']} channels do not divide into {num_heads} attention heads"
        raise BenchError(what, where=str(checkpoint.path), fix="state others: --set encoder.num_heads=N")
    config = vjepa.VitConfig(**sizes, num_heads=num_heads)
    if family == "V-JEPA":
        shape_of(checkpoint.shapes, "pos_embed", 3, str(checkpoint.path))
        grid, uniform_power = identify_positions(checkpoint.path, checkpoint.tensors["pos_embed"])
        num_frames, resolution = grid[0] * config.tubelet_size, grid[1] * config.patch_size
        config = dataclasses.replace(config, uniform_power=uniform_power)
    else:
        named = card or card_of_file(checkpoint.path.name)
        num_frames, resolution, said = rotary_input(checkpoint, family, sizes, named)
        notes += said
        config = dataclasses.replace(config, use_rope=True, multilevel=family == "V-JEPA 2.1")
        _check_rotary(config, str(checkpoint.path))
    return dataclasses.replace(config, num_frames=num_frames, resolution=resolution), notes


def _as_the_file_says(checkpoint: Checkpoint, config: vjepa.VitConfig, stated: Stated) -> vjepa.VitConfig:
    """The architecture of a file that leaves nothing open. Raises BenchError where something else is stated."""
    config = _check_stated(checkpoint, config)
    contradiction = contradicted(config, stated)
    if contradiction:
        raise BenchError(contradiction, where=str(checkpoint.path), fix="drop the setting: the file says it itself")
    return config


def contradicted(config: vjepa.VitConfig, stated: Stated) -> str:
    """What is stated against the architecture that a file says itself, in words; empty where nothing is."""
    if stated.family is not None and stated.family != config.family:
        return f"{title(stated.family)} is stated, and the file says {title(config.family)}"
    if stated.num_heads not in (None, config.num_heads):
        return f"{stated.num_heads} attention heads are stated, and the file says {config.num_heads}"
    return ""


def _check_stated(checkpoint: Checkpoint, config: vjepa.VitConfig) -> vjepa.VitConfig:
    """The architecture that the file states. Raises BenchError where it contradicts itself or the file's tensors."""
    stated = dataclasses.asdict(config)
    wrong = disagreements(stated, tensor_sizes(checkpoint.shapes, str(checkpoint.path)))
    for whole, part in (("embed_dim", "num_heads"), ("num_frames", "tubelet_size"), ("resolution", "patch_size")):
        if stated[whole] % stated[part]:
            wrong.append(f"{whole} {stated[whole]} does not divide by {part} {stated[part]}")
    if config.multilevel and not config.use_rope:
        wrong.append("multilevel needs use_rope")
    if not wrong and config.use_rope:
        _check_rotary(config, str(checkpoint.path))
    elif not wrong:
        # The size first: the table of a stated grid could fill the memory.
        grid, shape = config.native_grid, shape_of(checkpoint.shapes, "pos_embed", 3, str(checkpoint.path))
        code = checkpoint.tensors["pos_embed"]
        if shape[1:] != (math.prod(grid), config.embed_dim) or not is_sincos(code, grid, config.uniform_power):
            wrong.append(f"'pos_embed' {list(shape)} is not the sin-cos code of the grid {list(grid)}")
    if wrong:
        raise bad_own_facts(checkpoint.path, f"{OWN_KEY}.encoder: {', '.join(wrong)}")
    return config


def disagreements(stated: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Each field of `found` in the tensors for which something else is stated, in words."""
    return [
        f"{name} is {stated[name]} but the tensors have {value}"
        for name, value in found.items()
        if stated[name] != value
    ]


def _check_rotary(config: vjepa.VitConfig, where: str) -> None:
    """Raise BenchError where heads or layers have no room for what the family does with them."""
    rotary_channels(config.head_dim, where=where)
    if config.multilevel and config.depth % 4:
        raise BenchError(f"{config.depth} blocks do not divide into the four levels of V-JEPA 2.1", where=where)


def _check_card(checkpoint: Checkpoint, config: vjepa.VitConfig, card: ModelCard) -> None:
    """Raise BenchError where a file is not what the card says it is."""
    if config.family != card.family:
        wrong = [f"it is a {config.family} encoder, and {card.name} is {card.family}"]
    else:
        expected = dataclasses.asdict(card_config(card) or config)
        wrong = [
            f"{n} is {v} instead of {expected[n]}" for n, v in dataclasses.asdict(config).items() if v != expected[n]
        ]
    depth = checkpoint.predictor_depth
    if card.predictor_depth is not None and depth and depth != card.predictor_depth:
        wrong.append(f"its predictor has {depth} blocks instead of {card.predictor_depth}")
    if wrong:
        raise BenchError(
            f"these are not the weights of {card.name}: {', '.join(wrong)}",
            where=str(checkpoint.path),
            fix=f"put {card.url} there, or give the path of the file as the model" if card.url else "install it again",
        )
