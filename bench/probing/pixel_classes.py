"""What a probe of every token is trained and chosen for: the class of each pixel of still images.

Shapes: S settings, n images, b of them at once, N tokens on a grid of h x w, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.threads import free_memory_bytes
from bench.metrics.iou import Confusions, PixelCounts, confusion, mean_iou
from bench.probing import dense
from bench.probing.dense import DenseSweep, Size, as_maps, label_map, mask_losses
from bench.probing.loop import CrossEntropy, Losses
from bench.probing.scoring import Logits
from bench.probing.source import Rows, TokenSource, group_numbers, split_videos

_AT_ONCE = 16
_MEMORY_SHARE = 0.25
"""Share of the free memory that masks in the training size may take; else they are read anew in every epoch."""


class Masks(Protocol):
    """The true classes of numbered images."""

    @property
    def num_classes(self) -> int:
        """C."""
        ...

    def read_all(self, numbers: Sequence[int], side: int | None = None) -> Iterator[NDArray[np.int32]]:
        """The masks of several images in their order: in their own size, or `side` pixels high and wide. VOID where no
        class is meant."""
        ...


class SquareMasks:
    """Masks of one size, read when they are first asked for, and kept where they fit the memory."""

    def __init__(self, masks: Masks, side: int) -> None:
        self._masks, self._side = masks, side
        self._type = np.uint8 if masks.num_classes < np.iinfo(np.uint8).max else np.uint16
        self._room = int(_MEMORY_SHARE * free_memory_bytes(torch.device("cpu")))
        self._kept: dict[int, NDArray[Any]] = {}

    def __call__(self, numbers: Tensor) -> Tensor:
        """The masks of these images [b], int32 [b, side, side] on the device of the numbers."""
        wanted = numbers.tolist()
        missing = [number for number in dict.fromkeys(wanted) if number not in self._kept]
        fresh = dict(zip(missing, self._read(missing), strict=True))
        for number, values in fresh.items():
            if values.nbytes <= self._room:
                self._room -= values.nbytes
                self._kept[number] = values
        stacked = np.stack([fresh[number] if number in fresh else self._kept[number] for number in wanted])
        return torch.from_numpy(stacked.astype(np.int32) - 1).to(numbers.device)

    def _read(self, numbers: Sequence[int]) -> Iterator[NDArray[Any]]:
        """One more than the classes, in few bytes."""
        for found in self._masks.read_all(numbers, self._side):
            yield (found + 1).astype(self._type)


@dataclass(frozen=True)
class _OneClass:
    """Masks that are of the first class everywhere."""

    num_classes: int
    side: int

    def read_all(self, numbers: Sequence[int], side: int | None = None) -> Iterator[NDArray[np.int32]]:
        """As Masks."""
        size = side or self.side
        return (np.zeros((size, size), dtype=np.int32) for _ in numbers)


@dataclass(frozen=True)
class PixelClasses:
    """The class of every pixel; chosen by the mean intersection over union on images that are held out. An
    Objective whose outputs are the rows of `Confusions`, int64 [k, 4]."""

    targets: NDArray[np.int64]
    """[n]: the number of each image, by which its mask is found."""
    masks: Masks = field(repr=False)
    grid: Size
    """Rows and columns of the tokens."""
    side: int
    """Pixels of a side of the masks that are trained on: those that the encoder sees."""
    scored_at: Literal["own"] | int
    """Side of the masks that are scored, pixels; `own` for each mask's own size."""
    batch_norm: bool
    groups: tuple[str, ...] = field(repr=False)
    """[n]: what each image was cut from; its own name where it was not."""
    digests: tuple[str, ...] = field(repr=False)
    """[n]: content of each mask."""
    as_they_are: bool = True

    @property
    def num_outputs(self) -> int:
        """C."""
        return self.masks.num_classes

    @property
    def losses(self) -> Losses:
        """As Objective, of a pixel."""
        return CrossEntropy()

    @cached_property
    def squares(self) -> SquareMasks:
        """The masks that are trained on."""
        return SquareMasks(self.masks, self.side)

    def initial(self, embed_dim: int, num_blocks: int, *, seed: int) -> dict[str, Tensor]:
        """As Objective, of a linear probe of each token."""
        return dense.initial_weights(embed_dim, self.num_outputs, batch_norm=self.batch_norm, seed=seed)

    def sweep(self, initial: dict[str, Tensor], num_settings: int) -> DenseSweep:
        """Untrained probes."""
        return DenseSweep(initial, num_settings, self.grid, self.squares)

    def take(self, rows: Rows) -> PixelClasses:
        """As Objective."""
        groups, digests = (tuple(values[row] for row in rows.tolist()) for values in (self.groups, self.digests))
        return replace(self, targets=self.targets[rows], groups=groups, digests=digests)

    def draw(self, share: float, *, seed: int) -> Rows:
        """Whole images, or videos of images."""
        return split_videos(self.groups, 1 - share, seed=seed)[0]

    def hold_out(self, share: float, *, seed: int) -> tuple[Rows, Rows]:
        """Whole images, or videos of images (bench.probing.source)."""
        return split_videos(self.groups, share, seed=seed)

    @torch.no_grad()
    def qualities(
        self, logits: Logits, source: TokenSource, rows: Rows, targets: NDArray[np.int64], *, device: str, at_once: int
    ) -> tuple[list[float], list[float]]:
        """As Objective: mean intersection over union of masks as they are scored; the loss is of those trained on."""
        counted: list[list[NDArray[np.int64]]] = []
        losses = []
        for start in range(0, len(rows), at_once):
            block = rows[start : start + at_once]
            maps = as_maps(logits(source.read(block, 0).to(device)), self.grid)
            numbers = torch.from_numpy(targets[block]).to(device)
            with torch.enable_grad():
                losses.append(mask_losses(maps, self.squares(numbers))[0])
            truths = list(self.masks.read_all(numbers.tolist(), self._scored_side))
            counted.append([self._confusions(one, truths) for one in maps])
        totals = [np.sum(parts, axis=0) for parts in zip(*counted, strict=True)]
        return [self._iou(total) for total in totals], torch.cat(losses, dim=1).double().mean(dim=1).tolist()

    def _confusions(self, maps: Tensor, truths: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        """The confusion of one setting's maps [b, C, h, w], summed; all zero where they are not finite."""
        if not bool(maps.isfinite().all()):
            return np.zeros((self.num_outputs, self.num_outputs), dtype=np.int64)
        parts = [
            confusion(truth, label_map(one, (truth.shape[0], truth.shape[1])), self.num_outputs)
            for one, truth in zip(maps, truths, strict=True)
        ]
        total: NDArray[np.int64] = np.sum(parts, axis=0)
        return total

    def _iou(self, total: NDArray[np.int64]) -> float:
        counts = PixelCounts.of(Confusions.of([total]), 1, self.num_outputs)
        return mean_iou(counts) if total.any() else 0.0

    @property
    def _scored_side(self) -> int | None:
        return None if self.scored_at == "own" else self.scored_at

    @torch.no_grad()
    def outputs(
        self, probe: nn.Module, source: TokenSource, targets: NDArray[np.int64] | None, *, device: str
    ) -> NDArray[np.int64]:
        """The confusions of all images of a source, whose numbers are `targets`: image (its row), true class, predicted
        class and pixels. One image after another: maps of all images would fill the memory.

        Raises BenchError where the logits of an image are not finite.
        """
        if targets is None:
            raise ValueError("maps are counted against the masks of their images")
        probe = probe.to(device)
        found = Confusions.of(self._of_images(probe, source, targets, device))
        return np.stack([found.image, found.true, found.predicted, found.pixels], axis=1)

    def _of_images(
        self, probe: nn.Module, source: TokenSource, targets: NDArray[np.int64], device: str
    ) -> Iterator[NDArray[np.int64]]:
        for start in range(0, source.num_samples, _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, source.num_samples))
            maps = as_maps(probe(source.read(rows, 0).to(device)), self.grid)
            truths = self.masks.read_all(targets[rows].tolist(), self._scored_side)
            for row, one, truth in zip(rows.tolist(), maps, truths, strict=True):
                if not bool(one.isfinite().all()):
                    raise BenchError(
                        "the outputs of the probe are NaN or infinite",
                        where=f"test sample {row}",
                        fix="the encoder or the probe overflowed; run it in fp32",
                    )
                yield confusion(truth, label_map(one, (truth.shape[0], truth.shape[1])), self.num_outputs)

    def made_up(self, count: int, num_classes: int) -> PixelClasses:
        """As Objective: images of the size that is trained on, of one class."""
        names = tuple(map(str, range(count)))
        return replace(
            self, targets=np.arange(count), masks=_OneClass(self.num_outputs, self.side), groups=names, digests=names
        )

    def facts(self) -> list[Any]:
        """As Objective."""
        groups = group_numbers(self.groups)
        return ["pixels", list(self.digests), groups, self.num_outputs, list(self.grid), self.side, self.scored_at]
