"""Where training clips come from: numbered draws in, batches of pixels out.

A draw is a number that counts the videos a run has seen. Its clip depends on the seed and on this number alone, so
that batches are the same whatever the number of processes, and a resumed run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class DataFailure:
    """A video that gave no clip and was passed over."""

    id: str
    error: str
    """Why, in one line that names the file."""


@dataclass(frozen=True)
class Batch:
    """The clips of a sequence of draws."""

    pixels: Tensor
    """uint8 RGB [C, T, S, S, 3]: one clip for each draw; where two clips of a video are wanted, all first clips come
    first and then all second ones, C = 2 V."""
    ids: list[str]
    """The video of each draw, V of them."""
    failures: tuple[DataFailure, ...] = ()
    """Videos that were passed over to fill this batch."""


class ClipStream(Protocol):
    """An endless, repeatable source of training clips."""

    num_videos: int | None
    """Videos of one pass over the data; None where they are generated without end."""

    def batches(self, wanted: Iterable[Sequence[int]]) -> Iterator[Batch]:
        """One batch for each sequence of draw numbers, in order; clips may be prepared ahead of need."""
        ...
