"""Several probes that answer together: the mean of what each of them says.

Shapes: M probes, B clips, N tokens, D channels, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.probing.attentive import AttentiveProbe


class MeanProbe(nn.Module):
    """Frozen probes as one, tokens [B, N, D] -> logits [B, C] whose softmax is the mean of the probes' softmax."""

    def __init__(self, probes: Sequence[AttentiveProbe]) -> None:
        super().__init__()
        self.probes = nn.ModuleList(probes)
        self.eval()

    @property
    def token_scale(self) -> float:
        """As of its probes."""
        return float(self.first.token_scale)

    @token_scale.setter
    def token_scale(self, scale: float) -> None:
        for probe in self.probes:
            probe.token_scale = scale  # type: ignore[assignment]

    @property
    def first(self) -> AttentiveProbe:
        """One of its probes; all have the same shapes."""
        first: AttentiveProbe = self.probes[0]  # type: ignore[assignment]
        return first

    def forward(self, tokens: Tensor) -> Tensor:
        logits = torch.stack([probe(tokens) for probe in self.probes]).float()
        return logits.log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))
