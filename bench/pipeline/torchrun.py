"""Plans that several processes carry out together under torchrun: the records of one process, in less time.

Every process encodes its part of the clips into a cache that all share. Then each trains and tests the probe of one
plan, and the first process keeps the records. A probe is trained by one process, not by DistributedDataParallel:
gradients that were added up in another order would differ in their last bits, and the score with the number of
processes. A fused sweep costs little more than one probe, so what takes the time is divided all the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from bench.core.distributed import World, together, world_from_environment
from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.hashing import text_digest
from bench.core.machine import choose_device
from bench.core.progress import Live, Reporter, Silent
from bench.pipeline.plan import check_all_ready
from bench.pipeline.record import keep
from bench.pipeline.run import measure, prepare
from bench.pipeline.stages import Measured, Prepared
from bench.pipeline.suite import run_all
from bench.probing.scoring import FittedProbe
from bench.records.schema import Record
from bench.tasks.kind import RunPlan


@contextmanager
def shared_command() -> Iterator[tuple[World, Reporter]]:
    """Connect the processes of a command for the block, and let the first alone report progress."""
    world = world_from_environment()
    with together(world):
        if world.first:
            with Live() as live:
                yield world, live
        else:
            yield world, Silent()


def shared_plans(make: Callable[[], list[RunPlan]], world: World) -> list[RunPlan]:
    """The plans that `make` gives, known to be the same for all processes and to share a cache; else BenchError.

    The first process makes them before the others, so that what they take from the cache is made once.
    """
    if world.size == 1:
        return make()
    plans = make() if world.first else []
    world.gather(None)
    plans = plans or make()
    _check_same(plans, world)
    _check_cache(plans[0].cache, world)
    return [replace(plan, world=world, device=_own_device(plan.device, world)) for plan in plans]


def _own_device(device: str, world: World) -> str:
    """The GPU of this process, where a plan names none. Raises BenchError where the machine has too few."""
    return choose_device(f"cuda:{world.local_rank}") if device == "cuda" else device


def run_shared(plans: Sequence[RunPlan], world: World, reporter: Reporter) -> list[Record]:
    """Carry out plans of `shared_plans`. Records come out in order, on the first process alone.

    The first plan that fails ends it; the records of earlier ones are kept, unless the clips of the plan could not be
    brought into the cache: then it ends at once, with the records of as many plans before as a multiple of the
    processes.
    """
    check_all_ready(plans)
    if world.size == 1:
        return run_all(plans, reporter)
    records = []
    for start in range(0, len(plans), world.size):
        records += _run_one_each(plans[start : start + world.size], world, reporter)
    return records


def _run_one_each(plans: Sequence[RunPlan], world: World, reporter: Reporter) -> list[Record]:
    """Carry out at most as many plans as there are processes."""
    own: Prepared | None = None
    all_prepared = []
    for number, plan in enumerate(plans):
        prepared = prepare(plan, reporter)
        if number == world.rank:
            own = prepared
        if world.first:
            all_prepared.append(_without_weights(prepared))
    outcome = _outcome(own, reporter) if own else None
    records = []
    for prepared, measured in zip(all_prepared, world.gather_to_first(outcome), strict=False):
        if isinstance(measured, Exception):
            raise measured
        records.append(keep(prepared, measured, reporter))
    world.gather(None)  # a process that left now would end before the records are written
    return records


def _without_weights(prepared: Prepared) -> Prepared:
    """What the record is made of: the encoders of many plans would fill the memory."""
    encoder = prepared.encoder.without_weights()
    return replace(prepared, encoder=encoder, controls=tuple(map(_without_weights, prepared.controls)))


def _outcome(prepared: Prepared, reporter: Reporter) -> Measured | BenchError | OSError:
    """What a probe made of the features, or why there is none: plans before this one are to be kept."""
    try:
        measured = measure(prepared.job, prepared.inputs, reporter)
    except (BenchError, OSError) as error:
        return error
    for fitted in _all_fitted(measured):
        fitted.probe.to(torch.device("cpu"))  # other machines have no such GPU
    return measured


def _all_fitted(measured: Measured) -> list[FittedProbe]:
    """The probes, and those of the controls and of parts of the training samples."""
    parts = [control.trained_alike for control in measured.controls if control.trained_alike]
    parts += [part.measured for part in measured.fewer_labels]
    own = [probe.fitted for probe in measured.probes]
    return [*own, *(fitted for part in parts for fitted in _all_fitted(part))]


def _check_same(plans: Sequence[RunPlan], world: World) -> None:
    """Raise BenchError where processes found other samples, or encode in another way."""
    described = repr([(p.splits, p.facts, p.recipe, p.precision, torch.device(p.device).type) for p in plans])
    digests = world.gather(text_digest(described))
    if len(set(digests)) > 1:
        raise BenchError(
            "the processes do not see the same samples, weights or kind of device",
            where="torchrun",
            fix="give all machines the same arguments, data and accelerators",
        )


def _check_cache(cache: Path, world: World) -> None:
    """Raise BenchError where the processes do not share the cache."""
    mark = cache / f".shared-{secrets.token_hex(8)}" if world.first else None
    if mark:
        with atomic_write(mark) as temporary:
            temporary.touch()
    name = world.gather(mark and mark.name)[0]
    seen = world.gather((cache / name).is_file())
    if mark:
        mark.unlink()
    if not all(seen):
        raise BenchError(
            f"process {seen.index(False)} does not see what process 0 writes here",
            where=str(cache),
            fix="choose a folder that all machines share with --cache",
        )
