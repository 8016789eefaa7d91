"""How the command line ends: at most one line on stderr, and an exit code.

0 done, 1 a fault of the program, 2 a problem that the user can mend, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import resource
import sys
import traceback
import warnings
from typing import Any, NoReturn

import typer

from bench.core.console import show_traceback, tell, write
from bench.core.errors import BenchError, lack_of

_FAULT, _PROBLEM = 1, 2
_INTERRUPTED = 130  # as shells and newer versions of Typer report Ctrl-C
_FILES = "raise the limit of this shell (`ulimit -n 1024`), or give fewer --workers"
_MEMORY = "use smaller batches (--batch-size; pretrain: --set micro_batch, --save-memory), or fewer --workers"
_DISK = "check the disk, --cache and --results"
_ADVICE = {
    errno.EAGAIN: "the machine starts no further process or thread: see `ulimit -u`, or give fewer --workers",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`), or choose another --cache and --results",
    errno.EPIPE: "the program that read from this one has ended",
}
"""What to do about errors of the system that are none of a disk."""


def run_and_exit(app: typer.Typer) -> NoReturn:
    """Run the command that the arguments name, and exit; with --debug among them a traceback is shown."""
    # Idle threads of the matrix library spin by default; on a busy machine that slows small products a hundredfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without dashes shows question marks
    warnings.showwarning = _show_warning
    logging.lastResort = _Told(logging.WARNING)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = _help(app, arguments) if "--help" in arguments else app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except SystemExit as ended:
        if isinstance(ended.__context__, OSError):  # a broken pipe: Typer would leave without a word
            _fail(*_explained(ended.__context__))
        raise
    except Exception as error:  # noqa: BLE001 - said in a line, whatever it is
        if len(arguments) < len(sys.argv) - 1:
            show_traceback(traceback.format_exc())
        _fail(*_explained(error))
    if code == _INTERRUPTED:
        _fail(
            "interrupted; finished parts are kept, the same command (pretrain: with --resume) goes on from there",
            _INTERRUPTED,
        )
    sys.exit(code if isinstance(code, int) else 0)


class _Told(logging.Handler):
    """What libraries log and nobody handles."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print it as one of the command's own lines."""
        tell(record.getMessage())


def _help(app: typer.Typer, arguments: list[str]) -> Any:
    """Run a command that prints its help; Typer prints past the console, and ends without a word where it cannot."""
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        code = app(arguments, standalone_mode=False)
    write(shown.getvalue(), end="")
    return code


def _explained(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if scarce := _scarce(error):
        return scarce, _PROBLEM
    if isinstance(error, BenchError):
        return str(error), _PROBLEM
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error} - {_ADVICE.get(error.errno or 0, _DISK)}", _PROBLEM
    if type(error).__name__ == "SafetensorError" and "os error" in str(error):  # it writes files in its own way
        return f"{error} - {_DISK}", _PROBLEM
    if "can't start new thread" in str(error):
        return f"{error} - {_ADVICE[errno.EAGAIN]}, or more memory (`ulimit -v`)", _PROBLEM
    # Errors in the arguments; Typer raises its own copies of click's classes.
    format_message = getattr(error, "format_message", None)
    if format_message:
        return f"{format_message()} - `bench --help` and `bench COMMAND --help` list what there is", _PROBLEM
    return f"a fault of the program: {type(error).__name__}: {error} - --debug shows where", _FAULT


def _scarce(error: Exception) -> str:
    """What is said where the machine has no more memory or open files; empty where an error is about anything else.

    A file that cannot be read for want of memory may claim to be larger than it is, unless memory is limited here.
    """
    lack, own = lack_of(error), isinstance(error, BenchError)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    limited = limit != resource.RLIM_INFINITY
    where = f"{error.where}: " if isinstance(error, BenchError) and error.where else ""
    if lack == "files":
        return f"{where}too many open files - {_FILES}"
    if lack == "memory" and limited:
        allowed = f"{limit / 2**30:.1f} GiB of address space are allowed here"
        return f"{where}out of memory: {allowed} - raise the limit (`ulimit -v unlimited`); or {_MEMORY}"
    return f"out of memory - {_MEMORY}" if lack == "memory" and not own else ""


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    tell(f"{category.__name__}: {message}")


def _fail(message: str, code: int) -> NoReturn:
    tell(message)
    sys.exit(code)
