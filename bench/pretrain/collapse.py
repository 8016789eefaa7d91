"""Whether features are still worth anything: their spread over clips, and how many directions they fill.

A small loss does not tell: an encoder that gives every clip the same features is easy to predict.

Shapes: B clips, N tokens of a clip, D channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_STD_SHARE = 0.01
LEAST_POOLED_SHARE = 0.04
LEAST_TOKENS_SHARE = 0.10
LEAST_CLIPS = 8
"""Where features begin to count as collapsed; `collapse_reason` has the grounds."""

_MOST_ROWS = 4096


@dataclass(frozen=True)
class Health:
    """How the features of a batch of clips are spread. A figure that the clips do not tell is NaN."""

    std: float
    """Standard deviation over clips, mean over tokens and channels; NaN for a single clip."""
    size: float
    """Root mean square of all values: what `std` is small or large against."""
    rank_pooled: float
    """Effective rank of the clips' mean tokens, 1 to min(B - 1, D)."""
    rank_tokens: float
    """Effective rank of the tokens without the mean of their position, 1 to D."""
    embed_dim: int
    num_clips: int


@torch.no_grad()
def feature_health(tokens: Tensor) -> Health:
    """Spread and effective ranks of tokens [B, N, D] of B clips, computed in float32 on the tokens' device.

    Tokens that are not all finite give NaN throughout. Of more than 4096 tokens the rank is that of 4096, the same
    ones at every call. Raises ValueError for another shape.
    """
    if tokens.ndim != 3 or not tokens.numel():
        raise ValueError(f"feature_health takes tokens [B, N, D], not {list(tokens.shape)}")
    B, N, D = tokens.shape
    x = tokens.detach().float()
    size = x.square().mean().sqrt().item()
    if not math.isfinite(size):
        return Health(math.nan, math.nan, math.nan, math.nan, embed_dim=D, num_clips=B)
    largest = x.abs().max().item()
    of_position = x.mean(dim=0)
    # Drawn on the CPU, where the same seed gives the same rows for every device.
    rows = torch.randperm(B * N, generator=torch.Generator().manual_seed(0))[:_MOST_ROWS].to(x.device)
    return Health(
        std=x.std(dim=0).mean().item() if B > 1 else math.nan,
        size=size,
        rank_pooled=effective_rank(x.mean(dim=1), magnitude=largest),
        rank_tokens=effective_rank(x.reshape(B * N, D)[rows] - of_position[rows % N], magnitude=largest),
        embed_dim=D,
        num_clips=B,
    )


def effective_rank(rows: Tensor, *, magnitude: float) -> float:
    """exp of the entropy of the normalised singular values of the centred rows [n, D] (Roy and Vetterli 2007).

    `magnitude` is the largest number that the rows were computed from: what its rounding leaves of equal rows is no
    direction. At least 1, where all rows are the same or lie on one line; at most min(n - 1, D).
    """
    n, D = rows.shape
    values = torch.linalg.svdvals(rows - rows.mean(dim=0))
    # A matrix of rounding errors e has singular values of up to about e (sqrt(n) + sqrt(D)).
    values = values[values > 2 * magnitude * torch.finfo(rows.dtype).eps * (math.sqrt(n) + math.sqrt(D))]
    if not len(values):
        return 1.0
    shares = values / values.sum()
    return math.exp(torch.special.entr(shares).sum().item())


def collapse_reason(health: Health) -> str | None:
    """Why these features count as collapsed, in one clause; None where they do not, or where B clips cannot tell.

    Collapsed is
    - a standard deviation over clips below 1 % of the features' size: healthy runs keep more than a tenth;
    - a pooled rank below 4 % of what it could be, min(B - 1, D): collapsed runs had 1.8 % (2.3 of 128) and 2.5 %
      (1.6 of 64), the lowest run that had not collapsed 5.5 % (7 of 128), untrained encoders 19 to 63 %;
    - a token rank below 10 % of D: collapsed runs had 4.3 % (5.5 of 128) and 4.5 % (2.9 of 64), the lowest run that
      had not collapsed 23 % (30 of 128), untrained encoders 25 to 72 %. It is judged from 8 clips on: of fewer,
      one difference between them, such as their brightness, can be most of what is left.

    The figures are of encoders of 64 and 128 channels on moving digits, with the position means still in the token
    rank; taking them off raised it by 3 to 11 % on healthy encoders of 64 channels.
    """
    D, B = health.embed_dim, health.num_clips
    if not math.isfinite(health.size):
        return "features are not finite"
    if health.std < LEAST_STD_SHARE * health.size or health.size == 0:
        share = 100 * health.std / health.size if health.size else 0.0
        return (
            f"features hardly differ between clips: standard deviation {health.std:.2g}, {share:.2g} % of their size"
            f" (at least {100 * LEAST_STD_SHARE:g} % is healthy)"
        )
    ranks = [("clip means", health.rank_pooled, min(B - 1, D), LEAST_POOLED_SHARE)]
    if B >= LEAST_CLIPS:
        ranks.append(("tokens", health.rank_tokens, D, LEAST_TOKENS_SHARE))
    for name, rank, most, share in ranks:
        if rank < share * most:
            return (
                f"{name} fill {rank:.1f} of {most} directions (effective rank; at least {share * most:.1f} is healthy)"
            )
    return None
