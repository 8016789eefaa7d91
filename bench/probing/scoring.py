"""Probabilities of probes for the samples of a split, and how well they fit the labels.

Views are combined as protocol.md 4.3 does at test: the mean of their softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.probing.source import TokenSource
from bench.probing.split import Rows

_FLOOR = math.log(torch.finfo(torch.float32).eps)
"""Least log-probability that a loss sees, as in scikit-learn's log_loss: a k-nearest-neighbour vote can be zero."""

Logits = Callable[[Tensor], Tensor]
"""Tokens [B, N, D] -> logits [S, B, C]."""


@torch.no_grad()
def log_probabilities(
    logits: Logits, source: TokenSource, rows: Rows, *, device: str, batch_size: int
) -> Iterator[tuple[Rows, Tensor]]:
    """(rows, log-probabilities [S, b, C]) block by block, the views of a sample averaged."""
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        views = [
            logits(source.read(block, view).to(device)).float().log_softmax(dim=-1) for view in range(source.num_views)
        ]
        yield block, torch.stack(views).logsumexp(dim=0) - math.log(len(views))


def held_out_scores(
    logits: Logits, source: TokenSource, rows: Rows, labels: Rows, *, device: str, batch_size: int
) -> tuple[list[int], list[float]]:
    """Of each setting: correctly classified samples, and the mean loss."""
    correct: list[npt.NDArray[np.int64]] = []
    loss: list[npt.NDArray[np.float64]] = []
    for block, log_p in log_probabilities(logits, source, rows, device=device, batch_size=batch_size):
        targets = torch.from_numpy(labels[block]).to(log_p.device)
        correct.append((log_p.argmax(dim=-1) == targets).sum(dim=1).cpu().numpy())
        picked = log_p.gather(-1, targets.expand(len(log_p), -1)[..., None]).squeeze(-1)
        loss.append(-picked.clamp(min=_FLOOR).double().sum(dim=1).cpu().numpy())
    return np.sum(correct, axis=0).tolist(), (np.sum(loss, axis=0) / len(rows)).tolist()


def predict(
    probe: nn.Module, test: TokenSource, *, device: str = "cpu", batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Probabilities [n, C] float32 of all samples: the softmax averaged over the views (protocol.md 4.3)."""
    probe = probe.to(device)
    parts = log_probabilities(
        lambda tokens: probe(tokens)[None],
        test,
        np.arange(test.num_samples),
        device=device,
        batch_size=batch_size,
    )
    return np.concatenate([log_p[0].exp().cpu().numpy() for _, log_p in parts])


@torch.no_grad()
def mean_sigmoid(
    probe: nn.Module, source: TokenSource, *, device: str, batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Sigmoids [n, C] float32 of all examples, every output on its own: the mean over their views."""
    probe = probe.to(device)
    rows = np.arange(source.num_samples)
    parts = []
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        views = [probe(source.read(block, view).to(device)).float().sigmoid() for view in range(source.num_views)]
        parts.append(torch.stack(views).mean(dim=0).cpu().numpy())
    return np.concatenate(parts)
