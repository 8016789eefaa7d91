"""What many small steps ask of the machine, in training or encoding: few threads, and memory that stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

SMALL_STEP = 1 << 22
"""Numbers (tokens and weights) in a step below which one thread is faster than two: handing work over costs more."""
SMALL_CLIP = 1 << 15
"""Numbers in the tokens of a clip below which encoding it is faster with one thread than with two."""
_ARENA_BYTES = 31 << 20


@contextmanager
def small_steps(device: torch.device, numbers: int, small: int = SMALL_STEP) -> Iterator[None]:
    """Run the block with threads and allocation fit for steps of so many numbers, below `small` with one thread;
    restore the threads afterwards."""
    if device.type != "cpu":
        yield
        return
    keep_freed_memory()
    before = torch.get_num_threads()
    if numbers < small:
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


def free_memory_bytes(device: torch.device) -> int:
    """Memory of the device that nothing uses now; where the system does not say, half of what the machine has."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
