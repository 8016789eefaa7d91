"""How far a training has come, on disk: what an interrupted one goes on from, to the bit.

    FOLDER/<phase>-<first setting>-<last>.safetensors      tensors, and facts as JSON in the metadata
    FOLDER/settings_at_once                                how many settings are trained together

The folder belongs to one training: its name is a key of everything that the training depends on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.errors import BenchError
from bench.files import atomic_write

INTERVAL_S = 600.0
"""Time between two checkpoints within an epoch; every epoch ends with one."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training."""

    folder: Path
    interval_s: float = INTERVAL_S

    def of(self, phase: str) -> Checkpoint:
        """That of one phase, such as `sweep-0-19`."""
        return Checkpoint(self.folder / f"{phase}.safetensors", self.interval_s)

    def settings_at_once(self, fitting: int) -> int:
        """How many settings this training began to train together; `fitting` where it begins now."""
        path = self.folder / "settings_at_once"
        if not path.is_file():
            with atomic_write(path) as temporary:
                temporary.write_text(str(fitting), encoding="ascii")
            return fitting
        stated = path.read_text(encoding="ascii")
        if not (stated.isdecimal() and int(stated) > 0):
            raise _damaged(path)
        return int(stated)

    def remove(self) -> None:
        """The training is finished and kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """The last state of one phase of a training."""

    path: Path
    interval_s: float = INTERVAL_S

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the state, whole or not at all. `facts` are plain values."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with atomic_write(self.path) as temporary:
            save_file(plain, temporary, metadata={"facts": json.dumps(dict(facts))})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of the last state; None where there is none. Raises BenchError for a damaged file."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path) from error


def _damaged(path: Path) -> BenchError:
    return BenchError(
        "a damaged checkpoint of a probe's training",
        where=str(path),
        fix="remove the file, and this part of the training starts again",
    )
