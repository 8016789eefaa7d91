"""The catalog of encoders with a name: one card each, in `cards/`, beside the code that reads them."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from bench.files import cache_path

_FOLDER = Path(__file__).resolve().parent / "cards"


class ModelCard(BaseModel):
    """Facts about an encoder: where its weights come from and what they were made for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    family: str
    num_frames: int
    resolution: int
    parameters_m: float
    """Millions of parameters."""
    pretrained_on: str
    licence: str
    file: str | None = None
    """Name of the weights file; none where the encoder needs no file."""
    url: str | None = None
    known_answer: tuple[float, ...] | None = None
    """Mean, standard deviation, first and last token value for `known_clips`."""

    @property
    def weights_path(self) -> Path | None:
        """Where the weights are looked for; none where the encoder needs no file."""
        return cache_path() / "weights" / self.file if self.file else None


def model_cards(pattern: str = "*") -> list[ModelCard]:
    """The cards whose names match a wildcard pattern, in natural order."""
    cards = [ModelCard.model_validate(_read(path)) for path in _FOLDER.glob("*.yaml")]
    return sorted((c for c in cards if fnmatch.fnmatch(c.name, pattern)), key=lambda c: _natural(c.name))


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts `vit2` before `vit10`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]
