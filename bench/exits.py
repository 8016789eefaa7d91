"""How the command line ends: at most one line on stderr, and an exit code.

0 done, 1 a fault of the program, 2 a problem that the user can mend, 130 interrupted.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings
from typing import Any, NoReturn

import typer

from bench.console import show_traceback, tell
from bench.errors import BenchError

_FAULT, _PROBLEM = 1, 2
_INTERRUPTED = 130  # as shells and newer versions of Typer report Ctrl-C
_FILES = "raise the limit of this shell (`ulimit -n 1024`), or give fewer --workers"
_MEMORY = (
    "use smaller batches (--batch-size; pretrain: --set micro_batch, --save-memory), fewer --workers, or a machine "
)
_MEMORY += "or a limit (`ulimit -v`) with more memory"
_DISK = "check the disk, --cache and --results"
_ADVICE = {
    errno.EMFILE: _FILES,
    errno.ENFILE: "the machine has no more: end other programs, or give fewer --workers",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "the machine starts no further process or thread: see `ulimit -u`, or give fewer --workers",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`), or choose another --cache and --results",
    errno.EPIPE: "the program that read from this one has ended",
}
"""What to do about errors of the system that are none of a disk."""
_NO_MEMORY = ("can't allocate memory", "cannot allocate memory", "failed to map segment", "bad_alloc", "out of memory")
"""What libraries call it, in small letters."""


def run_and_exit(app: typer.Typer) -> NoReturn:
    """Run the command that the arguments name, and exit; with --debug among them a traceback is shown."""
    # Idle threads of the matrix library spin by default; on a busy machine that slows small products a hundredfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without dashes shows question marks
    warnings.showwarning = _show_warning
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
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


def _explained(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, BenchError):
        return str(error), _PROBLEM
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error} - {_ADVICE.get(error.errno, _DISK)}", _PROBLEM
    if type(error).__name__ == "SafetensorError" and "os error" in str(error):  # it writes files in its own way
        return f"{error} - {_DISK}", _PROBLEM
    if is_out_of_memory(error):
        return f"out of memory - {_MEMORY}", _PROBLEM
    if "can't start new thread" in str(error):
        return f"{error} - {_ADVICE[errno.EAGAIN]}, or more memory (`ulimit -v`)", _PROBLEM
    # Errors in the arguments; Typer raises its own copies of click's classes.
    format_message = getattr(error, "format_message", None)
    if format_message:
        return f"{format_message()} - `bench --help` and `bench COMMAND --help` list what there is", _PROBLEM
    return f"a fault of the program: {type(error).__name__}: {error} - --debug shows where", _FAULT


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of any library says that there is no memory left, of the machine or of a device."""
    said = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(words in said for words in _NO_MEMORY)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    tell(f"{category.__name__}: {message}")


def _fail(message: str, code: int) -> NoReturn:
    tell(message)
    sys.exit(code)
