"""The linear probe: mean-pooled tokens, standardised, one linear layer; all settings of a sweep at once.

Every feature is standardised by its mean and deviation over the samples that are trained on, which is BatchNorm
without scale and shift whose statistics are those of the whole split. Without it the useful learning rates depend on
the scale of an encoder's features, and one sweep cannot be fair to two encoders.

Shapes: S settings, B clips, N tokens, D channels, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from bench.probing.loop import CrossEntropy, Losses
from bench.probing.source import PooledTokens
from bench.probing.split import Rows
from bench.probing.stack import Stack

EPS = 1e-6
WEIGHT, BIAS = "linear.weight", "linear.bias"


def initial_weights(embed_dim: int, num_classes: int, *, seed: int) -> dict[str, Tensor]:
    """Normal weights of deviation 0.01 drawn from `seed`, zero biases."""
    values = np.random.RandomState(seed).standard_normal((num_classes, embed_dim)) * 0.01
    return {WEIGHT: torch.from_numpy(values.astype(np.float32)), BIAS: torch.zeros(num_classes)}


def standardisation(pooled: PooledTokens, rows: Rows) -> tuple[Tensor, Tensor]:
    """Mean and deviation [D] of the features of these samples, all views, summed in float64."""
    features = torch.cat([pooled.read(rows, view)[:, 0] for view in range(pooled.num_views)]).double()
    variance = features.var(dim=0, unbiased=False)
    return features.mean(dim=0).float(), (variance + EPS).sqrt().float()


class LinearSweep:
    """S linear classifiers that share their initial weights and see the same features."""

    def __init__(
        self,
        initial: Mapping[str, Tensor],
        num_settings: int,
        mean: Tensor,
        deviation: Tensor,
        losses: Losses = CrossEntropy(),
    ) -> None:
        self.stack = Stack(initial, num_settings)
        self.mean, self.deviation = mean, deviation
        self._losses = losses

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [S, B, C]."""
        x = (tokens.float().mean(dim=1) - self.mean) / self.deviation
        weights = self.stack.weights
        return x @ weights[WEIGHT].mT + weights[BIAS][:, None]

    def backward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Fill the gradients of every setting's mean loss on tokens [B, N, D], targets [B]; return the losses [S]."""
        losses = self._losses.means(self.logits(tokens), targets)
        self.stack.backward(losses)
        return losses.detach()

    def probe(self, index: int) -> LinearProbe:
        """One setting as a probe of its own."""
        return LinearProbe({**self.stack.setting(index), "mean": self.mean, "deviation": self.deviation})


class LinearProbe(nn.Module):
    """One frozen linear probe, tokens [B, N, D] -> logits [B, C]."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.mean = nn.Parameter(tensors["mean"], requires_grad=False)
        self.deviation = nn.Parameter(tensors["deviation"], requires_grad=False)
        num_classes, embed_dim = tensors[WEIGHT].shape
        self.linear = nn.Linear(embed_dim, num_classes, device="meta")
        self.linear.load_state_dict({"weight": tensors[WEIGHT], "bias": tensors[BIAS]}, assign=True)
        self.requires_grad_(False).eval()

    def forward(self, tokens: Tensor) -> Tensor:
        x = (tokens.float().mean(dim=1) - self.mean) / self.deviation
        logits: Tensor = self.linear(x)
        return logits
