"""The command `bench report`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import ResultFolders, Strict, split_names, split_words
from bench.core.console import say, tell

EXAMPLE = "Example: bench report -o report.html --results results --reference random"


def report(
    output: Annotated[Path, typer.Option("-o", "--output", help="The file to write.")] = Path("report.html"),
    results: ResultFolders = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only these tasks.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Only models like this: 'vjepa*'.")] = None,
    probe: Annotated[list[str] | None, typer.Option("--probe", help="Only these probes; wildcards work.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by a task, TASK/PROBE, motion, appearance, model or cost. Default: the scores that models share."
        ),
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Show the differences from this model, paired.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Add published numbers with their source.")] = False,
    no_frames: Annotated[
        bool,
        typer.Option("--no-frames", help="Leave out frames of videos, where their licence forbids to pass them on."),
    ] = False,
    strict: Strict = False,
) -> None:
    """Write one HTML file about all records: leaderboard, plots, classes, failed samples, provenance, commands."""
    from bench.analysis.published import sections_of
    from bench.analysis.select import Choice
    from bench.cli.printing import say_left_out
    from bench.core.files import atomic_write, check_output, writable_folder
    from bench.report.page.gather import gather
    from bench.report.page.page import to_page

    check_output(output, option="-o", runs=results or [Path("results")])
    choice = Choice(
        tasks=split_names("--task", task, ()),
        models=split_words("--model", model),
        probes=split_words("--probe", probe),
        sort=sort,
        reference=reference,
    )
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
