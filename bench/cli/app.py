"""Every command: parse, call, print. Exit codes are in `bench.cli.exit_codes`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import scores as score_commands
from bench.cli.data import app as data_commands
from bench.cli.estimate import EXAMPLE as ESTIMATE_EXAMPLE
from bench.cli.estimate import estimate
from bench.cli.exit_codes import run_and_exit
from bench.cli.options import Cache, EncoderSettings, Json, Slurm, options_of, parse_settings, run_options, split_names
from bench.cli.pretrain import EXAMPLE as PRETRAIN_EXAMPLE
from bench.cli.pretrain import pretrain
from bench.cli.printing import print_extracted, print_facts, print_fetched, print_forecasts, print_list, print_models
from bench.cli.scores import LEADERBOARD_EXAMPLE, leaderboard
from bench.core.console import print_json, show, tell
from bench.core.errors import BenchError, nearest

if TYPE_CHECKING:
    from bench.core.progress import Reporter
    from bench.pipeline.estimate.rough import Forecast
    from bench.tasks.kind import RunPlan

app = typer.Typer(
    name="bench",
    help="How good are a video encoder's frozen features, for motion and for appearance?",
    epilog="Exit codes: 0 done, 1 a fault of the program, 2 a problem you can mend, 130 interrupted. "
    "Any command takes --debug to show a traceback.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
app.add_typer(data_commands, name="data")

DEFAULT_TASKS = ("digits-motion", "digits-appearance")
DEFAULT_MODELS = ("random", "pixels", "vjepa-nano", "pixel-nano", "contrast-nano", "slow-nano")


@app.command(epilog="Example: bench run --task ssv2 --model vitl16.pth.tar --data /data/ssv2")
@run_options()
def run(
    slurm: Slurm = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and print the forecast.")] = False,
    as_json: Json = False,
    **arguments: Any,
) -> None:
    """Measure encoders on tasks and print the leaderboard. No arguments: the embedded digits. Works under torchrun."""
    if slurm is not None and not dry_run:
        _submit(slurm, arguments, as_json)
        return
    from bench.pipeline.torchrun import run_shared, shared_command, shared_plans

    with shared_command() as (world, reporter):
        plans = shared_plans(lambda: _plans(arguments, reporter), world)
        if dry_run:
            forecasts = _forecasts(plans, as_json)
        else:
            records = run_shared(plans, world, reporter)
    if not world.first:
        return
    if dry_run:
        print_forecasts(forecasts, as_json)
        return
    results = arguments["results"]
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        from bench.analysis.select import board_of_runs
        from bench.report.terminal import further_tables, to_rich

        show(to_rich(board_of_runs(records, results)))
        for part in further_tables(records):
            show(part)
    from bench.analysis.checkpoint_curve import write_curves
    from bench.report.plots.curve import curve_pictures

    for line in write_curves(arguments["model"] or [], records, results, curve_pictures):
        tell(line)


@app.command(epilog="Example: bench extract --task ssv2 --model vitl16.pth.tar --data /data/ssv2 --cache /scratch")
@run_options(without=("probe_weights", "probe_classes", "axis", "name", "results", "controls", "labels"))
def extract(as_json: Json = False, **arguments: Any) -> None:
    """Encode the clips of tasks into the cache, so that later runs only train probes."""
    from bench.pipeline.run import extract_features, prepare_encoder
    from bench.pipeline.torchrun import shared_command, shared_plans

    summary = []
    with shared_command() as (world, reporter):
        for plan in shared_plans(lambda: _plans(arguments, reporter), world):
            train_part, test_part = extract_features(plan, prepare_encoder(plan, reporter), reporter)
            parts = (train_part.extraction, test_part.extraction)
            summary.append(
                {
                    "task": plan.task.name,
                    "model": plan.facts.name,
                    "cache": str(plan.cache),
                    "train": len(train_part.samples),
                    "test": len(test_part.samples),
                    "failed": len(train_part.failures) + len(test_part.failures),
                    "encoded_clips": sum(part.encoded_clips for part in parts),
                    "cached_clips": sum(part.cached_clips for part in parts),
                }
            )
    if world.first:
        print_extracted(summary, as_json)


app.command(epilog=ESTIMATE_EXAMPLE)(estimate)
app.command(epilog=LEADERBOARD_EXAMPLE)(leaderboard)


@app.command(epilog="Example: bench tasks ssv2")
def tasks(
    name: Annotated[str | None, typer.Argument(help="Show this one in full: a name, or the path of a card.")] = None,
    as_json: Json = False,
) -> None:
    """List the tasks, or show one: layout on disk, clip protocols, published scores, licence, where to ask."""
    from bench.cards.load import load_task, task_names
    from bench.cli.lists import task_lines, task_rows

    if name is not None:
        card = load_task(name)
        print_facts(task_lines(card), card.model_dump(mode="json"), as_json)
        return
    cards = [load_task(known) for known in task_names()]
    print_list(task_rows(cards), [card.model_dump(mode="json") for card in cards], as_json)


@app.command(epilog="Example: bench models 'vjepa2*'")
def models(pattern: Annotated[str, typer.Argument(help="Wildcard on the names.")] = "*", as_json: Json = False) -> None:
    """List the encoders that have a name; any checkpoint file works too."""
    from bench.encoders.catalog import model_cards, registered_encoders

    cards, registered = model_cards(pattern), registered_encoders(pattern)
    if not cards and not registered:
        known = [card.name for card in model_cards()] + [encoder.name for encoder in registered_encoders()]
        raise BenchError(f"no encoder is called '{pattern}'", where="bench models", fix=nearest(pattern, known))
    print_models(cards, registered, as_json)


@app.command(epilog="Example: bench fetch vjepa-vitl16")
def fetch(
    names: Annotated[
        list[str], typer.Argument(help="Names or wildcards from `bench models`, or hf:OWNER/NAME for Hugging Face.")
    ],
    check: Annotated[bool, typer.Option("--check", help="Only check what is here; download nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Download the weights of encoders to where the suite looks for them, and check them."""
    from bench.core.progress import Live
    from bench.encoders import fetch as fetching

    with Live() as reporter:
        fetched = fetching.fetch(names, reporter, check=check)
    print_fetched(fetched, as_json)


@app.command(epilog="Example: bench probes")
def probes(as_json: Json = False) -> None:
    """List the recipes: what is trained on the tokens."""
    from bench.cards.load import load_probe_card, probe_names

    cards = [load_probe_card(name) for name in probe_names()]
    rows = [{"probe": c.name, "kind": c.kind, "settings": c.num_settings, "title": c.title} for c in cards]
    print_list(rows, [card.model_dump(mode="json") for card in cards], as_json)


@app.command(epilog="Example: bench doctor --model timm:convnext_tiny+untrained")
def doctor(
    model: Annotated[str | None, typer.Option(help="Check this encoder instead: does it keep the contract?")] = None,
    settings: EncoderSettings = None,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Say what is installed, what works, and what to do about what does not; or the same of one encoder."""
    if model is None:
        if settings:
            raise BenchError("--set is for --model", where="bench doctor", fix="add --model FILE, or drop it")
        from bench.cli.doctor import examine

        checks = examine(cache)
        broken = BenchError("something that a run needs does not work", fix="see the last column")
    else:
        from bench.encoders import Choice
        from bench.encoders.families import stated_settings
        from bench.features.encoder_check import examine_encoder

        checks = examine_encoder(Choice(model, stated_settings(parse_settings(settings), only=True)).open())
        broken = BenchError("the encoder does not keep the contract", where=f"model {model}", fix="see the last column")
    rows = [{"check": c.name, "": "ok" if c.ok else "BROKEN", "found": c.found, "to do": c.fix} for c in checks]
    print_list(rows, [dataclasses.asdict(check) for check in checks], as_json)
    if not all(check.ok for check in checks):
        raise broken


app.command(epilog=PRETRAIN_EXAMPLE)(pretrain)
score_commands.register(app)


def main() -> None:
    """Run the command line; every problem is one line on stderr and an exit code."""
    run_and_exit(app)


def _submit(slurm: str, arguments: dict[str, Any], as_json: bool) -> None:
    """Hand the jobs of `bench run` with these arguments to the cluster, and list them."""
    from bench.pipeline.slurm import repeat_arguments, submit

    options = typer.main.get_command(app).commands["run"].params  # type: ignore[attr-defined]
    submitted = submit(
        slurm,
        split_names("--model", arguments["model"], DEFAULT_MODELS),
        split_names("--task", arguments["task"], DEFAULT_TASKS),
        repeat_arguments(arguments, options),
        arguments["results"],
    )
    rows = [job.facts() for job in submitted]
    print_list(rows, rows, as_json)


def _forecasts(plans: Sequence[RunPlan], as_json: bool) -> list[Forecast]:
    """What the plans will cost. Files that are missing are facts too, for programs that ask for JSON."""
    from bench.data.missing_files import MissingFilesError
    from bench.pipeline.estimate.rough import forecast

    try:
        return [forecast(plan) for plan in plans]
    except MissingFilesError as missing:
        if as_json:
            print_json([missing.facts()])
        raise


def _plans(arguments: Mapping[str, Any], reporter: Reporter) -> list[RunPlan]:
    """One plan for each model on each task, all made before the first starts. `arguments` are a command's."""
    from bench.data.staging import listed_once
    from bench.pipeline.plan import make_plan, say_notes
    from bench.tasks.options import make_options

    options = options_of(arguments)
    with listed_once():
        plans = [
            make_plan(make_options({**options, "task": task, "model": model}), reporter)
            for model in split_names("--model", arguments["model"], DEFAULT_MODELS)
            for task in split_names("--task", arguments["task"], DEFAULT_TASKS)
        ]
    return say_notes(plans, reporter)
