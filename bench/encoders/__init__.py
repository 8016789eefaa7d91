"""Pixels to tokens: `load_encoder(spec)` and the `Encoder` contract."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.core.types import Precision
    from bench.encoders.contract import Encoder, EncoderFacts, InputSpec
    from bench.encoders.known_input import check_known_answer, known_answer, known_clips
    from bench.encoders.loading import Choice, describe_encoder, load_encoder

__all__ = [
    "Choice",
    "Encoder",
    "EncoderFacts",
    "InputSpec",
    "Precision",
    "check_known_answer",
    "describe_encoder",
    "known_answer",
    "known_clips",
    "load_encoder",
]

_HOMES = {
    **dict.fromkeys(("Encoder", "EncoderFacts", "InputSpec", "Precision"), "contract"),
    **dict.fromkeys(("check_known_answer", "known_answer", "known_clips"), "known_input"),
    **dict.fromkeys(("Choice", "describe_encoder", "load_encoder"), "loading"),
}


def __getattr__(name: str) -> Any:
    # Listing the catalog must not pay for torch, so the heavy names are imported when they are first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'bench.encoders' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bench.encoders.{_HOMES[name]}"), name)
