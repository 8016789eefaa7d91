"""The known-input check: an encoder answers two fixed clips today as it did when its card was written.

Shapes: T frames, S pixels of a side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.encoders.catalog import ModelCard
from bench.encoders.contract import Encoder, InputSpec


def known_clips(spec: InputSpec) -> Tensor:
    """Two fixed clips [2, 3, T, S, S] for the check that an encoder answers as when its card was written."""
    T, S = spec.num_frames, spec.resolution
    steps = torch.arange(2 * 3 * T * S * S, dtype=torch.float64)
    return torch.sin(steps * 0.37 + torch.sin(steps * 0.011)).float().view(2, 3, T, S, S)


def moving_clips(spec: InputSpec) -> Tensor:
    """Three fixed clips [3, 3, T, S, S] that look like pictures, for encoders whose code nobody here has read.

    An edge between bright and dark moves right, then left in a brighter clip, and right again in one of twice the
    contrast, over the texture of `known_clips`. Red, green and blue have contrasts of their own. So no frame, colour,
    side or brightness is like another, and an edit of what is done with one of them shows; in noise, few would.
    """
    T, S = spec.num_frames, spec.resolution
    moved = torch.arange(T) / max(T - 1, 1)
    edges = torch.stack([0.5 + 0.4 * moved, 0.9 - 0.4 * moved])  # [2, T], in widths
    columns = (torch.arange(S) + 0.5) / S
    bright = 2.0 * (columns < edges[..., None]) - torch.tensor([1.0, 0.6]).view(2, 1, 1)  # [2, T, S]
    contrast = torch.tensor([0.6, 1.0, 1.2]).view(3, 1, 1, 1)
    first_two = contrast * bright[:, None, :, None, :] + 0.3 * known_clips(spec)
    return torch.cat([first_two, 2 * first_two[:1]])


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
