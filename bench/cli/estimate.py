"""The command `bench estimate`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import Json, options_of, run_options
from bench.cli.printing import table
from bench.core.console import print_json, show

if TYPE_CHECKING:
    from bench.pipeline.estimate.constants import Constants
    from bench.pipeline.estimate.counts import Work
    from bench.pipeline.estimate.hours import Estimate, Span

EXAMPLE = "Example: bench estimate --task ssv2 --model vjepa-vitl16 --gpus 64"

_ROWS = {
    "start": ("load the encoder, hash files", True),
    "decode": ("decode, alone", True),
    "encode": ("encode, alone", True),
    "extract": ("decode and encode together", True),
    "probes": ("train probes", False),
    "test": ("test predictions", False),
    "total": ("total", False),
}
"""What each part is called, and whether more GPUs share it."""


@run_options(
    without=("probe_weights", "probe_classes", "axis", "name", "results", "compile", "token_bits", "max_failed")
)
def estimate(
    task: Annotated[str, typer.Option(help="Task: a name from `bench tasks`, or the path of a card.")],
    model: Annotated[str, typer.Option(help="Encoder, as for `bench run`. Its weights need not be here.")],
    gpus: Annotated[int, typer.Option(min=1, help="Processes like the measured one, each with its device.")] = 1,
    video: Annotated[
        str | None,
        typer.Option(metavar="WxH@FPS,S", help="Without --data: what a usual video is, such as 340x256@30,10."),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measure nothing: take what `bench estimate --json` printed elsewhere."),
    ] = None,
    as_json: Json = False,
    **arguments: Any,
) -> None:
    """Forecast the clips, bytes and hours of a run from a measurement of a minute or two on this machine."""
    from bench.core.inputs import ESTIMATE, check_input
    from bench.core.progress import Live
    from bench.pipeline.estimate.constants import Measurement, read_measurement, subject_facts
    from bench.pipeline.estimate.counts import work_of
    from bench.pipeline.estimate.hours import estimate as estimate_hours
    from bench.pipeline.estimate.measure import measure
    from bench.pipeline.estimate.plans import read_video_facts, subject_of
    from bench.tasks.options import make_options

    options = {**options_of(arguments), "task": task, "model": model}
    facts = read_video_facts(video) if video else None
    if measured:  # not found out after the data were made
        check_input(measured, ESTIMATE)
    with Live() as reporter, subject_of(make_options(options), facts, reporter) as subject:
        plan, work = subject.plan, work_of(subject.plan)
        constants = read_measurement(measured, plan) if measured else measure(subject, work, reporter)
        made = estimate_hours(work, constants, gpus)
    notes = [*subject.notes, *_notes(work, constants, gpus, measured)]
    if as_json:
        measurement = Measurement(subject=subject_facts(plan), constants=constants)
        head = {"task": plan.task.name, "model": plan.facts.name, "protocol": plan.protocol, "input": plan.input_name}
        print_json({**head, **made.facts(), "notes": notes, "measurement": measurement.model_dump()})
        return
    from rich.text import Text

    show(Text(f"{plan.facts.name} on {plan.task.name}, {plan.protocol}, {plan.input_name}\n"))
    show(table(_counted(work)))
    show("")
    show(table(_timed(made)))
    for note in notes:
        show(Text(f"\n{note}"))


def _counted(work: Work) -> list[dict[str, Any]]:
    """A row for each kind of clip."""
    from bench.core.files import human_bytes

    rows = [
        {
            "clips": f"{part.name}{', encoded anew in every epoch' if part.streamed else ''}",
            "videos": f"{part.videos:,}",
            "encoded": f"{part.clips:,}",
            "tokens": f"{part.clips * work.clip_tokens:,}",
            "features": "-" if part.streamed else human_bytes(part.kept * work.kept_bytes),
        }
        for part in work.parts
    ]
    total = {
        "clips": "all",
        "videos": f"{sum(part.videos for part in work.parts):,}",
        "encoded": f"{work.clips:,}",
        "tokens": f"{work.tokens:,}",
        "features": human_bytes(work.feature_bytes),
    }
    return [*rows, total]


def _timed(made: Estimate) -> list[dict[str, Any]]:
    """A row for each part of a run."""
    return [
        {
            "time": words,
            "estimate": human_time(made.seconds[name].value),
            "from, to": _range(made.seconds[name]),
            "divided among": f"{made.devices}" if divided else "-" if name == "total" else "1",
        }
        for name, (words, divided) in _ROWS.items()
    ]


def _range(span: Span) -> str:
    return f"{human_time(span.low)}, {human_time(span.high)}"


def human_time(seconds: float) -> str:
    """`0.5 s`, `12 s`, `3.4 min` or `1,204.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _notes(work: Work, constants: Constants, gpus: int, measured: Path | None) -> list[str]:
    """What was measured, on what, and what that leaves out."""
    from bench.pipeline.estimate.hours import reads_disk

    decoded = min(time.count for time in constants.decode.values())
    where = f" ({measured})" if measured else ""
    times = f"; {gpus} of these, each with {constants.workers} decoding processes" if gpus > 1 else ""
    tried = max(time.batch_size for time in constants.steps)
    wanted = max(training.batch_size for training in work.trainings)
    steps = f"steps of {tried} samples" + (f", from which those of {wanted} follow" if wanted > tried else "")
    return [
        f"Measured on {constants.device}{where} in {constants.seconds:.0f} s: {decoded} videos decoded of each kind, "
        f"{constants.encode.count} clips encoded ({1000 * constants.encode.value:,.3g} ms each), {steps}{times}.",
        "From, to: two standard errors of what was measured."
        + (
            " The features do not fit the memory: every epoch reads them from the disk of the cache."
            if reads_disk(work, constants)
            else ""
        ),
    ]
