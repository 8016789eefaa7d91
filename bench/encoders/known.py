"""The known-input check: an encoder answers two fixed clips today as it did when its card was written.

Shapes: T frames, S pixels of a side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.encoders.catalog import ModelCard
from bench.encoders.contract import Encoder, InputSpec
from bench.errors import BenchError


def known_clips(spec: InputSpec) -> Tensor:
    """Two fixed clips [2, 3, T, S, S] for the check that an encoder answers as when its card was written."""
    T, S = spec.num_frames, spec.resolution
    steps = torch.arange(2 * 3 * T * S * S, dtype=torch.float64)
    return torch.sin(steps * 0.37 + torch.sin(steps * 0.011)).float().view(2, 3, T, S, S)


def known_answer(encoder: Encoder) -> tuple[float, float, float, float]:
    """Mean, standard deviation, first and last value of the tokens of `known_clips`."""
    tokens = encoder(known_clips(encoder.input_spec))
    flat = tokens.flatten()
    return tokens.mean().item(), tokens.std().item(), flat[0].item(), flat[-1].item()


def check_known_answer(encoder: Encoder, card: ModelCard) -> None:
    """Raise BenchError where the encoder's answer to `known_clips` is not the card's (within 1e-3)."""
    answer = known_answer(encoder)
    if any(abs(a - b) > 1e-3 for a, b in zip(answer, card.known_answer or (), strict=True)):
        raise BenchError(
            f"answers {[round(a, 5) for a in answer]} to the known clips instead of {list(card.known_answer or ())}",
            where=f"model {card.name}",
            fix="weights, preprocessing or code have changed; no score is given",
        )
