"""The k-nearest-neighbour probe: cosine distance between mean-pooled tokens, k chosen on held-out training samples.

Every view of a training sample is a neighbour of its own; held-out and test samples average the votes over views.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bench.cards.load import ProbeCard
from bench.core.errors import BenchError
from bench.probing.source import TokenSource
from bench.probing.split import Rows


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
