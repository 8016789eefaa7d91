"""What the gate found, for a terminal, for GitHub's job summary and annotations, and as JUnit XML for any CI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bench.analysis.gate import Check
from bench.analysis.gate_rows import Status, Verdict
from bench.core.console import markdown, plain
from bench.metrics.metric import form_of
from bench.report.compare_view import points
from bench.report.terminal import definitions

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

WORDS: dict[Status, str] = {"pass": "pass", "regression": "REGRESSION", "unknown": "cannot tell"}
_STYLES: dict[Status, str] = {"pass": "green", "regression": "bold red", "unknown": "yellow"}
_LEVELS: dict[Status, str] = {"pass": "notice", "regression": "error", "unknown": "warning"}


@dataclass(frozen=True)
class CheckView:
    """A check as something that a rich console prints at its own width."""

    found: Check

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What rich calls to print it."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("row", overflow="fold")
        for name in ("then", "now", "change", "90 % interval"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in self.found.tasks:
            interval = "" if row.low is None or row.high is None else f"{points(row.low)} to {points(row.high)}"
            table.add_row(
                Text(plain(_name(row))),
                f"{row.baseline:.1f}",
                "—" if row.value is None else f"{row.value:.1f}",
                "" if row.difference is None else points(row.difference),
                interval,
                Text(WORDS[row.status], _STYLES[row.status]),
            )
        yield table
        if self.found.status != "pass":
            yield Text()
        for row in self.found.tasks:
            if row.status != "pass":
                yield Text.assemble((WORDS[row.status], _STYLES[row.status]), plain(f"  {_name(row)}: {row.reason}"))
        yield Text()
        yield definitions([*_legend(self.found), *(("note", note) for note in self.found.notes)])


def summary_line(found: Check) -> str:
    """The outcome in one line: how many rows say what, and the first that does not pass."""
    counts = [sum(row.status == status for row in found.tasks) for status in WORDS]
    parts = [f"{count} {word}" for count, word in zip(counts, WORDS.values(), strict=True) if count]
    worst = next((row for row in found.tasks if row.status == found.status), None)
    detail = f"; {_name(worst)}: {worst.reason}" if worst and found.status != "pass" else ""
    return f"{', '.join(parts)}{detail}"


def to_markdown(found: Check) -> str:
    """A table for GitHub's job summary or a comment; names stay plain text."""
    lines = [
        f"### Probe scores: {WORDS[found.status]}",
        "",
        "| task | model | probe | then | now | change | | |",
        "|---|---|---|--:|--:|--:|---|---|",
    ]
    for row in found.tasks:
        value = "" if row.value is None else f"{row.value:.1f}"
        change = "" if row.difference is None else points(row.difference)
        names = " | ".join(map(markdown, (row.task, row.model, f"{row.probe}{_metric(row)}")))
        shown = f"**{WORDS[row.status]}**" if row.status != "pass" else WORDS[row.status]
        lines.append(f"| {names} | {row.baseline:.1f} | {value} | {change} | {shown} | {markdown(row.reason)} |")
    lines += ["", *(f"- {term}: {markdown(text)}" for term, text in _legend(found))]
    return "\n".join([*lines, *(f"- note: {markdown(note)}" for note in found.notes), ""])


def to_junit(found: Check) -> bytes:
    """JUnit XML: a regression is a failure, what cannot be told is an error."""
    counts = {status: sum(row.status == status for row in found.tasks) for status in WORDS}
    numbers = {
        "tests": str(len(found.tasks)),
        "failures": str(counts["regression"]),
        "errors": str(counts["unknown"]),
    }
    root = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "bench check", **numbers})
    for row in found.tasks:
        names = {"classname": plain(row.task), "name": plain(f"{row.model}, {row.protocol}{_metric(row)}")}
        case = ElementTree.SubElement(suite, "testcase", names)
        text = plain(f"{_scores(row)}: {row.reason}")
        if row.status != "pass":
            kind = "failure" if row.status == "regression" else "error"
            ElementTree.SubElement(case, kind, {"message": text, "type": row.status})
        told = [*([text] if row.status == "pass" else []), *(f"note: {plain(note)}" for note in row.notes)]
        if told:
            ElementTree.SubElement(case, "system-out").text = "\n".join(told)
    if found.notes:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(f"note: {plain(note)}" for note in found.notes)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def to_annotations(found: Check) -> list[str]:
    """GitHub workflow commands: an error for a regression, a warning for what cannot be told, a notice if all pass and
    for each note."""
    lines = [
        _annotation(row.status, f"{_name(row)}: {_scores(row)}, {row.reason}")
        for row in found.tasks
        if row.status != "pass"
    ]
    lines = lines or [_annotation("pass", summary_line(found))]
    return lines + [_command("notice", "note", note) for note in found.notes]


def _annotation(status: Status, text: str) -> str:
    return _command(_LEVELS[status], WORDS[status], text)


def _command(level: str, title: str, text: str) -> str:
    # As GitHub's toolkit escapes the data of a workflow command.
    shown = plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title=bench check - {title}::{shown}"


def _name(row: Verdict) -> str:
    return f"{row.model} on {row.task}, {row.probe}{_metric(row)}"


def _metric(row: Verdict) -> str:
    """Name the metric of a row where it is not accuracy, because a run may have several."""
    return "" if form_of(row.metric) == "classes" else f", {row.metric}"


def _scores(row: Verdict) -> str:
    if row.value is None or row.difference is None:
        return f"{row.baseline:.1f} % in the baseline"
    return f"{row.baseline:.1f} % then, {row.value:.1f} % now, {points(row.difference)} points"


def _legend(found: Check) -> Iterator[tuple[str, str]]:
    drop = f"{found.margin:g} point{'s' * (found.margin != 1)}"
    yield "pass", f"a drop of {drop} or more is excluded: the interval lies above it, or every answer is as before"
    yield "regression", "a drop is shown (one-sided test, 5 %, Holm) and one of the margin is not excluded"
    compared = [row for row in found.tasks if row.paired]
    alone = sum(row.one_probe for row in compared)
    if alone < len(compared):
        yield "seeds", "interval and test are over test samples and trainings of the probe"
    if alone:
        which = "the baseline" if alone == len(found.tasks) else f"{alone} of {len(found.tasks)} rows of the baseline"
        text = "judged by the test samples alone, which a retrained probe may fail; `bench run --seeds` tells more"
        yield "one probe", f"{which} {'has' if alone in (1, len(found.tasks)) else 'have'} one seed: {text}"
    if any(_metric(row) for row in found.tasks):
        yield "other metrics", "videos are resampled; the test flips the signs of what each of them adds to the change"
    if any(row.status == "unknown" for row in found.tasks):
        yield "cannot tell", "neither; the reason is in the row"
    unpaired = [row for row in found.tasks if row.difference is not None and not row.paired]
    if unpaired:
        yield "no outcomes", f"{len(unpaired)} rows of the baseline are scores only: compared as independent samples"
