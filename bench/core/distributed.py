"""Several processes that work together: started by torchrun, on one machine or many.

Gradients of a pretraining are summed once a step, after all micro-batches of a process, in one flat buffer. This needs
no wrapper around the networks, whose several passes a step (one for each kind of mask) DistributedDataParallel does not
expect.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from bench.core.errors import BenchError

_PATIENCE = timedelta(hours=6)
"""Other processes wait while the first one scores a checkpoint."""
_LONG_PATIENCE = timedelta(days=14)
"""Others wait while one trains a probe, which may stream clips for days. That a process has died is noticed at once."""


@dataclass(frozen=True)
class World:
    """This process among those that work together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of this process on its machine: picks the GPU."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks to the user."""
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in order of rank, on all of them. Raises BenchError where one has ended."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _lost_is_an_error():
            dist.all_gather_object(values, value)
        return values

    def gather_to_first(self, value: Any) -> list[Any]:
        """The value of every process on the first, in order of rank; nothing on the others. Raises as `gather`."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.first else None
        with _lost_is_an_error():
            dist.gather_object(value, values)
        return values or []


def world_from_environment() -> World:
    """What torchrun says of this process; a world of one without it."""
    if "WORLD_SIZE" not in os.environ:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    given = [os.environ.get(name, "") for name in names]
    if not all(given) or not all(value.isdecimal() for value in given[:3]):
        stated = ", ".join(f"{name}={value}" for name, value in zip(names, given, strict=True))
        raise BenchError(f"not set by torchrun: {stated}", where="environment", fix="use torchrun, or unset WORLD_SIZE")
    rank, size, local = map(int, given[:3])
    return World(rank, size, local)


@contextmanager
def connected(world: World, device: str) -> Iterator[World]:
    """Connect the processes for the block: over NCCL on CUDA, over Gloo elsewhere."""
    if world.size == 1:
        yield world
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield world
    finally:
        dist.destroy_process_group()


@contextmanager
def together(world: World) -> Iterator[None]:
    """Connect the processes for the block, over Gloo, so that they end as one: the first that fails says why.

    Errors of the others are not told: they have the same reason, or are of its end. torchrun ends those that are busy.
    """
    if world.size == 1:
        yield
        return
    store, rank, size = next(iter(rendezvous("env://")))
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_LONG_PATIENCE)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _told_already(store.add):
            known = isinstance(error, BenchError | OSError)
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2 if known else 1) from error
        raise
    finally:
        dist.destroy_process_group()


def _told_already(count: Callable[[str, int], int]) -> bool:
    """Whether another process has failed before this one."""
    try:
        return count("failed", 1) > 1
    except RuntimeError:  # torchrun keeps the store; where the first process does, it has ended
        return True


@contextmanager
def _lost_is_an_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise BenchError(
            "another process of this run has ended", fix="the same command goes on with what is in the cache"
        ) from error
