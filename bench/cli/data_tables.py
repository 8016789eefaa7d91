"""What both commands say to people: counts, then what is wrong, at most a screenful."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cli.printing import table
from bench.core.console import say, show
from bench.core.space import human_bytes
from bench.data.verify.manifest import Row
from bench.data.verify.prepared import Prepared
from bench.data.verify.report import Duplicates, Range, Report, SplitReport

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
