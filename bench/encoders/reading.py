"""Checkpoint files -> their content. A checkpoint is data: nothing in it is ever executed, nothing is read before it is
needed: tensors stay in the file, memory-mapped, until they are used."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError

_ZIP, _PICKLE = b"PK", b"\x80"
"""How the files of torch begin, since version 1.6 and before."""


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file as a dictionary, without running anything that it holds."""
    if not path.is_file():
        raise BenchError("no such checkpoint file", where=str(path), fix="check the path given with --model")
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


def listing(names: Mapping[str, Any], limit: int = 6) -> str:
    """The first of some names, for an error message."""
    shown = [str(name) for name in names][:limit]
    return ", ".join(shown) + (", ..." if len(names) > limit else "")


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
