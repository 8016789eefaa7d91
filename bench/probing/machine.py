"""What a training of many small steps asks of the machine: few threads, and memory that stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL_STEP = 1 << 22
"""Numbers (tokens and weights) in a step below which one thread is faster than two: handing work over costs more."""
_ARENA_BYTES = 31 << 20


@contextmanager
def small_steps(device: torch.device, numbers: int) -> Iterator[None]:
    """Run the block with threads and allocation fit for steps of so many numbers; restore the threads afterwards."""
    if device.type != "cpu":
        yield
        return
    keep_freed_memory()
    before = torch.get_num_threads()
    if numbers < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step: without it a sixth of a small step is page faults.

    glibc raises its limit for returning memory to the system (at most to 32 MiB) when a block of that size is freed.
    """
    torch.empty(_ARENA_BYTES, dtype=torch.uint8)
