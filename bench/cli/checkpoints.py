"""Scores of a run while it trains: the averaged encoder, frozen, on the tasks that the user names."""

from __future__ import annotations

from bench.core.progress import Reporter
from bench.pipeline.plan import make_plan
from bench.pipeline.run import run
from bench.pretrain.plan import LATEST, PROBE_TASKS, PretrainPlan
from bench.records.curve import CurvePoint, ScoreCurve
from bench.tasks.kind import RunPlan
from bench.tasks.options import RunOptions


def probe_plans(plan: PretrainPlan) -> list[RunPlan]:
    """One evaluation of latest.pth.tar for each probe task. Raises BenchError where a task cannot be run."""
    return [
        make_plan(
            RunOptions(
                task=task,
                model=str(plan.out / LATEST),
                data=plan.options.probe_data,
                cache=plan.options.cache,
                results=plan.out / "results",
                device=plan.device,
                workers=plan.options.workers,
            )
        )
        for task in plan.options.probe_task or PROBE_TASKS
    ]


def score_curve(plan: PretrainPlan, resume_step: int | None) -> ScoreCurve:
    """The run's curve of score against clips seen, taken up where it goes on."""
    return ScoreCurve(plan.out, resume_step=resume_step, title=f"{plan.preset.name}, {plan.preset.objective}")


def score_checkpoint(plan: PretrainPlan, curve: ScoreCurve, *, step: int, epoch: int, reporter: Reporter) -> None:
    """Measure latest.pth.tar on every probe task and add the points of `step` to the curve's files."""
    points = []
    for evaluation in probe_plans(plan):
        record = run(evaluation, reporter)
        score = record.scores[0]
        curve.chance[record.task] = 100 / record.num_classes
        points.append(
            CurvePoint(
                samples=step * plan.preset.optimisation.global_batch,
                epoch=epoch,
                step=step,
                task=record.task,
                axis=record.axis,
                score=score.value,
                low=score.low,
                high=score.high,
            )
        )
    curve.append(points)
