"""Probes trained before: the same features, labels, recipe and seed give the same probe, so it is kept in the cache.

    CACHE/probes/<key>.safetensors      the trained probe; how it came about is in its metadata

The key holds everything that training depends on, of the training code its version.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
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
from bench.probing.scoring import FittedProbe, Head
from bench.probing.streaming import StreamCounts

TRAINING_VERSION = 1
"""Raised with every change of the code that changes a tensor of a trained probe, or which setting is chosen."""


def remember(cache: Path, facts: Mapping[str, Any], train: Callable[[], FittedProbe]) -> tuple[FittedProbe, bool]:
    """The probe that `train` would give, and whether it was read from the cache instead of trained.

    `facts` is what the training depends on besides the code: features, labels, recipe, seed, device.
    """
    return remember_all(cache, [facts], lambda _: [train()])[0]


def remember_all(
    cache: Path, facts: Sequence[Mapping[str, Any]], train: Callable[[list[int]], list[FittedProbe]]
) -> list[tuple[FittedProbe, bool]]:
    """The same of probes that are trained together: `train` gets the places in `facts` of those that were not trained
    before, in their order."""
    found = [_read_if_there(memory_path(cache, one)) for one in facts]
    missing = [place for place, fitted in enumerate(found) if fitted is None]
    trained = dict(zip(missing, train(missing) if missing else [], strict=True))
    for place, fitted in trained.items():
        _keep(memory_path(cache, facts[place]), fitted)
    return [(fitted, True) if fitted else (trained[place], False) for place, fitted in enumerate(found)]


def _read_if_there(path: Path) -> FittedProbe | None:
    """A kept probe; None where it is not there, or damaged: it is trained again."""
    if not path.is_file():
        return None
    try:
        return _read(path)
    except (BenchError, KeyError, ValueError, TypeError):
        path.unlink(missing_ok=True)
        return None


def _keep(path: Path, fitted: FittedProbe) -> None:
    if isinstance(fitted.probe, AttentiveProbe | DenseProbe | LinearProbe | MeanProbe):
        path.parent.mkdir(parents=True, exist_ok=True)
        history = json.dumps(_history(fitted))
        save_probe(path, fitted.probe, {"fitted": history, "sha256": _checksum(fitted.probe, history)})


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
