"""Checkpoint files -> their content, and facts of tensors: names, digests, the scale of tokens.

A checkpoint is data: nothing in it is ever executed, nothing is read before it is needed: tensors stay in the file,
memory-mapped, until they are used.

Shapes: N tokens of a clip, D channels.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.console import plain
from bench.core.errors import BenchError
from bench.core.inputs import WEIGHTS, check_input

_ZIP, _PICKLE = b"PK", b"\x80"
"""How the files of torch begin, since version 1.6 and before."""
WRAPPERS = frozenset(
    {"module", "backbone", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_fpw_module"}
    | {"_checkpoint_wrapped_module"}
)
"""Parts of names that training adds: data parallelism, the official mask wrappers, torch.compile, Lightning Fabric,
FSDP of today and of before, and activation checkpointing."""
_OTHER_WEIGHTS = "give a file whose weights are floats, as they were trained"
_LONGEST_NAME = 200
_REPEATED_BYTES = 1 << 30
"""The most a tensor that repeats what its file holds may take: a larger one may be meant to fill the memory."""


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file as a dictionary, without running anything that it holds."""
    if not path.exists():
        raise BenchError("no such checkpoint file", where=str(path), fix="check the path given with --model")
    check_input(path, WEIGHTS)
    if path.stat().st_size == 0:
        raise BenchError("the file is empty", where=str(path), fix="download it again")
    is_safetensors = path.suffix == ".safetensors"
    if not is_safetensors and not _begins_with(path, _ZIP, _PICKLE):
        raise _no_checkpoint(path)
    try:
        if is_safetensors:
            from safetensors.torch import load_file

            return dict(load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks the user to report files that are no checkpoints
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=_begins_with(path, _ZIP))
    except pickle.UnpicklingError as error:
        raise _unreadable_pickle(path, error) from error
    except Exception as error:
        raise BenchError(
            f"not a readable checkpoint, or cut off ({first_line(error)})",
            where=str(path),
            fix="download it again",
        ) from error
    if not isinstance(content, dict):
        raise BenchError(f"holds a {type(content).__name__}, not a dictionary of tensors", where=str(path))
    return content


def plain_name(name: str) -> str:
    """A tensor's name without the parts that wrappers added to it, wherever they stand (protocol.md 2.2)."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def plain_names(tensors: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict under their plain names.

    Raises BenchError for whatever is no tensor of floating-point weights, and where wrappers alone distinguish names.
    """
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        tensor = weights(name, value, path)
        short = plain_name(name)
        if short in plain:
            raise BenchError(f"two tensors are called '{short}'", where=str(path))
        plain[short] = tensor
    return plain


def weights(name: Any, value: Any, path: Path) -> Tensor:
    """`value` if it is a tensor of floating-point weights under a name. Raises BenchError that names it otherwise."""
    if not isinstance(name, str):
        raise BenchError(f"a tensor is called {word(name)}, which is no name", where=str(path), fix=_OTHER_WEIGHTS)
    name = word(name)
    if not isinstance(value, Tensor):
        raise BenchError(f"'{name}' is a {type(value).__name__}, not a tensor", where=str(path))
    kind = str(value.dtype).removeprefix("torch.")
    if value.is_quantized:
        kind = f"quantised ({kind})"
    elif value.is_nested or value.layout is not torch.strided:
        kind = f"a {str(value.layout).removeprefix('torch.')} tensor"
    elif value.is_meta:
        kind = "without values (on the device 'meta')"
    elif value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), _REPEATED_BYTES):
        kind = f"of {value.numel():,} values, of which the file holds a few,"
    elif value.is_floating_point():
        return value
    raise BenchError(f"'{name}' is {kind}, not floating-point weights", where=str(path), fix=_OTHER_WEIGHTS)


def listing(names: Mapping[str, Any], limit: int = 6) -> str:
    """The first of some names, for an error message."""
    shown = [word(name) for name in itertools.islice(names, limit)]
    return ", ".join(shown) + (", ..." if len(names) > limit else "")


def word(key: Any) -> str:
    """A key of a file's dictionary, for an error message: not all are names, and some numbers are endless."""
    if isinstance(key, str):
        return plain(key[:_LONGEST_NAME])
    return (
        str(key)
        if isinstance(key, bool | float) or (isinstance(key, int) and abs(key) < 10**9)
        else f"a {type(key).__name__}"
    )


def first_line(error: Exception) -> str:
    """What a library's error says first, in one line that is not too long."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.split(". ")[0][:160]


def _unreadable_pickle(path: Path, error: Exception) -> BenchError:
    called = re.search(r"GLOBAL `?([\w.]+)", str(error))
    if called:
        return BenchError(
            f"refused: the file would run code when read ({called.group(1)})",
            where=str(path),
            fix="ask its author for a file of tensors only, or safetensors",
        )
    return _no_checkpoint(path)


def _no_checkpoint(path: Path) -> BenchError:
    return BenchError("not a checkpoint", where=str(path), fix="check the path or download it again")


def _begins_with(path: Path, *starts: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(2).startswith(starts)


def default_num_heads(embed_dim: int) -> int:
    """Heads for a width that names none: head dimension near 64, at least two heads where the width allows."""
    wanted = max(2, round(embed_dim / 64))
    return max(n for n in range(1, wanted + 1) if embed_dim % n == 0)


def weights_digest(module: nn.Module, architecture: Mapping[str, Any]) -> str:
    """SHA-256 over the architecture and every tensor of the module (name, type, shape, bytes).

    A module whose names are those of a library, which renames them, has a method `canonical_name(name)`: the name to
    take instead, None for a tensor that changes nothing.
    """
    digest = hashlib.sha256(json.dumps(dict(architecture), sort_keys=True).encode())
    canonical = getattr(module, "canonical_name", str)
    named = {canonical(name): tensor for name, tensor in module.state_dict().items()}
    for name, tensor in sorted((name, tensor) for name, tensor in named.items() if name is not None):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.view(torch.uint8).numpy() if values.ndim else values.numpy().tobytes())
    return digest.hexdigest()


ORDINARY_SPREAD = (2.0**-4, 2.0**8)
"""Spread of a token's channels that is left as it is: the epsilons of probes (1e-5 in a variance) are nothing to it."""
_LARGEST = 2.0**12
"""Largest value of the tokens that are looked at, at their scale: half precision ends at 2**16, and others may be
larger."""


def token_scale(tokens: Tensor, ordinary: tuple[float, float] = ORDINARY_SPREAD) -> float:
    """The power of two that brings tokens [..., N, D] to a spread near 1, where theirs is not `ordinary`; else 1.

    The spread is that over the channels of a token, which the norm of attentive probes divides by.
    """
    known = torch.where(tokens.isfinite(), tokens, 0).cpu().double()
    spread, largest = known.var(dim=-1, unbiased=False).mean().sqrt().item(), known.abs().max().item()
    if spread == 0:  # one channel, or channels that are all alike
        spread = known.std(unbiased=False).item()
    if not spread > 0 or (ordinary[0] <= spread <= ordinary[1] and largest <= _LARGEST):
        return 1.0
    wanted, room = -round(math.log2(spread)), math.floor(math.log2(_LARGEST / largest))
    return 2.0 ** max(-126, min(wanted, room, 126))
