"""The command `bench pretrain`: parse, call, print."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Cache, Device, Json, Timeout, Workers, parse_settings, split_names
from bench.cli.printing import print_facts

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
    compile_blocks: Annotated[bool, typer.Option("--compile", help="Compile the transformer blocks.")] = False,
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
    from bench.core.progress import Live, Silent
    from bench.pretrain.plan import make_options, make_plan

    plan = make_plan(
        make_options(
            {
                "preset": preset,
                "out": out,
                "data": data,
                "root": root,
                "settings": parse_settings(settings),
                "resume": resume,
                "device": device,
                "workers": workers,
                "timeout_s": timeout_s,
                "save_memory": save_memory,
                "compile": compile_blocks,
                "probe_every": probe_every,
                "probe_task": tuple(split_names("--probe-task", probe_task, ())) or None,
                "probe_data": probe_data,
                "cache": cache,
            }
        )
    )
    if dry_run:
        from bench.pretrain.forecast import forecast as forecast_pretraining

        prediction = forecast_pretraining(plan)
        print_facts(prediction.lines(), dataclasses.asdict(prediction), as_json)
        return
    from bench.pretrain.train import train

    if not plan.world.first:
        train(plan, Silent())
        return
    with Live() as reporter:
        summary = train(plan, reporter)
    print_facts(summary.lines(), summary.facts(), as_json)
