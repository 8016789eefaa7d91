"""How good are a video encoder's frozen features, for motion and for appearance?

import bench

record = bench.evaluate(task="digits-motion", model="random")
encoder = bench.load_encoder("vitl16.pth.tar")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.core.errors import BenchError
from bench.core.version import __version__

if TYPE_CHECKING:
    from bench.encoders import load_encoder as load_encoder
    from bench.metrics.detection import frame_map as frame_map
    from bench.metrics.intervals import paired as paired
    from bench.pipeline.run import evaluate as evaluate
    from bench.probing import load_probe as load_probe
    from bench.video.clips import segment_indices as segment_indices
    from bench.video.decode import read_frames as read_frames
    from bench.video.views import test_views as test_views

_HOMES = {
    "evaluate": "bench.pipeline.run",
    "frame_map": "bench.metrics.detection",
    "load_encoder": "bench.encoders",
    "load_probe": "bench.probing",
    "paired": "bench.metrics.intervals",
    "read_frames": "bench.video.decode",
    "segment_indices": "bench.video.clips",
    "test_views": "bench.video.views",
}
__all__ = ["BenchError", "__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    # Listing tasks must not pay for torch, so the heavy names are imported when they are first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
