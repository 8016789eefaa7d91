"""Tokens to scores: what is trained on frozen features, how it is chosen, and probe files."""

from __future__ import annotations

from bench.probing.blocks import new_probe
from bench.probing.files import load_probe, save_probe
from bench.probing.loaded import LoadedProbe
from bench.probing.scoring import FittedProbe, Head, predict
from bench.probing.source import TokenSource
from bench.probing.train import fit

__all__ = [
    "FittedProbe",
    "Head",
    "LoadedProbe",
    "TokenSource",
    "fit",
    "load_probe",
    "new_probe",
    "predict",
    "save_probe",
]
