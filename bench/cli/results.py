"""The command `bench results verify`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json
from bench.core.errors import BenchError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def results() -> None:
    """Check the folders that runs leave behind."""


@app.command(
    epilog="Example: bench results verify results. Exit codes: 0 every score follows from its predictions, 2 one does "
    "not, or cannot be made anew."
)
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of records.")] = Path("results"), as_json: Json = False
) -> None:
    """Make every score of a results folder anew from what its run predicted, and say what contradicts what."""
    from bench.cli.printing import print_list
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
