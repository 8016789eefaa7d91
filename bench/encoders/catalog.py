"""Encoders with a name: the catalog, one card each in `cards/`, and those that installed packages offer.

Weights that ship with the package are in `weights/`, as fp16 safetensors; others are looked for in the cache. Packages
declare entry points of the group `bench.encoders`; none is imported here.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from bench.core.files import cache_path

_CARDS = Path(__file__).resolve().parent / "cards"
_PACKAGED = Path(__file__).resolve().parent / "weights"
# The loader in C is a part of most builds of PyYAML, and five times as fast.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Training(BaseModel):
    """How the weights of an encoder that was trained here came about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    """The command line that trains it again."""
    preset: str
    objective: str
    seed: int
    samples: int
    """Clips seen, with repetition."""
    steps: int
    """Optimiser steps."""
    wall_time_s: float
    machine: str
    loss_curve: tuple[tuple[int, float], ...]
    """(samples seen, loss), in the order of training."""


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
    size: str | None = None
    """A name of `bench.encoders.vjepa.SIZES`; none where the encoder is no V-JEPA."""
    key: str | None = None
    """Where the encoder is in the file; none for the usual places."""
    predictor_depth: int | None = None
    """Blocks of the predictor that the file holds beside the encoder."""
    file: str | None = None
    """Name of the weights file; none where the encoder needs no file."""
    url: str | None = None
    """Where the file can be had; none where it ships with the package."""
    size_bytes: int | None = None
    """Size of the file; None where nobody states it."""
    sha256: str | None = None
    """SHA-256 of the file as its authors publish it, 64 hex digits; None where they do not."""
    hf: str | None = None
    """Repository of the same weights on Hugging Face."""
    training: Training | None = None
    """For encoders that were trained here."""
    known_answer: tuple[float, ...] | None = None
    """Mean, standard deviation, first and last token value for `known_clips`."""

    @property
    def weights_path(self) -> Path | None:
        """Where the weights are: in the package, or else in the cache; none where the encoder needs no file."""
        if self.file is None:
            return None
        packaged = _PACKAGED / self.file
        # A card without a url has its file in the package only; a missing one is missed there.
        return packaged if packaged.is_file() or not self.url else cache_path() / "weights" / self.file

    @property
    def is_built_in(self) -> bool:
        """Whether the encoder works without anything but the package."""
        return self.file is None or (_PACKAGED / self.file).is_file()


def model_cards(pattern: str = "*") -> list[ModelCard]:
    """The cards whose names match a wildcard pattern, in natural order."""
    cards = [ModelCard.model_validate(_read(path)) for path in _CARDS.glob("*.yaml")]
    return sorted((c for c in cards if fnmatch.fnmatch(c.name, pattern)), key=lambda c: natural_order(c.name))


def card_of_file(name: str) -> ModelCard | None:
    """The card whose weights file is called `name`, here or at its address; none where no card's is."""
    return next((card for card in model_cards() if name in (card.file, (card.url or "").rpartition("/")[2])), None)


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML_LOADER)  # noqa: S506 - both loaders are safe ones


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts `vit2` before `vit10`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


GROUP = "bench.encoders"


@dataclass(frozen=True)
class Registered:
    """An entry point, as its package declares it."""

    name: str
    package: str
    """The distribution that declares it, as pip knows it."""
    module: str
    function: str


def registered_encoders(pattern: str = "*") -> list[Registered]:
    """The encoders of installed packages whose names match a wildcard pattern, in natural order."""
    found = [
        Registered(point.name, point.dist.name if point.dist else "unknown", point.module, point.attr)
        for point in metadata.entry_points(group=GROUP)
        if fnmatch.fnmatch(point.name, pattern)
    ]
    return sorted(found, key=lambda encoder: natural_order(encoder.name))
