"""The command line in processes that faults happen to: forked from one that has the imports behind it, so they start
in no time, and can be killed, starved of disk and rights, or made to die at a chosen point.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from support import write_video

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "bench.cli.app",
        "bench.pipeline.run",
        "bench.pipeline.suite",
        "bench.encoders.untrained",
        "bench.analysis.checkpoint_curve",
        "bench.analysis.leaderboard",
        "pandas",
        "pyarrow.parquet",
    ]
)

Fault = Callable[[], None]
"""What is done in the process before the command starts. A function of a module, so that it can be sent."""

LINEAR = ("--probe", "linear", "--set", "probe.min_steps=10", "--set", "probe.lr=[0.001,0.01]", "--seed", "3")
"""A recipe that trains in a blink, with a sweep of its own."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    """Exit code; negative: the signal that killed it."""
    out: str
    err: str

    @property
    def line(self) -> str:
        """What the command says of a problem that the user can mend: its one line, without a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("bench: ")]
        assert self.code == 2 and len(lines) == 1 and "Traceback" not in self.err, (self.code, self.err)
        return lines[0]

    @property
    def record(self) -> dict[str, Any]:
        """The record that a `bench run --json` printed."""
        assert self.code == 0, (self.code, self.err)
        (record,) = json.loads(self.out)
        return dict(record)


@dataclass
class Bench:
    """The command line with a data folder, a cache and a results folder of its own."""

    data: Path
    home: Path
    started: int = field(default=0, init=False)

    def start(self, *arguments: object, fault: Fault | None = None) -> Callable[[], Ended]:
        """Begin a command; call the result to wait for its end."""
        self.started += 1
        self.home.mkdir(parents=True, exist_ok=True)
        files = [self.home / f"{self.started}.{name}" for name in ("out", "err")]
        process = _SERVER.Process(target=_live, args=(self.home, files, list(map(str, arguments)), fault))
        process.start()

        def end() -> Ended:
            process.join(240)
            assert process.exitcode is not None, "it hangs"
            return Ended(process.exitcode, *(path.read_text(errors="replace") for path in files))

        return end

    def start_run(self, *options: object, fault: Fault | None = None) -> Callable[[], Ended]:
        """Begin `bench run` of the encoder `random` on `data`."""
        chosen = options if "--probe" in options else (*LINEAR, *options)
        task = () if "--task" in options else ("--task", "custom", "--data", self.data)
        return self.start("run", *task, "--model", "random", "--json", "--workers", 0, *chosen, fault=fault)

    def run(self, *options: object, fault: Fault | None = None) -> Ended:
        """`bench run`, to its end."""
        return self.start_run(*options, fault=fault)()

    @property
    def results(self) -> list[Path]:
        """The folders of all runs that were recorded."""
        return [path.parent for path in sorted(self.home.glob("results/[!.]*/record.json"))]

    def predictions(self, record: dict[str, Any]) -> bytes:
        """Every byte of what a run predicted: samples, labels and probabilities."""
        table = pq.read_table(self.home / "results" / record["run_id"] / "predictions.parquet")
        probabilities = np.array(table["probabilities"].to_pylist(), np.float32)
        return repr([table["sample"].to_pylist(), table["label"].to_pylist()]).encode() + probabilities.tobytes()


def _live(home: Path, files: list[Path], arguments: list[str], fault: Fault | None) -> None:
    for path, number in zip(files, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    os.chdir(home)
    os.environ |= {"BENCH_CACHE": str(home / "cache"), "COLUMNS": "100"}
    import torch

    from bench.cli.app import main

    torch.set_num_threads(1)
    sys.argv = ["bench", *arguments]
    if fault:
        fault()
    main()


def make_clips(folder: Path, train: int = 16, test: int = 8) -> Path:
    """A list task of dark and bright clips, 9 frames of 16 px: `train.csv` and `val.csv`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", test)):
        rows = []
        for i in range(count):
            frames = np.clip(rng.normal(100 if i % 2 else 130, 40, (9, 16, 16, 3)), 0, 255).astype(np.uint8)
            write_video(folder / "clips" / f"{split}_{i}.mp4", frames)
            rows.append(f"clips/{split}_{i}.mp4 {i % 2}\n")
        (folder / f"{split}.csv").write_text("".join(rows))
    return folder


STAGES = {
    "hashing": ("bench.pipeline.run", "content_ids_of"),
    "extraction": ("bench.pipeline.run", "extract_split"),
    "training": ("bench.pipeline.run", "fit_probes"),
    "recording": ("bench.pipeline.record", "write_record"),
}
"""What the faults of this suite call the parts of a run, and the function that is each, where it is called."""


def around(stage: str, enter: Callable[[], None], leave: Callable[[], None] = lambda: None) -> None:
    """Have `enter` and `leave` called before and after each call of a stage, in this process."""
    where, name = STAGES[stage]
    module = import_module(where)
    function = getattr(module, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        enter()
        try:
            return function(*args, **options)
        finally:
            leave()

    setattr(module, name, wrapped)


@dataclass(frozen=True)
class KillAt:
    """Kills the process as `kill -9` does, at one of the steps of a stage: a call or return of a function, in C too."""

    stage: str
    number: int

    def __call__(self) -> None:
        left = self.number

        def step(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), 9)

        around(self.stage, lambda: sys.setprofile(step), lambda: sys.setprofile(None))


@dataclass(frozen=True)
class CountSteps:
    """Writes to `folder/STAGE` how many steps there are in each of some stages."""

    stages: tuple[str, ...]
    folder: Path

    def __call__(self) -> None:
        for stage in self.stages:
            self._count(stage)

    def _count(self, stage: str) -> None:
        count = 0

        def step(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal count
            count += 1

        def leave() -> None:
            sys.setprofile(None)
            (self.folder / stage).write_text(str(count))

        around(stage, lambda: sys.setprofile(step), leave)


def limit_file_size(num_bytes: int) -> None:
    """From now on no file of this process can grow beyond `num_bytes`: writing fails as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@dataclass(frozen=True)
class FullAt:
    """The disk is full from the beginning of a stage on."""

    stage: str
    num_bytes: int

    def __call__(self) -> None:
        around(self.stage, lambda: limit_file_size(self.num_bytes))
