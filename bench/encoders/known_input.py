"""The known input: fixed clips that an encoder answers today as it did when its card was written, here and elsewhere.

Shapes: T frames, S pixels of a side, N tokens of a clip, D channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.hashing import text_digest
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


_PIECES = 32


def known_digest(tokens: Tensor) -> str:
    """16 hex digits that name the tokens [2, N, D] of `known_clips`.

    No hash of all tokens, however rounded, is the same on two machines: among millions of values some lie on the edge
    of a rounding step. So 34 numbers are hashed: the tokens' standard deviation s to two significant digits, their mean
    to 0.1 s, and for each of 32 equal pieces of the standardised tokens, n values in order, their sum weighted with
    cos(0.61 i + 0.2) sqrt(2 / n), i counted over all values, to 0.1. They see scale, shift and order.

    Threads, batches and machines move fp32 tokens by 1e-6 s or so, which moves one of the numbers over an edge in
    about one encoder of a thousand; a change of 0.1 s in the tokens changes the digest nearly always. It holds for
    fp32 on a CPU: half precision and TF32 are too coarse, and move the numbers themselves by hundredths
    (`known_numbers`).
    """
    std, *others = known_numbers(tokens)
    # Adding 0 turns a rounded -0.0 into 0.0.
    numbers = [f"{std:.1e}", *(f"{round(value, 1) + 0.0:.1f}" for value in others)]
    return text_digest(" ".join(numbers))[:16]


def known_numbers(tokens: Tensor) -> list[float]:
    """What `known_digest` hashes, before it is rounded: s, the mean over s, and the 32 weighted sums."""
    flat = tokens.detach().cpu().double().flatten()
    mean, std = flat.mean(), flat.std()
    standard = (flat - mean) / std
    weights = torch.cos(0.61 * torch.arange(len(flat), dtype=torch.float64) + 0.2)
    sums = [piece.sum() * (2 / len(piece)) ** 0.5 for piece in (standard * weights).tensor_split(_PIECES)]
    return [value.item() for value in (std, mean / std, *sums)]
