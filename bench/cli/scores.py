"""The commands that read records: parse, call, print. leaderboard, report, plot, compare, check, results."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import (
    Json,
    OnlyModels,
    OnlyProbes,
    OnlyTasks,
    Published,
    Reference,
    ResultFolders,
    Sort,
    Strict,
    split_names,
    split_words,
)
from bench.cli.printing import print_list, say_left_out
from bench.core.console import print_json, say, show, tell, write
from bench.core.errors import BenchError, nearest
from bench.report.plots import KINDS

if TYPE_CHECKING:
    from bench.analysis.board import Leaderboard
    from bench.analysis.gate import Check
    from bench.analysis.published import Section
    from bench.records.runs import StoredRun

LEADERBOARD_EXAMPLE = "Example: bench leaderboard --results results --format markdown"
FORMATS = ("table", "markdown", "csv", "json", "latex", "html")


def leaderboard(
    results: ResultFolders = None,
    task: OnlyTasks = None,
    model: OnlyModels = None,
    probe: OnlyProbes = None,
    sort: Sort = None,
    reference: Reference = None,
    output: Annotated[str, typer.Option("--format", help="table, markdown, csv, json, latex or html.")] = "table",
    published: Published = False,
    strict: Strict = False,
) -> None:
    """Compare the models of all records: motion against appearance."""
    from bench.analysis.published import sections_of
    from bench.analysis.select import Choice, load_board

    if output not in FORMATS:
        raise BenchError(f"unknown format '{output}'", where="--format", fix=nearest(output, FORMATS))
    if published and output == "csv":
        raise BenchError("published numbers are not in --format csv", where="--published", fix="choose another format")
    choice = Choice(**_only(task, model, probe), sort=sort, reference=reference)
    board, problems = load_board(results or [Path("results")], choice=choice)
    sections = sections_of(board) if published else []
    _print(output, board, sections)
    if published and not sections:
        tell("no published numbers of these tasks")
    say_left_out(problems, strict=strict)


def _print(output: str, board: Leaderboard, sections: list[Section]) -> None:
    from bench.report import export, html
    from bench.report import terminal as tables

    if output == "table":
        show(tables.to_rich(board))
        if sections:
            show(tables.published_to_rich(sections))
    elif output == "markdown":
        write(export.to_markdown(board) + (export.published_to_markdown(sections) if sections else ""))
    elif output == "csv":
        write(export.to_csv(board), end="")
    elif output == "latex":
        write(export.to_latex(board, sections), end="")
    elif output == "html":
        write(html.to_html(board, sections), end="")
    else:
        write(export.to_json(board, sections))


def _only(task: list[str] | None, model: list[str] | None, probe: list[str] | None) -> dict[str, list[str]]:
    """Which records are asked for, by the names of the fields of a Choice."""
    return {
        "tasks": split_names("--task", task, ()),
        "models": split_words("--model", model),
        "probes": split_words("--probe", probe),
    }


def report(
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("report.html"),
    results: ResultFolders = None,
    task: OnlyTasks = None,
    model: OnlyModels = None,
    probe: OnlyProbes = None,
    sort: Sort = None,
    reference: Reference = None,
    published: Published = False,
    no_frames: Annotated[
        bool,
        typer.Option("--no-frames", help="Leave out frames of videos, where their licence forbids to pass them on."),
    ] = False,
    strict: Strict = False,
) -> None:
    """Write one HTML file about all records: leaderboard, plots, classes, failed samples, provenance, commands."""
    from bench.analysis.published import sections_of
    from bench.analysis.select import Choice
    from bench.core.files import atomic_write, check_output, writable_folder
    from bench.report.page.page import to_page
    from bench.report.page.parts import gather

    check_output(output, option="-o", runs=results or [Path("results")])
    choice = Choice(**_only(task, model, probe), sort=sort, reference=reference)
    material = gather(results or [Path("results")], choice)
    writable_folder(output.parent, option="-o")
    sections = sections_of(material.board) if published else []
    page = to_page(material, sections, frames=not no_frames)
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    say(
        f"{output}: {len(material.board.rows)} models, {len(material.evidence)} runs, {len(page.encode()) / 1e6:.1f} MB"
    )
    if published and not sections:
        tell("no published numbers of these tasks")
    say_left_out(material.problems, strict=strict)


SUFFIXES = (".svg", ".png")
_WHAT = "What to draw: " + "; ".join(f"{kind} ({title[0].lower()}{title[1:]})" for kind, title in KINDS.items()) + "."


def plot(
    kind: Annotated[str, typer.Argument(help=_WHAT)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .svg or .png.")],
    results: ResultFolders = None,
    task: OnlyTasks = None,
    model: OnlyModels = None,
    probe: OnlyProbes = None,
    strict: Strict = False,
) -> None:
    """Draw the records. Where a kind makes one plot for each task, the files are numbered: scores-1.svg, ..."""
    if kind not in KINDS:
        from bench.core.errors import nearest

        raise BenchError(f"no plot is called '{kind}'", where="bench plot", fix=nearest(kind, KINDS))
    if output.suffix.lower() not in SUFFIXES:
        raise BenchError(f"'{output.suffix}' cannot be written", where=f"-o {output}", fix="end it in .svg or .png")
    from bench.analysis.select import read_evidence
    from bench.core.files import atomic_write, check_output, writable_folder
    from bench.report.plots import draw

    evidence, problems = read_evidence(
        results or [Path("results")],
        **_only(task, model, probe),
    )
    say_left_out(problems, strict=strict)
    plots = draw(kind, evidence)
    if not plots:
        raise BenchError(f"the records hold nothing for the plot '{kind}'", fix=_NEEDS[kind])
    writable_folder(output.parent, option="-o")
    numbered = [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, 1 + len(plots))]
    paths = [output] if len(plots) == 1 else numbered
    for path in paths:
        check_output(path, option="-o", runs=results or [Path("results")])
    for path, made in zip(paths, plots, strict=True):
        with atomic_write(path) as temporary:
            temporary.write_bytes(made.svg().encode() if path.suffix.lower() == ".svg" else made.png())
        say(f"{path}: {made.title}")
        say(f"    {made.caption}")


_NEEDS = {
    "scatter": "it needs a model with a task about motion and one about appearance, under one probe",
    "bars": "`bench run` writes records",
    "controls": "`bench run --controls` writes them",
    "labels": "`bench run --labels` writes them",
    "cost": "it needs an encoder that computes something, under a recent record",
    "curve": "`bench run --model 'FOLDER/epoch*'` writes curves",
    "sweep": "it needs a probe that was chosen from several settings on held-out samples",
    "confusion": "it needs predictions.parquet beside the records, of a task with classes",
    "classes": "it needs predictions.parquet beside the records, of a task with classes",
    "reliability": "it needs predictions.parquet beside the records, of a task with classes",
}
"""What a kind of plot is drawn from."""


_RESULTS = Path("results")
Run = Annotated[str, typer.Argument(help="Run id, folder of a run, model, or model@task.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(results_commands, name="results")
    app.command(epilog="Example: bench plot scatter -o scatter.svg")(plot)
    app.command(epilog="Example: bench report -o report.html --results results --reference random")(report)
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
    """Compare two models on the same test samples: A minus B with interval, paired test, classes and samples."""
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
    from bench.analysis.gate import leaks, other_encoders, renew
    from bench.records.baseline import left_out

    changes = renew(path, runs)
    for line in (*other_encoders(runs), *leaks(runs), *left_out(runs)):
        tell(line)
    several = len({change.metric for change in changes}) > 1
    rows = [
        {
            "task": change.task,
            "model": change.model,
            "protocol": change.protocol,
            **({"metric": change.metric} if several else {}),
            "seeds": ", ".join(map(str, change.seeds)),
            "then": "—" if change.then is None else f"{change.then:.1f}",
            "now": "—" if change.now is None else f"{change.now:.1f}",
            "": change.what,
        }
        for change in changes
    ]
    print_list(rows, [dataclasses.asdict(change) for change in changes], as_json)


results_commands = typer.Typer(no_args_is_help=True)


@results_commands.callback()
def results() -> None:
    """Check the folders that runs leave behind."""


@results_commands.command(
    epilog="Example: bench results verify results. Exit codes: 0 every score follows from its predictions, 2 one does "
    "not, or cannot be made anew."
)
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of records.")] = Path("results"), as_json: Json = False
) -> None:
    """Make every score of a results folder anew from what its run predicted, and say what contradicts what."""
    from bench.records.verified import verify_folder

    found = verify_folder(folder)
    rows = [{"run": one.run_id, "": one.verdict, "what contradicts what": one.reason} for one in found]
    print_list(rows, [one.facts() for one in found], as_json)
    wrong = [one for one in found if one.reason]
    if wrong:
        raise BenchError(
            f"{len(wrong)} of {len(found)} records do not follow from what lies beside them: the first says "
            f"{wrong[0].reason}",
            where=str(wrong[0].path),
            fix=wrong[0].fix,
        )
