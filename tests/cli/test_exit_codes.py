"""How commands end, whatever ends them: one true line on stderr, and the exit code."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from support import ROOT, Run

from bench.cli.exit_codes import run_and_exit
from bench.core.errors import BenchError, lack_of

pytestmark = pytest.mark.slow

Ended = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    """Run a command whose body is `act`; gives its exit code, stdout and stderr."""
    monkeypatch.setattr(logging, "lastResort", None)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def end(act: Callable[[], object], *arguments: str) -> tuple[int, str, str]:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(help="What it does.")(lambda: act() and None)
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as exit_:
            run_and_exit(app)
        return (exit_.value.code, *capsys.readouterr())

    return end


def raising(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def act() -> None:
        raise error from cause

    return act


def system(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


NO_MEMORY = [
    MemoryError(),
    system(errno.ENOMEM),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    RuntimeError("std::bad_alloc"),
    ImportError("libtorch.so: failed to map segment from shared object"),
    ImportError("cannot allocate memory in static TLS block"),
    RuntimeError("a worker failed:\nTraceback ...\nnumpy._core._exceptions._ArrayMemoryError"),
]
NO_FILES = [
    system(errno.EMFILE, "/x"),
    system(errno.ENFILE),
    RuntimeError("a worker failed:\nTraceback ...\nOSError: [Errno 24] Too many open files: 'x'"),
]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        *((error, "out of memory") for error in NO_MEMORY),
        *((error, "too many open files - raise the limit") for error in NO_FILES),
        (system(errno.ENOSPC, "/c/x"), "/c/x: No space left on device - check the disk, --cache and --results"),
        (system(errno.EFBIG), "File too large - raise the limit on the size of a file (`ulimit -f`)"),
        (OSError("8 requested and 4 written"), "8 requested and 4 written - check the disk, --cache and --results"),
        (system(errno.EAGAIN), "no further process or thread"),
        (RuntimeError("can't start new thread"), "no further process or thread"),
        (system(errno.EPIPE), "Broken pipe - the program that read from this one has ended"),
        (BenchError("a\x1b[2J\n::error::b", where="c"), "bench: c: a�[2J : :error: :b"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_problems_of_the_machine_are_named_for_what_they_are(ended: Ended, error: Exception, words: str) -> None:
    code, out, err = ended(raising(error))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err and err.removesuffix("\n").isprintable()
    assert ("--cache" in err) == (isinstance(error, OSError) and error.errno in (None, errno.ENOSPC, errno.EFBIG))


def test_a_limit_of_the_address_space_is_the_cause_where_there_is_one(
    ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**30, resource.RLIM_INFINITY))
    _, _, err = ended(raising(BenchError("not a checkpoint", where="x.pt"), MemoryError()))
    assert err.startswith("bench: x.pt: out of memory: 1.0 GiB of address space are allowed here - raise the limit")


@pytest.mark.parametrize("cause", NO_FILES)
def test_a_file_is_not_blamed_for_want_of_open_files(ended: Ended, cause: Exception) -> None:
    code, _, err = ended(raising(BenchError("not a checkpoint", where="x.pt", fix="download it again"), cause))
    assert code == 2 and err.startswith("bench: x.pt: too many open files - ") and "download" not in err


@pytest.mark.parametrize(
    "error", [None, ValueError("no"), system(errno.ENOENT, "/memoryerror/too many open files"), BenchError("x")]
)
def test_other_errors_are_no_want_of_anything(error: Exception | None) -> None:
    assert lack_of(error) is None


def test_memory_that_numpy_lacks_is_memory() -> None:
    with pytest.raises(MemoryError) as caught:
        np.zeros(2**55)
    assert lack_of(caught.value) == "memory"


def test_warnings_and_logs_of_libraries_are_plain_lines(ended: Ended) -> None:
    def act() -> None:
        warnings.warn("a\x1b[2J\n::error::b", UserWarning, stacklevel=1)
        assert logging.lastResort
        logging.lastResort.handle(logging.makeLogRecord({"msg": "%s", "args": ("a\x1b[2J\n::error::b",)}))

    code, _, err = ended(act)
    assert code == 0
    assert err.splitlines() == ["bench: UserWarning: a�[2J : :error: :b", "bench: a�[2J : :error: :b"]


def test_a_traceback_is_plain_too(ended: Ended) -> None:
    code, _, err = ended(raising(RuntimeError("\x1b[2J\n::error::b")), "--debug")
    lines = err.splitlines()
    assert code == 1 and lines[0].startswith("Traceback") and lines[-1].startswith("bench: a fault of the program")
    assert "\x1b" not in err and not any(line.startswith("::") for line in lines)


def test_help_is_printed_once_and_ends_well(ended: Ended) -> None:
    code, out, err = ended(raising(ValueError()), "--help")
    assert (code, err) == (0, "") and out.count("What it does.") == 1


def test_a_fault_of_the_program_is_one_line_too(bench_command: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "from bench.cards import load\ndef broken():\n    raise RuntimeError('planted')\nload.task_names = broken\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "bench", "tasks"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1 and "planted" in done.stderr and "Traceback" not in done.stderr
    shown = subprocess.run([*command, "--debug"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "Traceback" in shown.stderr


def test_an_interrupted_run_says_so_and_goes_on_from_there(
    bench_command: Run, bright_and_dark: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "BENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = ["run", "--task", "custom", "--data", str(bright_and_dark), "--model", "random", "--set"]
    endless = [sys.executable, "-m", "bench", *command, "probe.min_steps=1000000"]
    process = subprocess.Popen(endless, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "encoding test clips" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from there" in errors and "Traceback" not in errors
    done = bench_command(*command, "probe.min_steps=40", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)[0]["cost"]["cached_clips"] == 36
