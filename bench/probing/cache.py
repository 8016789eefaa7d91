"""Probes trained before: the same features, labels, recipe and seed give the same probe, so it is kept in the cache.

    CACHE/probes/<key>.safetensors      the trained probe; how it came about is in its metadata

The key holds everything that training depends on, of the training code its version.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.core.errors import BenchError
from bench.core.hashing import digest, text_digest
from bench.core.tensors import weights_digest
from bench.probing.attentive import AttentiveProbe
from bench.probing.dense import DenseProbe
from bench.probing.files import load_probe, read_metadata, save_probe
from bench.probing.mean import MeanProbe
from bench.probing.pooled import LinearProbe
from bench.probing.scoring import Head
from bench.probing.streaming import StreamCounts
from bench.probing.train import FittedProbe

TRAINING_VERSION = 1
"""Raised with every change of the code that changes a tensor of a trained probe, or which setting is chosen."""


def remember(cache: Path, facts: Mapping[str, Any], train: Callable[[], FittedProbe]) -> tuple[FittedProbe, bool]:
    """The probe that `train` would give, and whether it was read from the cache instead of trained.

    `facts` is what the training depends on besides the code: features, labels, recipe, seed, device.
    """
    path = memory_path(cache, facts)
    if path.is_file():
        try:
            return _read(path), True
        except (BenchError, KeyError, ValueError, TypeError):
            path.unlink(missing_ok=True)  # damaged: trained again
    fitted = train()
    if isinstance(fitted.probe, AttentiveProbe | DenseProbe | LinearProbe | MeanProbe):
        path.parent.mkdir(parents=True, exist_ok=True)
        history = json.dumps(_history(fitted))
        save_probe(path, fitted.probe, {"fitted": history, "sha256": _checksum(fitted.probe, history)})
    return fitted, False


def memory_path(cache: Path, facts: Mapping[str, Any]) -> Path:
    """Where a trained probe is kept, whether it is there or not."""
    return cache / "probes" / f"{memory_key(facts)}.safetensors"


def memory_key(facts: Mapping[str, Any]) -> str:
    """Name of a trained probe."""
    everything = {**facts, "training": TRAINING_VERSION, "torch": torch.__version__}
    return digest(everything)[:32]


def _history(fitted: FittedProbe) -> dict[str, Any]:
    history = {
        f.name: getattr(fitted, f.name) for f in dataclasses.fields(fitted) if f.name not in ("probe", "streamed")
    }
    if fitted.streamed is not None:
        history["streamed"] = fitted.streamed.plain()
    return {**history, "heads": [dataclasses.asdict(head) for head in fitted.heads]}


def _checksum(probe: nn.Module, history: str) -> str:
    return text_digest(f"{weights_digest(probe, {})}\n{history}")


def _read(path: Path) -> FittedProbe:
    metadata, probe = read_metadata(path), load_probe(path).heads[0]
    if _checksum(probe, metadata["fitted"]) != metadata["sha256"]:
        raise ValueError("checksum differs")
    history = json.loads(metadata["fitted"])
    heads = [Head(**head) for head in history.pop("heads")]
    streamed = history.pop("streamed", None)
    history["curve"] = tuple((step, part) for step, part in history["curve"])
    return FittedProbe(**history, heads=heads, probe=probe, streamed=streamed and StreamCounts.of(streamed))
