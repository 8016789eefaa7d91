"""What half precision makes of tokens on their way to the cache: nothing that matters, or the run is refused.

Shapes: n clips, N tokens of a clip, D channels; any shape [..., D] of tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.encoders.contract import Encoder
from bench.features.store import rounded

LARGEST = torch.finfo(torch.float16).max
_LOST = 0.25
"""Rounding error, as a share of a channel's spread over tokens and clips, above which the channel counts as lost."""
_LOST_CHANNELS = {16: 0.1, 8: 0.5}
"""Share of lost channels that is refused, by the bits of a channel. Unnormed transformers have a few channels that are
hundreds of times as large as the others; in 8 bits these are dear to the others of their token, and users were told."""
_SMALLEST_SPREAD = 1e-5**0.5
"""Spread of a token's channels below which the epsilon of the official probe's norm outweighs them."""
_LOOKED_AT = 64
"""Clips over which the rounding is watched."""
_ENOUGH = 8
"""Clips that tell how tokens vary; fewer may all be of one colour."""
_SCALE_IT = "end the encoder with a norm, or make it one of your own, whose tokens are scaled (docs/extending.md)"
_NOISE = 2.4e-7
"""Spread of a channel, as a share of its value, that is float32 rounding and tells nothing."""


def check_finite(encoder: Encoder, tokens: Tensor, name: Callable[[int], str]) -> None:
    """Raise BenchError, with the name of the first clip, where tokens [n, N, D] in float32 are not finite.

    `name` says what a clip was read from.
    """
    if tokens.isfinite().all():
        return
    row = int((~tokens.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    bad = tokens[row].flatten()
    kind = "NaN (not a number)" if bad.isnan().any() else "infinite values"
    lower = "say --precision fp32; if it stays, " if encoder.precision != "fp32" else ""
    raise BenchError(
        f"the encoder gives {kind} for {name(row)}, in {int((~bad.isfinite()).sum()):,} of {len(bad):,} values",
        where=f"model {encoder.name}",
        fix=f"{lower}mend the encoder's weights or code, or take the clip off the list",
    )


class HalfPrecision:
    """Tokens on their way to the cache of one feature space: fp16, or 8 bits made from it.

    `enough`: how many clips it takes to judge what rounding does to them.
    """

    def __init__(self, encoder: Encoder, token_bits: int, *, enough: int = _ENOUGH) -> None:
        self._encoder, self._bits, self._enough = encoder, token_bits, enough
        self._clips = 0
        self._tokens = 0
        self._within = 0.0
        """Sum of the variances of tokens over their channels."""
        self._reference: Tensor | None = None
        """[D], near all tokens, so that sums of squares keep what is small beside it."""
        self._sums: list[Tensor] = []
        """[D] each: of deviations from the reference, of their squares, of squared rounding errors."""

    def rounded(self, tokens: Tensor, name: Callable[[int], str]) -> Tensor:
        """Tokens [n, N, D] in float32 -> fp16. Raises BenchError, with the name of the first clip, where they are not
        finite there."""
        half = tokens.to(torch.float16)
        if not half.isfinite().all():
            check_finite(self._encoder, tokens, name)
            row = int((~half.isfinite()).flatten(1).any(dim=1).nonzero()[0])
            raise BenchError(
                f"the tokens of {name(row)} are not finite in half precision, in which they are kept: they reach "
                f"{tokens[row].abs().max().item():.3g}, and it ends at {LARGEST:.0f}",
                where=f"model {self._encoder.name}",
                fix=_SCALE_IT,
            )
        if self._clips < _LOOKED_AT:
            self.watch(tokens, half)
        return half

    def watch(self, tokens: Tensor, half: Tensor) -> None:
        """Note what became of tokens [n, N, D] in half precision; both finite."""
        self._clips += len(tokens)
        tokens, half = tokens.flatten(0, -2), half.flatten(0, -2)
        if self._reference is None:
            self._reference = tokens[0].clone()
            self._sums = [torch.zeros(tokens.shape[1], dtype=torch.float64) for _ in range(3)]
        kept = half.float() if self._bits == 16 else rounded(half.float())
        deviations = tokens - self._reference
        for total, values in zip(self._sums, (deviations, deviations.square(), (kept - tokens).square()), strict=True):
            total += values.sum(dim=0).cpu()
        self._within += tokens.var(dim=-1, unbiased=False).sum().item()
        self._tokens += len(tokens)

    def check(self) -> None:
        """Raise BenchError where rounding has taken from the tokens so far what distinguishes them, or where their
        differences are below the epsilon of probes' layer norms. To be called before they are written."""
        if self._reference is None or self._clips < self._enough:
            return
        spread = (self._within / self._tokens) ** 0.5
        mean, squares, errors = (total / self._tokens for total in self._sums)
        spreads = (squares - mean.square()).clamp(min=0).sqrt()
        values = (self._reference.cpu().double() + mean).abs()
        vary = spreads > 0
        tell = vary & (spreads > _NOISE * values)
        lost = tell & (errors.sqrt() > _LOST * spreads)
        if vary.any() and (not tell.any() or lost.sum() > _LOST_CHANNELS[self._bits] * tell.sum()):
            which = lost if lost.any() else vary
            kind = "half precision" if self._bits == 16 else "8 bits"
            fix = "take the constant part off in the encoder, such as by a norm"
            fix = fix if self._encoder.precision == "fp32" else f"say --precision fp32, or {fix}"
            raise BenchError(
                f"{kind}, in which tokens are kept, rounds away what tells them apart: channels lie at "
                f"{values[which].median().item():.3g} and vary by {spreads[which].median().item():.1g}",
                where=f"model {self._encoder.name}",
                fix=fix if self._bits == 16 else "keep 16 bits: --token-bits 16",
            )
        if 0 < spread < _SMALLEST_SPREAD:
            raise BenchError(
                f"the channels of its tokens vary by {spread:.1g} only, which the epsilon in the norm of attentive "
                "probes (1e-5 in a variance) outweighs",
                where=f"model {self._encoder.name}",
                fix=_SCALE_IT,
            )
