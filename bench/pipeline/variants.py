"""The other trainings of a run: on clips whose frames are in another order, and on fewer labels.

Controls are the same run on clips whose frames are shown in another order: (a) a probe that is trained and tested on
such clips tells what can be read of them, (b) the probe of ordered clips that is tested on them tells what it leans on;
docs/controls.md says what follows from which. Fewer labels are the same run with a probe that is trained on a part of
the training examples: nothing is encoded for it, and it is tested on the whole test split. Source: the V-JEPA paper,
Table 7, which draws three parts for each share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.core.errors import BenchError
from bench.core.types import FrameOrder
from bench.probing.objectives import Objective
from bench.probing.source import HeldOut, Rows, SomeTokens
from bench.probing.streaming import TokenStream
from bench.tasks.kind import RunPlan
from bench.tasks.options import percent

if TYPE_CHECKING:
    from bench.pipeline.stages import Inputs, ProbeJob

DRAWS = 3
"""Random parts of each share."""


def other_orders(plan: RunPlan) -> list[FrameOrder]:
    """The orders that a run's clips are shown in besides their own."""
    return [order for order in plan.options.controls if order != "ordered"]


def check_controls(plan: RunPlan) -> None:
    """Raise BenchError where the clips of a plan have no order."""
    if not other_orders(plan):
        return
    where = f"task {plan.task.name}"
    if plan.task.media == "image":
        raise BenchError("--controls means nothing for images", where=where, fix="drop it")
    if plan.test_clips.clip_shape[0] == 1:
        raise BenchError("--controls means nothing for clips of one frame", where=where, fix="drop it")


def check_labels(plan: RunPlan) -> None:
    """Raise BenchError where no probe can be trained on these shares of the labels, before anything is encoded."""
    if not plan.options.labels:
        return
    if plan.given:
        raise BenchError("--labels means nothing with --probe-weights: nothing is trained", fix="drop one of them")
    whole = plan.kind.objective(plan, plan.splits.train)
    num_examples, most = len(whole.targets), max(plan.recipe.neighbours or [0])
    for share in plan.options.labels:
        where = f"--labels {percent(share)}"
        try:
            parts = [draw_rows(whole, share, draw, plan.options.seed) for draw in range(DRAWS)]
            train = min(_trained_on(plan, whole, rows) for rows in parts)
        except BenchError as error:
            fix = "give more training samples, or a larger share"
            raise BenchError(f"{num_examples} training samples are too few for it", where=where, fix=fix) from error
        if most > train * plan.draws("train"):
            fix = "give a larger share, or smaller values with --set probe.neighbours=[...]"
            raise BenchError(f"it leaves {train} training samples for k = {most} neighbours", where=where, fix=fix)


def _trained_on(plan: RunPlan, whole: Objective, rows: Rows) -> int:
    """How many of these examples are trained on before a setting is chosen by the others."""
    selection = plan.recipe.hold_out
    if selection is None:
        return len(rows)
    if plan.held_out_clips is None:
        return len(whole.take(rows).hold_out(selection.held_out, seed=plan.options.seed)[0])
    held_out = _places(whole.hold_out(selection.held_out, seed=plan.options.seed)[1], rows)
    if not len(held_out) or len(held_out) == len(rows):
        raise _none_held_out(rows)
    return len(rows) - len(held_out)


def draw_rows(objective: Objective, share: float, draw: int, seed: int) -> Rows:
    """Rows of a random part of the training examples, rising: about share * n. It depends on the examples, the share,
    the draw and the seed alone: models share it."""
    text = f"labels {seed} {share!r} {draw}"
    stream = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    return objective.draw(share, seed=stream)


@dataclass(frozen=True)
class LabelPart:
    """The training of a run on a part of its training examples."""

    share: float
    draw: int
    rows: Rows
    """Rows among the readable training examples."""
    job: ProbeJob

    def inputs(self, whole: Inputs) -> Inputs:
        """The tokens that the probe is trained and tested on, taken from the run's own."""
        if whole.train is None:
            raise ValueError("nothing is trained")
        held, train = whole.held_out, whole.train
        return replace(
            whole,
            train=train.take(self.rows) if isinstance(train, TokenStream) else SomeTokens(train, self.rows),
            held_out=_part_of_held_out(held, self.rows) if held else None,
            controls=(),
        )


def label_parts(job: ProbeJob) -> list[LabelPart]:
    """Every training on fewer labels that the options of a job's plan ask for."""
    options, parts = job.plan.options, []
    for share in options.labels:
        for draw in range(DRAWS):
            rows = draw_rows(job.trained, share, draw, options.seed)
            remark = f"{percent(share)} of the labels, draw {draw + 1} of {DRAWS}"
            parts.append(LabelPart(share, draw, rows, _part_of_job(job, rows, remark)))
    return parts


def _part_of_job(job: ProbeJob, rows: Rows, remark: str) -> ProbeJob:
    held = job.held_out
    if held is not None:
        items = [held.items[place] for place in np.flatnonzero(np.isin(held.readable, rows))]
        held = replace(held, rows=_places(held.rows, rows), readable=_places(held.readable, rows), items=items)
    return replace(
        job,
        objective=job.trained.take(rows),
        train_items=[job.train_items[row] for row in rows],
        held_out=held,
        controls=(),
        remark=remark,
    )


def _part_of_held_out(held: HeldOut, rows: Rows) -> HeldOut:
    """The held-out examples among these: only they have clips to choose a setting on."""
    chosen = np.flatnonzero(np.isin(held.readable, rows))
    if not len(chosen):
        raise _none_held_out(rows)
    return HeldOut(_places(held.rows, rows), _places(held.readable, rows), SomeTokens(held.tokens, chosen))


def _none_held_out(rows: Rows) -> BenchError:
    return BenchError(
        f"none of {len(rows)} training samples was held out to choose a setting on",
        where="--labels",
        fix="give a larger share, or a recipe with one setting",
    )


def _places(some: Rows, rows: Rows) -> Rows:
    """Those of `some` that are among `rows`, numbered as `rows` are. Both are sorted."""
    return np.searchsorted(rows, some[np.isin(some, rows)])
