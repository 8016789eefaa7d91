"""The command `bench plot`: parse, call, write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import ResultFolders, Strict, split_names, split_words
from bench.core.console import say
from bench.core.errors import BenchError
from bench.report.plots import KINDS

EXAMPLE = "Example: bench plot scatter -o scatter.svg"
SUFFIXES = (".svg", ".png")
_WHAT = "What to draw: " + "; ".join(f"{kind} ({title[0].lower()}{title[1:]})" for kind, title in KINDS.items()) + "."


def plot(
    kind: Annotated[str, typer.Argument(help=_WHAT)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .svg or .png.")],
    results: ResultFolders = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="Only these tasks.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Only models like this: 'vjepa*'.")] = None,
    probe: Annotated[list[str] | None, typer.Option("--probe", help="Only these probes; wildcards work.")] = None,
    strict: Strict = False,
) -> None:
    """Draw the records. Where a kind makes one plot for each task, the files are numbered: scores-1.svg, ..."""
    if kind not in KINDS:
        from bench.core.errors import nearest

        raise BenchError(f"no plot is called '{kind}'", where="bench plot", fix=nearest(kind, KINDS))
    if output.suffix.lower() not in SUFFIXES:
        raise BenchError(f"'{output.suffix}' cannot be written", where=f"-o {output}", fix="end it in .svg or .png")
    from bench.analysis.runs import read_evidence
    from bench.cli.printing import say_left_out
    from bench.core.files import atomic_write, check_output, writable_folder
    from bench.report.plots import draw

    evidence, problems = read_evidence(
        results or [Path("results")],
        tasks=split_names("--task", task, ()),
        models=split_words("--model", model),
        probes=split_words("--probe", probe),
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
