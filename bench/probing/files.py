"""Probe files: the official V-JEPA 1 checkpoint (protocol.md 2.3), and safetensors of our own with the same names.

A file is data, never code. Whatever is missing, unexpected or misshapen is an error that names the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.encoders.checkpoints import plain_names, read_tensors
from bench.encoders.contract import default_num_heads
from bench.errors import BenchError
from bench.files import atomic_write
from bench.probing import attentive, linear
from bench.probing.attentive import AttentiveProbe
from bench.probing.linear import LinearProbe

DEAD_PREFIX = f"{attentive.BLOCK}.xattn.proj."
"""A projection that official files hold and the official probe never applies (protocol.md 4.1)."""
_HEADS_OF_WIDTH = {1024: 16, 1280: 16, 1408: 16}
_LINEAR_NAMES = {linear.WEIGHT, linear.BIAS, "mean", "deviation"}


def save_probe(path: str | Path, probe: AttentiveProbe | LinearProbe, metadata: Mapping[str, str]) -> None:
    """Write a probe as safetensors, atomically. `metadata` says where it comes from: recipe, task, encoder digest."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in probe.state_dict().items()}
    facts = dict(metadata)
    if isinstance(probe, AttentiveProbe):
        facts["num_heads"] = str(probe.num_heads)
    with atomic_write(Path(path)) as temporary:
        save_file(tensors, temporary, metadata=facts)


def read_metadata(path: str | Path) -> dict[str, str]:
    """What `save_probe` was told of a probe; empty for files of other makers."""
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise BenchError("not a readable probe file", where=str(path), fix="save the probe again") from error


def load_probe(path: str | Path, *, num_heads: int | None = None) -> AttentiveProbe | LinearProbe:
    """The frozen probe of a file, tokens [B, N, D] -> logits [B, C].

    Official files do not say their number of heads: it is 16 for the official widths, and for others the default of
    the width, unless `num_heads` is given.
    """
    path = Path(path)
    content = read_tensors(path)
    tensors = {name: t.float() for name, t in plain_names(_state_dict(content, path), path).items()}
    if set(tensors) == _LINEAR_NAMES:
        classes, width = _matrix(tensors, linear.WEIGHT, path)
        shapes: dict[str, tuple[int, ...]] = {linear.WEIGHT: (classes, width), linear.BIAS: (classes,)}
        _check(tensors, {**shapes, "mean": (width,), "deviation": (width,)}, path)
        return LinearProbe(tensors)
    if any(name.startswith("pooler.blocks.") for name in tensors):
        raise _four_blocks(path)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(DEAD_PREFIX)}
    classes, width = _matrix(tensors, "linear.weight", path)
    _check(tensors, attentive.tensor_shapes(width, classes), path)
    stated = read_metadata(path).get("num_heads", "")
    heads = num_heads or (int(stated) if stated.isdigit() else _HEADS_OF_WIDTH.get(width, default_num_heads(width)))
    attentive.check_heads(width, heads)
    return AttentiveProbe(tensors, heads)


def _state_dict(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    if "classifiers" in content:
        raise _four_blocks(path)
    nested = content.get("classifier", content)
    if not isinstance(nested, Mapping) or not any(isinstance(value, Tensor) for value in nested.values()):
        keys = ", ".join(str(key) for key in list(content)[:6])
        raise BenchError(
            f"no probe under the key classifier (the file's keys: {keys})",
            where=str(path),
            fix="give a V-JEPA 1 probe checkpoint, or a probe that bench saved",
        )
    return nested


def _four_blocks(path: Path) -> BenchError:
    return BenchError(
        "this is a V-JEPA 2 probe; four-block probes are not supported yet",
        where=str(path),
        fix="give a V-JEPA 1 probe",
    )


def _matrix(tensors: Mapping[str, Tensor], name: str, path: Path) -> tuple[int, int]:
    if name not in tensors or tensors[name].ndim != 2:
        state = f"has shape {list(tensors[name].shape)}" if name in tensors else "is missing"
        raise _misfit([f"'{name}' {state}"], path)
    rows, columns = tensors[name].shape
    return rows, columns


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    problems = [f"'{name}' is missing" for name in expected if name not in tensors]
    problems += [f"'{name}' is unexpected" for name in tensors if name not in expected]
    problems += [
        f"'{name}' has shape {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise _misfit(problems, path)


def _misfit(problems: list[str], path: Path) -> BenchError:
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return BenchError(
        f"the tensors do not make a probe: {', '.join(problems[:5])}{more}",
        where=str(path),
        fix="the file is of another architecture or damaged",
    )
