"""The commands `bench data verify` and `bench data prepare`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Cache, Data, Json, Train, Val
from bench.core.console import json_text, print_json
from bench.core.errors import BenchError

if TYPE_CHECKING:
    from bench.data.sample import ListOptions

app = typer.Typer(help="Check a task's data, or prepare it for quick reading.", no_args_is_help=True)

Task = Annotated[str, typer.Argument(help="A name from `bench tasks`, the path of a card, or custom.")]
Workers = Annotated[int | None, typer.Option(max=4096, help="Processes. Default: one a core. 0: no watchdog.")]
Timeout = Annotated[float, typer.Option(help="Seconds without progress after which a file counts as unreadable.")]


@app.command(epilog="Example: bench data verify ssv2 --data /data/ssv2 --report ssv2.json")
def verify(
    task: Task,
    data: Data = None,
    train: Train = None,
    val: Val = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every frame, not only headers.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write everything that was found here, as JSON.")] = None,
    cache: Cache = None,
    workers: Workers = None,
    timeout_s: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Is the data of a task whole, readable and fairly split? Exit code 2 where a score on it would mislead."""
    from bench.cards.load import load_task
    from bench.cli.printing import print_report
    from bench.core import machine as environment
    from bench.core.files import atomic_write, cache_folder, check_output, writable_folder
    from bench.core.progress import Live
    from bench.data.verify import verify as verifying

    card = load_task(task)
    if report:  # not found out after a night of checking
        check_output(report, option="--report", inputs=[path for path in (Path(task), train, val) if path])
        _check_is_report(report)
        writable_folder(report.parent, option="--report")
    with Live() as reporter:
        found = verifying.verify(
            card,
            _where(data, train, val),
            cache_folder(cache),
            reporter,
            full=full,
            workers=environment.default_workers() if workers is None else workers,
            timeout_s=timeout_s,
        )
    content = found.model_dump(mode="json")
    if report:
        with atomic_write(report) as temporary:
            temporary.write_text(json_text(content), encoding="utf-8")
    if as_json:
        print_json(content)
    else:
        print_report(found)
    if found.misleading:
        more = f" (and {len(found.misleading) - 1} more)" if len(found.misleading) > 1 else ""
        raise BenchError(
            f"a score on this data would mislead: {found.misleading[0]}{more}",
            where=f"task {card.name}",
            fix="mend the data or its lists" + ("" if report else "; --report FILE.json lists everything"),
        )


@app.command(epilog="Example: bench data prepare ssv2 --data /data/ssv2 --out /scratch/ssv2 --short-side 256 --gop 8")
def prepare(
    task: Task,
    out: Annotated[Path, typer.Option(help="New folder for manifest, lists and videos, outside of --data.")],
    data: Data = None,
    train: Train = None,
    val: Val = None,
    short_side: Annotated[int | None, typer.Option(help="Re-encode, larger videos resized to this, pixels.")] = None,
    gop: Annotated[int | None, typer.Option(help="Re-encode, with a key frame every N frames. Default: 8.")] = None,
    fps: Annotated[float | None, typer.Option(help="Rate of folders of frames whose lists state none.")] = None,
    workers: Workers = None,
    timeout_s: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Write a manifest of a task's data, and its videos anew: smaller, with short GOPs. Resumes by itself."""
    from bench.cards.load import load_task
    from bench.cli.printing import print_prepared
    from bench.core import machine as environment
    from bench.core.progress import Live
    from bench.data.verify import prepare as preparing

    card = load_task(task)
    with Live() as reporter:
        prepared, rows = preparing.prepare(
            card,
            _where(data, train, val),
            out.expanduser(),
            preparing.Wishes(short_side, gop, fps),
            reporter,
            workers=environment.default_workers() if workers is None else workers,
            timeout_s=timeout_s,
        )
    if as_json:
        print_json(prepared.model_dump(mode="json"))
    else:
        print_prepared(prepared, rows, out, task)
    if prepared.failed:
        raise BenchError(
            f"{prepared.failed:,} of {prepared.samples:,} samples could not be read",
            where=f"task {card.name}",
            fix=f"see `problem` in {out / preparing.MANIFEST}; mend them and give the same command again",
        )


def _check_is_report(path: Path) -> None:
    """Raise BenchError where the file is there and is no earlier report: it may be an annotation file or a video."""
    from pydantic import ValidationError

    from bench.core.inputs import REPORT, read_bytes
    from bench.data.verify.verify import Report

    try:
        content = read_bytes(path, REPORT) if path.exists() else b""
        if content:
            Report.model_validate_json(content)
    except ValidationError as error:
        what = "holds something else than an earlier report"
        raise BenchError(what, where=f"--report {path}", fix="name another file") from error


def _where(*paths: Path | None) -> ListOptions:
    from bench.data.sample import ListOptions

    return ListOptions(*(path.expanduser() if path else None for path in paths))
