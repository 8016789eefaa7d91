"""How good are a video encoder's frozen features, for motion and for appearance?

import bench

record = bench.evaluate(task="digits-motion", model="random")
encoder = bench.load_encoder("vitl16.pth.tar")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.core.errors import BenchError

if TYPE_CHECKING:
    from bench.encoders import load_encoder as load_encoder
    from bench.pipeline.run import evaluate as evaluate
    from bench.probing import load_probe as load_probe

__version__ = "0.1.0"
__all__ = ["BenchError", "__version__", "evaluate", "load_encoder", "load_probe"]


def __getattr__(name: str) -> Any:
    # Listing tasks must not pay for torch, so the heavy names are imported when they are first used.
    if name == "load_encoder":
        return importlib.import_module("bench.encoders").load_encoder
    if name == "load_probe":
        return importlib.import_module("bench.probing").load_probe
    if name == "evaluate":
        return importlib.import_module("bench.pipeline.run").evaluate
    raise AttributeError(f"module 'bench' has no attribute '{name}'")
