"""The command `bench leaderboard`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import ResultFolders, Strict, split_names, split_words
from bench.cli.printing import say_left_out
from bench.core.console import show, tell, write
from bench.core.errors import BenchError, nearest

if TYPE_CHECKING:
    from bench.analysis.leaderboard import Leaderboard
    from bench.analysis.published import Section

EXAMPLE = "Example: bench leaderboard --results results --format markdown"
FORMATS = ("table", "markdown", "csv", "json", "latex", "html")


def leaderboard(
    results: ResultFolders = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only these tasks.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Only models like this: 'vjepa*'.")] = None,
    probe: Annotated[list[str] | None, typer.Option("--probe", help="Only these probes; wildcards work.")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by a task, TASK/PROBE, motion, appearance, anticipation, model or cost. Default: the scores "
            "that models share."
        ),
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Show the differences from this model, paired.")] = None,
    output: Annotated[str, typer.Option("--format", help="table, markdown, csv, json, latex or html.")] = "table",
    published: Annotated[bool, typer.Option("--published", help="Add published numbers with their source.")] = False,
    strict: Strict = False,
) -> None:
    """Compare the models of all records: motion against appearance."""
    from bench.analysis.published import sections_of
    from bench.analysis.select import Choice, load_board

    if output not in FORMATS:
        raise BenchError(f"unknown format '{output}'", where="--format", fix=nearest(output, FORMATS))
    if published and output == "csv":
        raise BenchError("published numbers are not in --format csv", where="--published", fix="choose another format")
    choice = Choice(
        tasks=split_names("--task", task, ()),
        models=split_words("--model", model),
        probes=split_words("--probe", probe),
        sort=sort,
        reference=reference,
    )
    board, problems = load_board(results or [Path("results")], choice=choice)
    sections = sections_of(board) if published else []
    _print(output, board, sections)
    if published and not sections:
        tell("no published numbers of these tasks")
    say_left_out(problems, strict=strict)


def _print(output: str, board: Leaderboard, sections: list[Section]) -> None:
    from bench.report import export, html, latex
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
        write(latex.to_latex(board, sections), end="")
    elif output == "html":
        write(html.to_html(board, sections), end="")
    else:
        write(export.to_json(board, sections))
