"""Checkpoints of a training: an interrupted one goes on from them and ends in the same bits.

    FOLDER/<phase>-<first setting>-<last>.safetensors      tensors, and facts as JSON in the metadata
    FOLDER/settings_at_once                                how many settings are trained together

The folder belongs to one training: its name is a key of everything that the training depends on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.files import atomic_write, remove_abandoned

_AT_ONCE = "settings_at_once"
INTERVAL_S = 600.0
"""Time between two checkpoints within an epoch; every epoch ends with one."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training."""

    folder: Path
    interval_s: float = INTERVAL_S

    def of(self, phase: str) -> Checkpoint:
        """The checkpoint of one phase, such as `sweep-0-19`."""
        return Checkpoint(self.folder / f"{phase}.safetensors", self.interval_s)

    def settings_at_once(self, fitting: int) -> int:
        """How many settings this training began to train together; `fitting` where it begins now."""
        path = self.folder / _AT_ONCE
        if not path.is_file():
            with atomic_write(path) as temporary:
                temporary.write_text(str(fitting), encoding="ascii")
            return fitting
        stated = re.fullmatch(rb"[1-9][0-9]{,8}", path.read_bytes())
        if not stated:
            raise _damaged(path)
        return int(stated[0])

    def remove(self) -> None:
        """Remove the checkpoints: the training is finished and kept elsewhere."""
        for path in (*self.folder.glob("*.safetensors"), self.folder / _AT_ONCE):
            path.unlink(missing_ok=True)
        remove_abandoned(self.folder, age_s=0)
        with suppress(OSError):  # not there, or it holds what is someone else's
            self.folder.rmdir()


@dataclass(frozen=True)
class Checkpoint:
    """The last state of one phase of a training."""

    path: Path
    interval_s: float = INTERVAL_S

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the state, whole or not at all. `facts` are plain values."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        stated = json.dumps(dict(facts))
        with atomic_write(self.path) as temporary:
            save_file(plain, temporary, metadata={"facts": stated, "sha256": _digest(plain, stated)})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of the last state; None where there is none. Raises BenchError for a damaged file."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if _digest(tensors, metadata["facts"]) != metadata["sha256"]:
                raise ValueError("checksum differs")
            return tensors, json.loads(metadata["facts"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path) from error


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """SHA-256 of everything that a training goes on from: a bit that changed would change its probe."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path) -> BenchError:
    return BenchError(
        "a damaged checkpoint of a probe's training",
        where=str(path),
        fix="remove the file, and this part of the training starts again",
    )
