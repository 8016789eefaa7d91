"""Several processes that carry out one command, as torchrun starts them, but forked from one that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

PATIENCE_S = 120


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int | None
    """Negative: by this signal."""
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it said of the error that ended it."""
        return [line for line in self.err.splitlines() if line.startswith("bench: ")]


def run_world(
    folder: Path,
    *arguments: Sequence[object],
    fault: Callable[[], None] | None = None,
    faulty: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[Ended]:
    """One process for each list of arguments to `bench`, in `folder`; `fault` is prepared in process `faulty`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.pipeline.torchrun", "bench.cli.app"])
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    all_variables = {**(environment or {}), "WORLD_SIZE": str(len(arguments)), "MASTER_ADDR": "127.0.0.1"}
    processes = [
        context.Process(
            target=_member,
            args=(rank, port, [*map(str, given)], folder, fault if rank == faulty else None, all_variables),
        )
        for rank, given in enumerate(arguments)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(PATIENCE_S)
        return [
            Ended(process.exitcode, (folder / f"{rank}.out").read_text(), (folder / f"{rank}.err").read_text())
            for rank, process in enumerate(processes)
        ]
    finally:
        for process in processes:
            process.kill()


def _member(
    rank: int,
    port: int,
    arguments: list[str],
    folder: Path,
    fault: Callable[[], None] | None,
    environment: Mapping[str, str],
) -> None:
    os.chdir(folder)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=str(port), COLUMNS="100")
    sys.argv = ["bench", *arguments]
    torch.set_num_threads(1)  # as torchrun has it
    if fault:
        fault()
    from bench.cli.app import main

    main()


def killed_while_encoding() -> None:
    """The second batch of clips is the last thing this process sees."""
    _on_second_batch(lambda: os.kill(os.getpid(), signal.SIGKILL))


def disk_full_while_encoding() -> None:
    """The second batch of clips meets a full disk."""

    def fail() -> None:
        raise OSError(28, "No space left on device", "shard.npy")

    _on_second_batch(fail)


def _on_second_batch(act: Callable[[], None]) -> None:
    from bench.features import extract

    encode, calls = extract.encode, []

    def counted(*given: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            act()
        return encode(*given, **named)  # type: ignore[arg-type]

    extract.encode = counted  # type: ignore[assignment]
