"""Many plans: one after another on a GPU; on a CPU, probes are trained by other processes while features are extracted.

The records are those of one plan after another, in the order of the plans.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.core.errors import BenchError
from bench.core.machine import num_cores
from bench.core.progress import Reporter
from bench.core.threads import SMALL_STEP
from bench.pipeline.fit_pool import Crew
from bench.pipeline.record import keep
from bench.pipeline.run import measure, prepare, probe_facts, run
from bench.pipeline.stages import Measured, Prepared
from bench.pipeline.variants import label_parts
from bench.probing import blocks, loop
from bench.probing.cache import memory_path
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
    if all(memory_path(plan.cache, probe_facts(job)).is_file() for job in jobs):
        return False
    shapes = blocks.tensor_shapes(tokens.embed_dim, job.trained.num_outputs, plan.recipe.num_blocks).values()
    weights = plan.recipe.num_settings * sum(math.prod(shape) for shape in shapes)
    batch_size = loop.make_plan(plan.recipe.optimisation, tokens.num_samples).batch_size
    return batch_size * tokens.num_tokens * tokens.embed_dim + weights < SMALL_STEP
