"""The scale of tokens, which tells nothing: a power of two brings it to where half precision and epsilons do no harm.

Shapes: N tokens of a clip, D channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ORDINARY_SPREAD = (2.0**-4, 2.0**8)
"""Spread of a token's channels that is left as it is: the epsilons of probes (1e-5 in a variance) are nothing to it."""
_LARGEST = 2.0**12
"""Largest value of the tokens that are looked at, at their scale: half precision ends at 2**16, and others may be
larger."""


def token_scale(tokens: Tensor, ordinary: tuple[float, float] = ORDINARY_SPREAD) -> float:
    """The power of two that brings tokens [..., N, D] to a spread near 1, where theirs is not `ordinary`; else 1.

    The spread is that over the channels of a token, which the norm of attentive probes divides by.
    """
    known = torch.where(tokens.isfinite(), tokens, 0).cpu().double()
    spread, largest = known.var(dim=-1, unbiased=False).mean().sqrt().item(), known.abs().max().item()
    if spread == 0:  # one channel, or channels that are all alike
        spread = known.std(unbiased=False).item()
    if not spread > 0 or (ordinary[0] <= spread <= ordinary[1] and largest <= _LARGEST):
        return 1.0
    wanted, room = -round(math.log2(spread)), math.floor(math.log2(_LARGEST / largest))
    return 2.0 ** max(-126, min(wanted, room, 126))
