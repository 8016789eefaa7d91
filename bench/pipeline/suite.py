"""Many plans: one after another on a GPU; on a CPU, probes are trained by other processes while features are extracted.

The records are those of one plan after another, in the order of the plans. A probe on small features keeps one core
busy, and no other can help it (bench/core/threads.py), so several plans at once are several processes: they map the
features from the cache, and are started when there is work for them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bench.core.errors import BenchError
from bench.core.machine import num_cores
from bench.core.progress import Reporter
from bench.core.threads import SMALL_STEP
from bench.core.workers import Lost, Pool, Tell
from bench.features.store import FeatureSet, Store
from bench.pipeline.record import keep
from bench.pipeline.run import measure, prepare, probe_facts, run
from bench.pipeline.stages import Inputs, Measured, Prepared, ProbeJob
from bench.pipeline.variants import label_parts
from bench.probing import blocks, loop
from bench.probing.cache import memory_path
from bench.probing.source import HeldOut
from bench.records.schema import Record
from bench.tasks.kind import RunPlan


def run_all(plans: Sequence[RunPlan], reporter: Reporter) -> list[Record]:
    """Carry out plans and return their records in order. The first plan that fails ends it; earlier ones are kept.

    It may start processes, which import the module `__main__` anew: a script that calls this needs the usual
    `if __name__ == "__main__"`.
    """
    size = min(num_cores(), len(plans))
    if size < 2 or any(plan.device != "cpu" for plan in plans):
        return [run(plan, reporter) for plan in plans]
    with Crew(size, reporter) as crew:
        return _run_together(plans, crew)


def _run_together(plans: Sequence[RunPlan], crew: Crew) -> list[Record]:
    records: dict[int, Record] = {}
    errors: dict[int, Exception] = {}
    waiting: dict[int, Prepared] = {}

    def settle(number: int, outcome: Measured | Exception) -> None:
        prepared = waiting.pop(number)
        if isinstance(outcome, Exception):
            errors[number] = outcome
        else:
            records[number] = keep(prepared, outcome, crew)

    for number, plan in enumerate(plans):
        try:
            prepared = waiting[number] = prepare(plan, crew)
            if needs_one_core(prepared):
                crew.submit(number, prepared.job)
            else:
                settle(number, measure(prepared.job, prepared.inputs, crew))
        except (BenchError, OSError) as error:
            waiting.pop(number, None)
            errors[number] = error
        for ended in crew.ended(wait=False):
            settle(*ended)
        if errors:
            break
    # Plans before the first that failed are finished, as they would be one after another; later ones are dropped.
    while any(number < min(errors, default=len(plans)) for number in waiting):
        for ended in crew.ended(wait=True):
            settle(*ended)
    if errors:
        raise errors[min(errors)]
    return [records[number] for number in range(len(plans))]


def needs_one_core(prepared: Prepared) -> bool:
    """Whether training the probe takes a while and uses one core only, so that another process may as well do it."""
    plan, tokens = prepared.plan, prepared.inputs.train
    if tokens is None or plan.recipe.kind != "attentive" or plan.recipe.optimisation is None:
        return False
    if plan.recipe.streaming:  # its encoder is here
        return False
    job = prepared.job
    jobs = [job, *job.controls, *(part.job for part in label_parts(job))]
    if all(memory_path(plan.cache, probe_facts(job, seed)).is_file() for job in jobs for seed in plan.seeds):
        return False
    shapes = blocks.tensor_shapes(tokens.embed_dim, job.trained.num_outputs, plan.recipe.num_blocks).values()
    weights = plan.recipe.num_settings * sum(math.prod(shape) for shape in shapes)
    batch_size = loop.make_plan(plan.recipe.optimisation, tokens.num_samples).batch_size
    return batch_size * tokens.num_tokens * tokens.embed_dim + weights < SMALL_STEP


_TELL_INTERVAL_S = 0.2
"""A stage is reported this often: a training step takes milliseconds, and each message costs both sides some of it."""
_FIX = "if memory was short, give one --model at a time"

Outcome = Measured | Exception


class Crew:
    """At most `size` processes. It is a Reporter too: whatever is told to it goes on to `reporter`, and is a moment to
    hear the processes, so that one that has ended its job gets the next while this process is busy extracting."""

    def __init__(self, size: int, reporter: Reporter) -> None:
        self._reporter = reporter
        same_threads = partial(torch.set_num_threads, torch.get_num_threads())  # so that the same numbers come out
        # No retry: a job whose process has died would likely die of the same again.
        self._pool = Pool(_work, size, fresh=True, begin=same_threads, told=self._pass_on, retry=False, fix=_FIX)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.__exit__()

    def submit(self, number: int, job: ProbeJob) -> None:
        """Have a job done, after those that were submitted before; `number` is its name in `ended`."""
        self._pool.submit((number, job))

    def ended(self, *, wait: bool) -> list[tuple[int, Outcome]]:
        """The jobs that have ended since the last call, with what came out; `wait` for at least one."""
        return [(number, _unless_lost(outcome)) for (number, _), outcome in self._pool.ended(wait=wait)]

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Pass the stage on, and handle what the processes have sent."""
        self._reporter.stage(name, done, total, detail)
        self._pool.hear()

    def say(self, line: str) -> None:
        """Pass the line on."""
        self._reporter.say(line)

    def _pass_on(self, told: _Stage | str) -> None:
        if isinstance(told, str):
            self._reporter.say(told)
        else:
            self._reporter.stage(told.name, told.done, told.total, told.detail)


def _unless_lost(outcome: Outcome | Lost) -> Outcome:
    if isinstance(outcome, Lost):
        return BenchError(f"a process that trained a probe died (exit code {outcome.exit_code})", fix=_FIX)
    return outcome


@dataclass(frozen=True)
class _Stage:
    name: str
    done: int
    total: int
    detail: str


class _Messenger:
    """The Reporter of a process: sends everything to the parent."""

    def __init__(self, tell: Tell) -> None:
        self.say = tell
        self._told = 0.0

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Report the stage at intervals, and its end."""
        now = time.monotonic()
        if done == total or now - self._told >= _TELL_INTERVAL_S:
            self._told = now
            self.say(_Stage(name, done, total, detail))


def _work(task: tuple[int, ProbeJob], tell: Tell) -> Outcome:
    """Run in a process: carry out a job and return what came of it."""
    _, job = task
    try:
        return measure(job, open_inputs(job), _Messenger(tell))
    except (BenchError, OSError) as error:
        return error


def open_inputs(job: ProbeJob) -> Inputs:
    """What a job's probe is trained and tested on, from the cache."""
    cache, held = job.plan.cache, job.held_out
    return Inputs.of(
        job.plan,
        open_features(cache, job.train_space, job.train_items),
        HeldOut(held.rows, held.readable, open_features(cache, held.space, held.items)) if held else None,
        open_features(cache, job.test_space, job.test_items) if job.test_items else None,
        (open_inputs(part) for part in job.controls),
    )


def open_features(cache: Path, space: str, items: list[list[str]]) -> FeatureSet:
    """The features of a split that are in the cache, by the key of their space and the items of each sample."""
    fields = json.loads((cache / "features" / space / "space.json").read_text(encoding="utf-8"))
    store = Store(cache, fields)
    damaged = store.open(key for draws in items for key in draws)
    if damaged:
        raise BenchError(damaged[0], where=str(store.folder), fix="run the same command again")
    return FeatureSet(store, items)
