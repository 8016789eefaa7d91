"""The commands that judge scores: parse, call, print."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json, ResultFolders, Strict
from bench.cli.plot import EXAMPLE as PLOT_EXAMPLE
from bench.cli.plot import plot
from bench.cli.report import EXAMPLE as REPORT_EXAMPLE
from bench.cli.report import report
from bench.cli.results import app as results_commands
from bench.core.console import print_json, show, tell, write
from bench.core.errors import BenchError

if TYPE_CHECKING:
    from bench.analysis.gate import Check
    from bench.records.runs import StoredRun

_RESULTS = Path("results")
Run = Annotated[str, typer.Argument(help="Run id, folder of a run, model, or model@task.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(results_commands, name="results")
    app.command(epilog=PLOT_EXAMPLE)(plot)
    app.command(epilog=REPORT_EXAMPLE)(report)
    app.command(epilog="Example: bench compare vjepa-nano@digits-motion pixel-nano@digits-motion")(compare)
    app.command(
        epilog="Example: bench check --baseline baseline.json. Exit codes: 0 pass, 1 regression, 2 cannot tell."
    )(check)


def compare(
    a: Run,
    b: Run,
    results: ResultFolders = None,
    samples: Annotated[int, typer.Option(min=0, help="How many of the samples that changed most to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Compare two models on the same test samples: A minus B with interval, exact test, classes and samples."""
    from bench.analysis.compare import compare as compare_runs
    from bench.report.compare_view import ComparisonView

    found = compare_runs(a, b, results or [_RESULTS], num_changed=samples)
    if as_json:
        print_json({**dataclasses.asdict(found), "unit": "points"})
    else:
        show(ComparisonView(found))


def check(
    baseline: Annotated[Path, typer.Option(help="The baseline, a JSON file that --update writes.")],
    results: ResultFolders = None,
    margin: Annotated[float, typer.Option(help="The drop that is tolerated, in points.")] = 1.0,
    accept_training_data: Annotated[
        bool,
        typer.Option(
            "--accept-training-data",
            help="Compare scores of probes that were trained on other data than the baseline's, too.",
        ),
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Write the baseline from the newest runs.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Append Markdown to this file: $GITHUB_STEP_SUMMARY.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Also print GitHub annotations.")] = False,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Say whether scores fell below a baseline, for CI: exit code 0 pass, 1 regression, 2 cannot tell."""
    from bench.analysis.gate import check as check_runs
    from bench.cli.printing import say_left_out
    from bench.records.baseline import read_baseline
    from bench.records.runs import load_runs

    if github and as_json:
        raise BenchError("--github prints annotations on stdout, --json nothing but JSON", fix="drop one of them")
    _check_outputs(baseline, results or [_RESULTS], junit, summary)
    known = None if update else read_baseline(baseline)
    runs, problems = load_runs(results or [_RESULTS])
    say_left_out(problems, strict=strict)
    for run in runs:
        for doubt in run.doubts:
            tell(f"{run.folder}: {doubt}")
    if known is None:
        _update(baseline, runs, as_json)
        return
    found = check_runs(known, runs, margin=margin, accept_training_data=accept_training_data)
    _report(found, junit, summary, github, as_json)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _check_outputs(baseline: Path, results: list[Path], junit: Path | None, summary: Path | None) -> None:
    from bench.core.files import check_output

    check_output(baseline, option="--baseline", runs=results)
    if junit:
        check_output(junit, option="--junit", inputs=[baseline], runs=results)
    if summary:
        check_output(summary, option="--summary", inputs=[baseline, *([junit] if junit else [])], runs=results)


def _report(found: Check, junit: Path | None, summary: Path | None, github: bool, as_json: bool) -> None:
    from bench.core.files import atomic_write
    from bench.report import ci as gate_reports

    if junit:
        with atomic_write(junit) as temporary:
            temporary.write_bytes(gate_reports.to_junit(found))
    if summary:
        with summary.open("a", encoding="utf-8") as file:
            file.write(gate_reports.to_markdown(found))
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        show(gate_reports.CheckView(found))
    if github:
        write("\n".join(gate_reports.to_annotations(found)))
    if found.exit_code:
        tell(f"check: {gate_reports.summary_line(found)}")


def _update(path: Path, runs: list[StoredRun], as_json: bool) -> None:
    from bench.analysis.baseline_update import leaks, other_encoders, renew
    from bench.cli.printing import print_list
    from bench.records.baseline import left_out

    changes = renew(path, runs)
    for line in (*other_encoders(runs), *leaks(runs), *left_out(runs)):
        tell(line)
    rows = [
        {
            "task": change.task,
            "model": change.model,
            "protocol": change.protocol,
            "seed": change.seed,
            "then": "—" if change.then is None else f"{change.then:.1f}",
            "now": "—" if change.now is None else f"{change.now:.1f}",
            "": change.what,
        }
        for change in changes
    ]
    print_list(rows, [dataclasses.asdict(change) for change in changes], as_json)
