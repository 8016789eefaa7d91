"""How many clips the encoder is given at once: halved where the device has not the memory, until one is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

Encoded = TypeVar("Encoded")


@dataclass
class ClipsAtOnce:
    """The largest batch that is tried; what did not fit once is not tried again."""

    size: int
    halved: bool = False
    """Whether memory ran out on a larger one."""

    @property
    def halved_to(self) -> int | None:
        """What goes to the record: the size, where it is not the one that was asked for."""
        return self.size if self.halved else None

    def fitting(self, encode: Callable[[int], Encoded]) -> Encoded:
        """What `encode` gives for the largest number of clips at once that fits.

        Raises torch.cuda.OutOfMemoryError where a single clip does not fit.
        """
        while True:
            try:
                return encode(self.size)
            except torch.cuda.OutOfMemoryError:
                if self.size == 1:
                    raise
            # Here, not in the handler: there the traceback still holds the tensors that filled the memory.
            self.size, self.halved = self.size // 2, True
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
