"""The command `bench pretrain`: parse, call, print; and the scores of a run while it trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Cache, Device, Json, Timeout, Workers, parse_settings, split_names
from bench.cli.printing import print_facts

if TYPE_CHECKING:
    from bench.core.progress import Reporter
    from bench.pretrain.plan import PretrainPlan
    from bench.records.curve import ScoreCurve
    from bench.tasks.kind import RunPlan

EXAMPLE = "Example: bench pretrain --preset demo --out runs/demo"


def pretrain(
    preset: Annotated[str, typer.Option(help="Preset: vitl16, vith16, vith16-384, small, nano, demo, or a .yaml.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and curve.")],
    data: Annotated[str | None, typer.Option(help="List of videos, folder, dataset card, or digits.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that the paths of the list or card start from.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change the preset: objective=pixels, lr=1e-3. Repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch in --out.")] = False,
    device: Device = "auto",
    workers: Workers = None,
    timeout_s: Timeout = 60.0,
    save_memory: Annotated[bool, typer.Option("--save-memory", help="Compute activations twice, keep fewer.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the transformer blocks.")] = False,
    probe_every: Annotated[int | None, typer.Option(help="Score the target encoder every N epochs.")] = None,
    probe_task: Annotated[
        list[str] | None, typer.Option("--probe-task", help="Tasks to score on. Repeat, or a,b. Default: the digits.")
    ] = None,
    probe_data: Annotated[Path | None, typer.Option(help="Folder of the probe tasks' videos.")] = None,
    cache: Cache = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print the forecast.")] = False,
    as_json: Json = False,
) -> None:
    """Train an encoder on unlabelled video: V-JEPA, or a rival objective at the same budget. Works under torchrun."""
    arguments = dict(locals())
    from bench.core.progress import Live, Silent
    from bench.pretrain.plan import PretrainOptions, make_options, make_plan

    options = {each.name: arguments[each.name] for each in dataclasses.fields(PretrainOptions)}
    options["settings"] = parse_settings(settings)
    options["probe_task"] = tuple(split_names("--probe-task", probe_task, ())) or None
    plan = make_plan(make_options(options))
    if dry_run:
        from bench.pretrain.forecast import forecast as forecast_pretraining

        prediction = forecast_pretraining(plan)
        print_facts(prediction.lines(), dataclasses.asdict(prediction), as_json)
        return
    from bench.pretrain.train import train

    if not plan.world.first:
        train(plan, Silent(), score_checkpoint)
        return
    with Live() as reporter:
        summary = train(plan, reporter, score_checkpoint)
    print_facts(summary.lines(), summary.facts(), as_json)


def _probe_plans(plan: PretrainPlan) -> list[RunPlan]:
    """One evaluation of latest.pth.tar for each probe task. Raises BenchError where a task cannot be run."""
    from bench.pipeline.plan import make_plan
    from bench.pretrain.plan import LATEST, PROBE_TASKS
    from bench.tasks.options import RunOptions

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


def score_checkpoint(plan: PretrainPlan, curve: ScoreCurve, step: int, epoch: int, reporter: Reporter) -> None:
    """Measure latest.pth.tar on every probe task and add the points of `step` to the curve's files."""
    from bench.pipeline.run import run
    from bench.records.curve import CurvePoint
    from bench.report.plots.curve import curve_pictures

    points = []
    for evaluation in _probe_plans(plan):
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
    curve.append(points, curve_pictures)
