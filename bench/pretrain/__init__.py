"""Training encoders on unlabelled video: presets, masks, objectives and the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.pretrain.checkpoint import load_state

__all__ = ["load_state"]


def __getattr__(name: str) -> Any:
    # The command line reads presets without waiting for torch.
    if name == "load_state":
        from bench.pretrain.checkpoint import load_state

        return load_state
    raise AttributeError(f"module 'bench.pretrain' has no attribute '{name}'")
