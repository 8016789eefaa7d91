"""Checkpoint files -> architecture and weights, strictly. A checkpoint is data: nothing in it is ever executed.

Layouts: protocol.md 2.1 and 2.2, and files of this project's pretraining: the official layout, and under one more key,
`bench`, what shapes do not tell (in safetensors files: JSON text of that name in the metadata). Whatever is missing,
unexpected, misshapen or ambiguous is an error that names it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import Tensor

from bench.encoders import vjepa
from bench.encoders.contract import InputSpec, default_num_heads
from bench.errors import BenchError

ENCODER_KEYS = ("target_encoder", "ema_encoder", "encoder")
"""Where the weights are in an official file; the first that is present is read: the EMA encoder (protocol.md 2.2)."""

OWN_KEY = "bench"
"""Where files of this project's pretraining say what they hold; the schema is OwnFacts."""

_NUM_HEADS = {(size.embed_dim, size.depth, size.patch_size): size.num_heads for size in vjepa.SIZES.values()}
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
    frame_step: int = Field(ge=1)
    """Frames of the source video between two frames of a clip."""


class OwnFacts(BaseModel):
    """The entry `bench` of a file that this project's pretraining wrote. What else it holds concerns training alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    version: Literal[1]
    encoder: _encoder_fields()  # type: ignore[valid-type]
    input: InputFacts
    objective: str
    preset: str | None = None

    @property
    def config(self) -> vjepa.VitConfig:
        """The encoder's architecture as the file states it."""
        return vjepa.VitConfig(**self.encoder.model_dump())


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
    def frame_step(self) -> int:
        """Frames of the source video between two frames of a clip; that of the official files where not stated."""
        return self.own.input.frame_step if self.own else InputSpec.frame_step


def load_vjepa(path: str | Path, *, key: str | None = None) -> tuple[vjepa.VisionTransformer, dict[str, Any]]:
    """Build the encoder that a V-JEPA file holds, and report what was read.

    `key` picks the encoder among the file's (default: the first of ENCODER_KEYS present). Raises BenchError for
    anything that is not a complete V-JEPA 1 encoder, or one that this project pretrained.
    """
    checkpoint = read_checkpoint(Path(path), key=key)
    config, notes = infer_config(checkpoint)
    with torch.device("meta"):
        model = vjepa.VisionTransformer(config)
    check_tensors(checkpoint, {name: tuple(t.shape) for name, t in model.state_dict().items()})
    weights = {name: tensor.to(torch.float32) for name, tensor in checkpoint.tensors.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    report = {
        "file": checkpoint.path.name,
        "key": checkpoint.key or "(bare state dict)",
        **checkpoint.facts,
        **({"objective": checkpoint.own.objective, "preset": checkpoint.own.preset} if checkpoint.own else {}),
        "frame_step": checkpoint.frame_step,
        "tensors": len(weights),
        "parameters": sum(t.numel() for name, t in weights.items() if name != "pos_embed"),
        "notes": notes,
    }
    return model, report


def describe_vjepa(path: str | Path) -> vjepa.VitConfig:
    """The architecture that a V-JEPA file holds, from its header and positions alone."""
    return describe_checkpoint(path)[0]


def describe_checkpoint(path: str | Path) -> tuple[vjepa.VitConfig, int]:
    """The architecture that a V-JEPA file holds and the frame step it was trained at, as `describe_vjepa`."""
    checkpoint = read_checkpoint(Path(path))
    return infer_config(checkpoint)[0], checkpoint.frame_step


def read_checkpoint(path: Path, *, key: str | None = None) -> Checkpoint:
    """Read a `.pth.tar`, `.pt` or `.safetensors` file and pick the encoder's tensors."""
    content = read_tensors(path)
    own = read_own_facts(path, content)
    nested = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    wanted = (key,) if key else ENCODER_KEYS
    found = next((name for name in wanted if name in nested), None)
    if found is None and (key or not any(isinstance(value, Tensor) for value in content.values())):
        raise BenchError(
            f"no encoder under the key {' or '.join(wanted)} (the file's keys: {_listing(content)})",
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
            raise _bad_own_facts(path, f"{OWN_KEY}: the metadata is not JSON") from error
    if stated is None:
        return None
    try:
        return OwnFacts.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:40] for part in (OWN_KEY, *first["loc"]))
        raise _bad_own_facts(path, f"{field}: {first['msg']}") from error


def _bad_own_facts(path: Path, what: str) -> BenchError:
    fix = "the file is damaged, not written by bench, or written by a newer version of it"
    return BenchError(what, where=str(path), fix=fix)


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file as a dictionary, without running anything that it holds."""
    if not path.is_file():
        raise BenchError("no such checkpoint file", where=str(path), fix="check the path given with --model")
    if path.stat().st_size == 0:
        raise BenchError("the file is empty", where=str(path), fix="download it again")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks the user to report files that are no checkpoints
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise _unreadable_pickle(path, error) from error
    except Exception as error:
        raise BenchError(
            f"not a readable checkpoint, or cut off ({_first_line(error)})",
            where=str(path),
            fix="download it again",
        ) from error
    if not isinstance(content, dict):
        raise BenchError(f"holds a {type(content).__name__}, not a dictionary of tensors", where=str(path))
    return content


def _unreadable_pickle(path: Path, error: Exception) -> BenchError:
    called = re.search(r"GLOBAL `?([\w.]+)", str(error))
    if called:
        return BenchError(
            f"refused: the file would run code when read ({called.group(1)})",
            where=str(path),
            fix="ask its author for a file of tensors only, or safetensors",
        )
    return BenchError("not a checkpoint", where=str(path), fix="check the path or download it again")


def plain_names(tensors: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Tensors without the wrappers' `module.` and `backbone.` in their names (protocol.md 2.2)."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise BenchError(f"'{name}' is a {type(tensor).__name__}, not a tensor", where=str(path))
        short = name.replace("module.", "").replace("backbone.", "")
        if short in plain:
            raise BenchError(f"two tensors are called '{short}'", where=str(path))
        plain[short] = tensor
    return plain


def refuse_other_families(checkpoint: Checkpoint) -> None:
    """Raise where the file belongs to a family whose encoder differs, so that it never runs as V-JEPA 1."""
    names = checkpoint.tensors
    mask_tokens = sum(name.startswith("mask_tokens.") for name in checkpoint.predictor)
    family = None
    if any(name.startswith(("norms_block.", "patch_embed_img.", "img_mod_embed")) for name in names):
        family = "V-JEPA 2.1"
    elif "patch_embed.proj.weight" in names and (
        "pos_embed" not in names
        or mask_tokens > 2
        or (checkpoint.predictor and "predictor_pos_embed" not in checkpoint.predictor)
    ):
        family = "V-JEPA 2"
    elif "cls_token" in names:
        family = "image (class token)"
    if family:
        raise BenchError(
            f"this is a {family} checkpoint; this version reads V-JEPA 1",
            where=str(checkpoint.path),
            fix="use vitl16, vith16 or vith16-384 .pth.tar",
        )


def infer_config(checkpoint: Checkpoint) -> tuple[vjepa.VitConfig, list[str]]:
    """The architecture and notes on what had to be assumed: as the file states it, or else from the shapes of its
    tensors (protocol.md 2.2)."""
    notes = []
    if checkpoint.key == "encoder":
        notes.append("weights under the key 'encoder': not the moving average that the papers evaluate")
    if checkpoint.own:
        return check_stated_config(checkpoint, checkpoint.own.config), notes
    refuse_other_families(checkpoint)
    sizes = _sizes(checkpoint)
    embed_dim, depth, patch_size = sizes["embed_dim"], sizes["depth"], sizes["patch_size"]
    _shape(checkpoint, "pos_embed", 3)
    if not checkpoint.predictor:
        notes.append("no predictor in the file to tell V-JEPA 1 from 2: read as 1")
    num_heads = _NUM_HEADS.get((embed_dim, depth, patch_size))
    if num_heads is None:
        num_heads = default_num_heads(embed_dim)
        notes.append(f"num_heads {num_heads} assumed: no named size has width {embed_dim} and depth {depth}")
    grid, uniform_power = identify_positions(checkpoint.path, checkpoint.tensors["pos_embed"])
    config = vjepa.VitConfig(
        **sizes,
        num_heads=num_heads,
        num_frames=grid[0] * sizes["tubelet_size"],
        resolution=grid[1] * patch_size,
        uniform_power=uniform_power,
    )
    return config, notes


def check_stated_config(checkpoint: Checkpoint, config: vjepa.VitConfig) -> vjepa.VitConfig:
    """The architecture that the file states. Raises BenchError where it contradicts itself or the file's tensors."""
    stated = dataclasses.asdict(config)
    wrong = [
        f"{name} is {stated[name]} but the tensors have {found}"
        for name, found in _sizes(checkpoint).items()
        if stated[name] != found
    ]
    for whole, part in (("embed_dim", "num_heads"), ("num_frames", "tubelet_size"), ("resolution", "patch_size")):
        if stated[whole] % stated[part]:
            wrong.append(f"{whole} {stated[whole]} does not divide by {part} {stated[part]}")
    if not wrong and config.use_rope:
        vjepa.rotary_channels(config.head_dim, where=str(checkpoint.path))
    elif not wrong:
        # The size first: the table of a stated grid could fill the memory.
        grid, shape = config.native_grid, _shape(checkpoint, "pos_embed", 3)
        code = checkpoint.tensors["pos_embed"]
        if shape[1:] != (math.prod(grid), config.embed_dim) or not _is_sincos(code, grid, config.uniform_power):
            wrong.append(f"'pos_embed' {list(shape)} is not the sin-cos code of the grid {list(grid)}")
    if wrong:
        raise _bad_own_facts(checkpoint.path, f"{OWN_KEY}.encoder: {', '.join(wrong)}")
    return config


def _sizes(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields of VitConfig that the shapes of the tensors tell."""
    patches = _shape(checkpoint, "patch_embed.proj.weight", 5)
    mlp_dim = _shape(checkpoint, "blocks.0.mlp.fc1.weight", 2)[0]
    # Counted, not read off the highest number: one made-up name must not ask for a billion blocks.
    blocks = {m.group(1) for m in (re.match(r"blocks\.(\d+)\.", name) for name in checkpoint.tensors) if m}
    found = {"embed_dim": patches[0], "tubelet_size": patches[2], "patch_size": patches[3]}
    return {**found, "depth": len(blocks), "mlp_dim": mlp_dim}


def _shape(checkpoint: Checkpoint, name: str, ndim: int) -> tuple[int, ...]:
    tensor = checkpoint.tensors.get(name)
    if tensor is None or tensor.ndim != ndim:
        raise BenchError(
            f"tensor '{name}' is missing (present: {_listing(checkpoint.tensors)})"
            if tensor is None
            else f"tensor '{name}' has shape {list(tensor.shape)}, expected {ndim} dimensions",
            where=str(checkpoint.path),
            fix="give a V-JEPA video encoder checkpoint",
        )
    return tuple(tensor.shape)


def identify_positions(path: Path, pos_embed: Tensor) -> tuple[tuple[int, int, int], bool]:
    """The (t, h, w) grid whose sin-cos code the stored positions [1, N, D] are, and its `uniform_power`.

    N alone does not tell the grid (64 tokens are 4x4x4 or 1x8x8); the values do.
    """
    num_tokens = pos_embed.shape[1]
    for side in range(int(num_tokens**0.5), 0, -1):
        if num_tokens % (side * side):
            continue
        grid = (num_tokens // (side * side), side, side)
        for uniform_power in (True, False):
            if _is_sincos(pos_embed, grid, uniform_power):
                return grid, uniform_power
    raise BenchError(
        f"'pos_embed' {list(pos_embed.shape)} is not the sin-cos code of any (t, h, h) grid, so frames and resolution"
        " cannot be told",
        where=str(path),
        fix="give a V-JEPA 1 encoder checkpoint",
    )


def _is_sincos(pos_embed: Tensor, grid: tuple[int, int, int], uniform_power: bool) -> bool:
    if not pos_embed.is_floating_point():
        return False
    table = vjepa.sincos_positions(pos_embed.shape[2], grid, uniform_power=uniform_power)
    # The moving average rounds at every step, which moves the stored positions by up to 1e-4 in a long training run.
    tolerance = max(1e-3, 2 * torch.finfo(pos_embed.dtype).eps)
    return table.shape == pos_embed.shape and torch.allclose(pos_embed.float(), table, atol=tolerance)


def check_tensors(checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise BenchError naming every tensor that is missing, unexpected or of another shape."""
    problems = [f"'{n}' is missing" for n in sorted(set(expected) - set(checkpoint.tensors))]
    problems += [f"'{n}' is unexpected" for n in sorted(set(checkpoint.tensors) - set(expected))]
    problems += [
        f"'{n}' has shape {list(t.shape)} instead of {list(expected[n])}"
        for n, t in sorted(checkpoint.tensors.items())
        if n in expected and tuple(t.shape) != expected[n]
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise BenchError(
            f"the tensors do not make a V-JEPA encoder: {', '.join(problems[:5])}{more}",
            where=f"{checkpoint.path} [{checkpoint.key}]",
            fix="the file is of another architecture or damaged",
        )


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listing(names: Mapping[str, Any], limit: int = 6) -> str:
    shown = [str(name) for name in names][:limit]
    return ", ".join(shown) + (", ..." if len(names) > limit else "")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
