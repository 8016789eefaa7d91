"""Probes of mean-pooled tokens: one linear layer on standardised ones, all settings of a sweep at once, and nearest
neighbours by cosine distance, with k chosen on held-out training samples.

For the linear probe every feature is standardised by its mean and deviation over the samples that are trained on, which
is BatchNorm without scale and shift whose statistics are those of the whole split. Without it the useful learning rates
depend on the scale of an encoder's features, and one sweep cannot be fair to two encoders. For nearest neighbours every
view of a training sample is a neighbour of its own; held-out and test samples average the votes over views.

Shapes: S settings, B clips, N tokens, D channels, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bench.cards.load import ProbeCard
from bench.core.errors import BenchError
from bench.probing.loop import CrossEntropy, Losses
from bench.probing.source import PooledTokens, Rows, TokenSource
from bench.probing.weights import Stack

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


def check_neighbours(card: ProbeCard, num_samples: int, num_views: int) -> None:
    """Raise BenchError where a recipe asks for more neighbours than so many training samples have views."""
    most = max(card.neighbours, default=0)
    if most > num_samples * num_views:
        raise BenchError(
            f"k = {most} neighbours, but only {num_samples} training samples",
            where=f"probe {card.name}",
            fix="give smaller values with --set probe.neighbours=[...]",
        )


class KnnProbe(nn.Module):
    """Tokens [B, N, D] -> the logarithm of the neighbours' votes [B, C] (minus infinity for none), on the CPU.

    The softmax of its output is the share of votes.
    """

    def __init__(self, source: TokenSource, rows: Rows, labels: Rows, num_classes: int, k: int) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        super().__init__()
        self.num_classes = num_classes
        self.token_scale = 1.0
        """As of an attentive probe."""
        views = [source.read(rows, view).float().mean(dim=1).numpy() for view in range(source.num_views)]
        self._classifier = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute")
        self._classifier.fit(np.concatenate(views), np.tile(labels[rows], len(views)))
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        features = (tokens.float() * self.token_scale).mean(dim=1).cpu().numpy()
        votes = np.zeros((len(features), self.num_classes), dtype=np.float32)
        votes[:, self._classifier.classes_] = self._classifier.predict_proba(features)
        return torch.from_numpy(votes).log()


class KnnSweep:
    """One probe for every value of k, on the same neighbours."""

    def __init__(
        self, source: TokenSource, rows: Rows, labels: Rows, num_classes: int, neighbours: Sequence[int]
    ) -> None:
        self._probes = [KnnProbe(source, rows, labels, num_classes, k) for k in neighbours]

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> log votes [S, B, C]."""
        return torch.stack([probe(tokens) for probe in self._probes])

    def probe(self, index: int) -> KnnProbe:
        """The probe of one k."""
        return self._probes[index]
