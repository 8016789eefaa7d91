"""What a probe learns from: the tokens of one split, row by row, normalised, or their means; and which examples a
choice is made on: a share of every class, or of the videos, drawn from a seed.

Shapes: b samples, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.core.errors import BenchError

_READ = 256
"""Samples that are read at once when a whole split is pooled."""


class TokenSource(Protocol):
    """Features of one split."""

    num_samples: int
    num_views: int
    num_tokens: int
    embed_dim: int

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, D] of these samples, float16 or float32, on the CPU."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """Training samples that a setting is chosen on, where other clips of them are looked at than are trained on."""

    rows: Rows
    """All of them, numbered among the training samples: none is trained on before the choice."""
    readable: Rows
    """Samples whose clips could be read."""
    tokens: TokenSource
    """Tokens of the readable ones, in their order."""


@dataclass(frozen=True)
class TestSamples:
    """The test split, where a recipe chooses its setting on it as its paper does."""

    __test__ = False
    """Not a test, though pytest would take its name for one."""
    tokens: TokenSource
    targets: npt.NDArray[np.int64]
    """As of a bench.probing.objectives.Objective."""


class SingleClips:
    """K clips of every view as K views of one clip each: views [V, b, K * N, D] become [V * K, b, N, D].

    A TokenSource. Probabilities are averaged over views, so each clip is classified on its own (protocol.md 4.3).
    """

    def __init__(self, source: TokenSource, num_clips: int) -> None:
        self._source, self._num_clips = source, num_clips
        self.num_samples, self.embed_dim = source.num_samples, source.embed_dim
        self.num_views, self.num_tokens = source.num_views * num_clips, source.num_tokens // num_clips
        self._rows: Rows | None = None
        self._view = -1
        self._tokens: Tensor | None = None

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, D] of one clip of these samples."""
        whole, clip = divmod(view, self._num_clips)
        # The clips of the same samples are asked for one after another, and lie in the same place: it is read once.
        if self._tokens is None or self._view != whole or self._rows is not rows:
            self._tokens, self._view, self._rows = self._source.read(rows, whole), whole, rows
        # A copy of their own: matrix products may round by how their operands lie in memory.
        return self._tokens[:, clip * self.num_tokens : (clip + 1) * self.num_tokens].contiguous()


class SomeTokens:
    """Some samples of a token source. A TokenSource."""

    def __init__(self, source: TokenSource, rows: Rows) -> None:
        self._source, self._rows = source, rows
        self.num_samples, self.num_views = len(rows), source.num_views
        self.num_tokens, self.embed_dim = source.num_tokens, source.embed_dim

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, D] of these samples, numbered among the kept ones."""
        return self._source.read(self._rows[rows], view)


class ScaledTokens:
    """The tokens of another source times a power of two. A TokenSource."""

    def __init__(self, source: TokenSource, scale: float) -> None:
        self.num_samples, self.num_views = source.num_samples, source.num_views
        self.num_tokens, self.embed_dim = source.num_tokens, source.embed_dim
        self.source, self.scale = source, scale

    def read(self, rows: Rows, view: int) -> Tensor:
        """Scaled tokens [b, N, D] of these samples, float32."""
        return self.source.read(rows, view).float() * self.scale


class NormalisedTokens:
    """The tokens of a small split with zero mean and unit variance, read once and kept: [views, samples, N, D] float32.

    A TokenSource. Without it, every epoch would read, convert and normalise the same tokens again.
    """

    def __init__(self, source: TokenSource, *, eps: float) -> None:
        self.num_samples, self.num_views = source.num_samples, source.num_views
        self.num_tokens, self.embed_dim = source.num_tokens, source.embed_dim
        self.values = torch.empty(self.num_views, self.num_samples, self.num_tokens, self.embed_dim)
        rows = np.arange(self.num_samples)
        for view, values in enumerate(self.values):
            for start in range(0, self.num_samples, _READ):
                tokens = source.read(rows[start : start + _READ], view).float()
                values[start : start + _READ] = F.layer_norm(tokens, tokens.shape[-1:], eps=eps)

    def read(self, rows: Rows, view: int) -> Tensor:
        """Normalised tokens [b, N, D] of these samples."""
        return self.values[view].index_select(0, torch.from_numpy(rows))


class PooledTokens:
    """The means over tokens of a whole split, read once and kept: [views, samples, 1, D] float32. A TokenSource."""

    num_tokens = 1

    def __init__(self, source: TokenSource) -> None:
        self.num_samples, self.num_views, self.embed_dim = (
            source.num_samples,
            source.num_views,
            source.embed_dim,
        )
        rows = np.arange(source.num_samples)
        blocks = [rows[i : i + _READ] for i in range(0, len(rows), _READ)]
        self.values = torch.stack(
            [
                torch.cat([source.read(block, view).float().mean(dim=1, keepdim=True) for block in blocks])
                for view in range(source.num_views)
            ]
        )

    def read(self, rows: Rows, view: int) -> Tensor:
        """Means [b, 1, D] of these samples."""
        return self.values[view, torch.from_numpy(rows)]


Rows = npt.NDArray[np.int64]


def stratified_split(labels: Rows, share: float, *, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows held out, both sorted; round(share * n), one at least, held out, in proportion to the
    classes.

    Every class keeps at least one sample to train on, so a class with a single sample is never held out, and what
    such classes cannot give is not taken from others. Unlike scikit-learn's, this split also exists for classes with
    one sample and for fewer held-out samples than classes.
    """
    stream = np.random.RandomState(seed)
    classes, quota = _quota(labels, share, stream)
    held_out = np.zeros(len(labels), dtype=bool)
    for index, number in enumerate(quota):
        members = np.flatnonzero(classes == index)
        held_out[stream.permutation(members)[:number]] = True
    return _sides(held_out, labels)


def group_numbers(names: Sequence[str]) -> list[int]:
    """The number of each sample's group, by the order of the names, which is that in which splits draw them: what a key
    of trained probes needs of groups whose names may be paths of this machine."""
    numbers: list[int] = np.unique(np.asarray(names), return_inverse=True)[1].tolist()
    return numbers


def grouped_split(labels: Rows, groups: Sequence[str], share: float, *, seed: int) -> tuple[Rows, Rows]:
    """The same of whole groups, so that what was made of one thing is never on both sides.

    Groups are taken in an order drawn from the seed, each one that no class has too many of for its part. So a little
    less than the share may be held out; where every group is too large for that, it is the smallest that leaves samples
    of every class.
    """
    stream = np.random.RandomState(seed)
    classes, quota = _quota(labels, share, stream)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    held_out, left, counts = np.zeros(len(labels), dtype=bool), quota.copy(), np.bincount(classes)
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    order = stream.permutation(len(rows))
    for group in order:
        wanted = np.bincount(classes[rows[group]], minlength=len(quota))
        if (wanted <= left).all():
            held_out[rows[group]], left = True, left - wanted
    if not held_out.any():
        fitting = [g for g in order if (np.bincount(classes[rows[g]], minlength=len(quota)) < counts).all()]
        if fitting:
            held_out[rows[min(fitting, key=lambda g: len(rows[g]))]] = True
    return _sides(held_out, labels)


def _quota(labels: Rows, share: float, stream: np.random.RandomState) -> tuple[Rows, Rows]:
    """The class of each row, by its place among those that occur, and how many of each are to be held out."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = share * counts
    quota = np.minimum(np.floor(wanted).astype(np.int64), counts - 1)
    missing = max(1, round(share * len(labels))) - int(quota.sum())
    # Largest remainders first; ties in an order drawn from the seed, so that no class is favoured for its number.
    order = stream.permutation(len(counts))
    for index in order[np.argsort(-(wanted - quota)[order], kind="stable")]:
        if missing > 0 and quota[index] < min(counts[index] - 1, np.ceil(wanted[index])):
            quota[index] += 1
            missing -= 1
    return classes, quota


def _sides(held_out: npt.NDArray[np.bool_], labels: Rows) -> tuple[Rows, Rows]:
    if not held_out.any():
        raise BenchError(
            f"{len(labels)} training samples of {len(set(labels.tolist()))} classes leave none to choose a setting on",
            where="selection.held_out",
            fix="give more training samples, or a recipe with one setting such as vjepa1-paper",
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_videos(videos: Sequence[str], share: float, *, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and rows held out, both rising, where what was cut from one video is alike.

    `videos` [n] name what each sample was cut from. Whole videos are held out, in an order drawn from `seed`, until
    `share` of the rows is. Raises BenchError for a single video.
    """
    names, member, counts = np.unique(np.asarray(videos), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise BenchError(
            f"all {len(videos)} training samples are of one video, which leaves none to choose a setting on",
            where="selection.held_out",
            fix="give more training videos, or a recipe with one setting",
        )
    order = np.random.RandomState(seed).permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    taken = order[: max(1, int((before < share * len(videos)).sum()))][: len(names) - 1]
    held_out = np.isin(member, taken)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
