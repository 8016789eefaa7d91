"""The command line in a process of its own, forked from one that has torch loaded: so it starts in no time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch", "pandas", "rich.table", "bench.pipeline.torchrun", "bench.pipeline.suite", "bench.cli.app"]
)


def run_command(
    arguments: Sequence[object], folder: Path, environment: Mapping[str, str], timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """`bench ARGUMENTS` in `folder`, which must exist, with these variables beside those of the test."""
    words = [str(argument) for argument in arguments]
    kept = folder.parent / f".{folder.name}-said"
    kept.mkdir(exist_ok=True)
    out, err = kept / "out", kept / "err"
    process = CONTEXT.Process(target=become, args=(words, folder, out, err, {**os.environ, **environment}))
    process.start()
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(["bench", *words], timeout_s)
    return subprocess.CompletedProcess(["bench", *words], process.exitcode, out.read_text(), err.read_text())


def become(arguments: list[str], folder: Path, out: Path, err: Path, environment: Mapping[str, str]) -> None:
    """Be the command from here on. In a process of its own."""
    os.chdir(folder)
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, "")  # as for `python -m bench`
    sys.argv = ["bench", *arguments]
    from bench.cli.app import main

    main()
