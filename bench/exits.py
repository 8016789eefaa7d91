"""How the command line ends: at most one line on stderr, and an exit code.

0 done, 1 a fault of the program, 2 a problem that the user can mend, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

import typer

from bench.errors import BenchError

_FAULT, _PROBLEM = 1, 2
_INTERRUPTED = 130  # as shells and newer versions of Typer report Ctrl-C


def run_and_exit(app: typer.Typer) -> NoReturn:
    """Run the command that the arguments name, and exit; with --debug among them a traceback is shown."""
    # Idle threads of the matrix library spin by default; on a busy machine that slows small products a hundredfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without dashes shows question marks
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        _fail(*_explained(error))
    if code == _INTERRUPTED:
        _fail(
            "interrupted; finished parts are kept, the same command (pretrain: with --resume) goes on from there",
            _INTERRUPTED,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _explained(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, BenchError):
        return str(error), _PROBLEM
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error} - check the disk, --cache and --results", _PROBLEM
    if type(error).__name__ == "SafetensorError" and "os error" in str(error):  # it writes files in its own way
        return f"{error} - check the disk, --cache and --results", _PROBLEM
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        advice = "use smaller batches (--batch-size; pretrain: --set micro_batch, --save-memory)"
        return f"out of memory - {advice}", _PROBLEM
    # Errors in the arguments; Typer raises its own copies of click's classes.
    format_message = getattr(error, "format_message", None)
    if format_message:
        return f"{format_message()} - `bench --help` and `bench COMMAND --help` list what there is", _PROBLEM
    return f"a fault of the program: {type(error).__name__}: {error} - --debug shows where", _FAULT


def _fail(message: str, code: int) -> NoReturn:
    print(f"bench: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
