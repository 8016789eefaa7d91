"""What commands print: tables for people, JSON for programs. Wide enough for a terminal, plain where there is none."""

from __future__ import annotations

import dataclasses
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.core.console import console, plain, print_json, say, show, tell
from bench.core.errors import BenchError
from bench.core.files import human_bytes

if TYPE_CHECKING:
    from bench.data.verify.manifest import Prepared, Row
    from bench.data.verify.verify import Duplicates, Range, Report, SplitReport
    from bench.encoders.catalog import ModelCard, Registered
    from bench.encoders.fetch import Fetched
    from bench.pipeline.estimate.rough import Forecast

_PIPE_WIDTH = 100
"""Columns of the list of models in a file, which has no width of its own; rich would take 80."""
_LONGEST_WORD = 24


def print_forecasts(forecasts: list[Forecast], as_json: bool) -> None:
    """One row a run."""
    if as_json:
        print_json([dataclasses.asdict(item) for item in forecasts])
        return
    rows = [
        {
            "task": item.task,
            "model": item.model,
            "samples": " + ".join(_official(part.annotated, part.official) for part in item.files),
            "unreadable": f"{item.missing_files} missing, {item.empty_files} empty",
            "clips": f"{item.clips:,}",
            "tokens": f"{item.tokens:,}",
            "features": f"{human_bytes(item.feature_bytes)} of {human_bytes(item.free_bytes)} free",
            "time, rough": f"decode {item.decode_s:.0f} s, encode {item.encode_s:.0f} s",
        }
        for item in forecasts
    ]
    show(table(rows))
    from bench.encoders.contract import describe_weights

    for model, weights in {item.model: item.weights for item in forecasts if item.weights}.items():
        show("; ".join([f"{model}: {describe_weights(weights)}", *weights["notes"]]))


def print_extracted(summary: list[dict[str, Any]], as_json: bool) -> None:
    """One row a plan, of what `bench extract` did."""
    if as_json:
        print_json(summary)
        return
    rows = [
        {
            "task": done["task"],
            "model": done["model"],
            "samples": f"{done['train']:,} + {done['test']:,}",
            "unreadable": f"{done['failed']:,}",
            "clips": f"{done['encoded_clips']:,} encoded, {done['cached_clips']:,} cached",
            "cache": done["cache"],
        }
        for done in summary
    ]
    show(table(rows))


def _official(annotated: int, official: int | None) -> str:
    return f"{annotated:,}" if official in (None, annotated) else f"{annotated:,} of {official:,}"


def print_facts(lines: dict[str, str], facts: dict[str, Any], as_json: bool) -> None:
    """One line for each name and value; `facts` as JSON."""
    if as_json:
        print_json(facts)
    else:
        from rich.table import Table
        from rich.text import Text

        made = Table(box=None, pad_edge=False, show_header=False)
        made.add_column(no_wrap=True)
        made.add_column(overflow="fold")
        for name, value in lines.items():
            made.add_row(name, Text(value))
        show(made)


def print_models(cards: Sequence[ModelCard], registered: Sequence[Registered], as_json: bool) -> None:
    """The catalog, a table with remarks below it, and the encoders of installed packages."""
    from bench.cli.lists import model_facts, model_rows, registered_facts, registered_rows, remarks

    if as_json:
        print_json([*map(model_facts, cards), *map(registered_facts, registered)])
        return
    from rich.console import Group
    from rich.text import Text

    on = console(width_of_pipe=_PIPE_WIDTH)
    parts: list[Any] = []
    if cards:
        lines = [Text(line, style="dim") for line in remarks(cards)]
        parts += [table(model_rows(cards, on.width)), *([Text()] if lines else []), *lines]
    if registered:
        parts += [*([Text()] if parts else []), table(registered_rows(registered))]
    show(Group(*parts), on)


def print_fetched(fetched: Sequence[Fetched], as_json: bool) -> None:
    """What became of each name, and where the file is."""
    if as_json:
        print_json([dataclasses.asdict(item) for item in fetched])
        return
    for item in fetched:
        if not item.path or item.size_bytes is None:
            say(f"{item.name}: {item.state}")
            continue
        say(f"{item.name}: {item.state}, {human_bytes(item.size_bytes)}, {item.path}")
        if item.sha256:
            say(f"  sha256 {item.sha256}{f', as {item.agrees_with} says' if item.agrees_with else ''}")


def print_list(rows: list[dict[str, Any]], cards: list[dict[str, Any]], as_json: bool) -> None:
    """A table of `rows`; `cards` as JSON."""
    if as_json:
        print_json(cards)
    else:
        show(table(rows))


def table(rows: list[dict[str, Any]]) -> Any:
    """A table of rows that share their columns, the keys. Where it is too wide, what has several words wraps."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(rows[0] if rows else ["(none)"]):
        values = [str(row[column]) for row in rows]
        is_word = all(" " not in value and len(value) <= _LONGEST_WORD for value in values)
        made.add_column(column, no_wrap=index == 0 or is_word, overflow="fold")
    for row in rows:
        made.add_row(*(Text(plain(str(value))) for value in row.values()))
    return made


def say_left_out(problems: Sequence[BenchError], *, strict: bool = False) -> None:
    """Say on stderr why records were left out; `strict` makes that the end of the command, exit code 2."""
    for problem in problems:
        tell(f"skipped {problem}")
    if strict and problems:
        raise typer.Exit(2)


_SHOWN = 10
_SPREAD = " (min / median / max)"


def print_report(report: Report) -> None:
    """On stdout."""
    columns = {split: _column(part) for split, part in report.splits.items()}
    names = next(iter(columns.values()))
    show(table([{"": name, **{split: column[name] for split, column in columns.items()}} for name in names]))
    _print_list([{"problem": p.kind, "split": p.split, "sample": p.sample, "": p.reason} for p in report.problems])
    twins = sorted(report.duplicates, key=lambda twin: (not twin.across, not twin.labels_differ))
    _print_list([_row(twin) for twin in twins])
    for line in [*report.misleading, *report.remarks]:
        say(line)


def print_prepared(prepared: Prepared, rows: Sequence[Row], out: Path, task: str) -> None:
    """What was made, what could not be, and how to use it. On stdout."""
    _print_list(
        [{"problem": row.problem, "split": row.split, "sample": row.id} for row in rows if row.problem],
        "manifest.parquet holds all",
    )
    say(f"{out}: manifest of {prepared.samples:,} samples, {human_bytes(sum(row.bytes or 0 for row in rows))}")
    for note in prepared.notes:
        say(note)
    if prepared.encoding and prepared.lists:
        say("next: " + shlex.join(["bench", "run", "--task", task, "--data", str(out)]))
    elif prepared.lists:
        lists = ["--train", str(out / prepared.lists["train"]), "--val", str(out / prepared.lists["test"])]
        say("next: " + shlex.join(["bench", "run", "--task", task, "--data", prepared.source, *lists]))


def _column(part: SplitReport) -> dict[str, str]:
    from bench.data.verify.verify import Range

    counts = part.class_counts
    spread = Range(min=min(counts), median=statistics.median(counts), max=max(counts))
    return {
        "samples": f"{part.samples:,}" + (f" of {part.official:,}" if part.official else ""),
        "readable": f"{part.readable:,}",
        "missing": f"{part.missing:,}",
        "empty": f"{part.empty:,}",
        "unreadable": f"{part.unreadable:,}",
        "size on disk": human_bytes(part.bytes),
        f"frames{_SPREAD}": _range(part.frames),
        f"frames per second{_SPREAD}": _range(part.fps),
        f"short side, pixels{_SPREAD}": _range(part.short_side),
        "classes with samples": f"{sum(count > 0 for count in counts):,} of {len(counts):,}",
        f"samples of a class{_SPREAD}": _range(spread),
    }


def _range(known: Range | None) -> str:
    """Least, middle, largest; one number where they are equal."""
    if known is None:
        return "-"
    if known.min == known.max:
        return f"{known.min:,.6g}"
    return f"{known.min:,.6g} / {known.median:,.6g} / {known.max:,.6g}"


def _row(twin: Duplicates) -> dict[str, Any]:
    members = [f"{member.split} {member.sample} ({member.label})" for member in twin.members[:3]]
    kind = "same in both splits" if twin.across else "same"
    return {"content": kind, "samples and labels": ", ".join(members) + (", ..." if len(twin.members) > 3 else "")}


def _print_list(rows: list[dict[str, Any]], rest: str = "--report FILE.json holds all") -> None:
    if rows:
        say()
        show(table(rows[:_SHOWN]))
    if len(rows) > _SHOWN:
        say(f"... and {len(rows) - _SHOWN:,} more: {rest}")
    if rows:
        say()
