"""Whether a plan can be carried out: what a run would refuse late, asked before a clip is encoded; a dry run asks the
same.

What is asked of the training samples is what the training itself asks, with all of them readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.data.formats import Sample
from bench.data.missing_files import SplitFiles, look_for_files, refuse_missing
from bench.probing.knn import check_neighbours
from bench.probing.objectives import OneLabel
from bench.tasks.kind import RunPlan
from bench.video.image_frames import frame_files


def check_ready(plan: RunPlan) -> tuple[SplitFiles, ...]:
    """Which files of a plan are there. Raises BenchError where its recipe cannot be trained on so few samples, clips
    are drawn by the second from folders without a rate, or more files are missing than may be."""
    if not plan.given:
        _check_training(plan)
    files = look_for_files(plan.task, plan.splits)
    refuse_missing(plan.task, files, plan.options.max_failed)
    if plan.task.clip.fps or plan.task.clip.duration_s:
        _check_rates(plan, plan.splits.train)
        _check_rates(plan, plan.splits.test)
    return files


def check_all_ready(plans: Sequence[RunPlan]) -> None:
    """Raise as `check_ready` for the first of several plans that is not, before any is begun. The plans of one task
    have the same files, which are looked at once."""
    for plan in {plan.options.task: plan for plan in plans}.values():
        check_ready(plan)


def say_notes(plans: list[RunPlan], reporter: Reporter) -> list[RunPlan]:
    """The same plans; what their records will note of the samples is told, once for each task."""
    for line in dict.fromkeys(f"{plan.task.name}: {note}" for plan in plans for note in plan.splits.notes):
        reporter.say(line)
    return plans


def _check_training(plan: RunPlan) -> None:
    recipe, objective = plan.recipe, plan.kind.objective(plan, plan.splits.train)
    labels = objective.targets
    if isinstance(objective, OneLabel) and len(np.unique(labels)) < 2:
        name = plan.splits.class_names[labels[0]]
        what = f"all {len(labels)} training samples are of one class, '{name}': there is nothing to tell apart"
        raise BenchError(what, where=f"task {plan.task.name}", fix="give training samples of other classes too")
    rows = np.arange(len(labels))
    if recipe.hold_out:
        rows, _ = objective.hold_out(recipe.hold_out.held_out, seed=plan.options.seed)
    check_neighbours(recipe, len(rows), plan.draws("train"))


def _check_rates(plan: RunPlan, samples: Sequence[Sample]) -> None:
    """Refuse folders of frames without a rate where seconds of them are asked for, if they are more than may fail."""
    without = [one for one in samples if not one.fps and Path(one.path).is_dir() and len(frame_files(one.path)) > 1]
    if len(without) > plan.options.max_failed * len(samples):
        count = f"{len(without)} of {len(samples)} samples"
        raise BenchError(
            f"{count} are folders of frames without a rate, and clips are drawn by the second; first '{without[0].id}'",
            where=f"task {plan.task.name}",
            fix="count in frames with --set clip.step=N, or make videos of them with `bench data prepare --fps`",
        )
