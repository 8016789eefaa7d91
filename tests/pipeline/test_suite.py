"""Many plans at once: the same records as one after another, and one line for whatever fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT

from bench import BenchError
from bench.core.progress import Silent
from bench.core.workers import Pool
from bench.pipeline import suite
from bench.pipeline.plan import RunPlan, make_plan
from bench.pipeline.run import run
from bench.pipeline.suite import run_all
from bench.records.schema import Record, read_record
from bench.tasks.options import make_options

pytestmark = pytest.mark.slow

SHORT = {"probe.min_steps": 20, "probe.epochs": 1, "probe.lr": [1e-2, 1e-3], "probe.weight_decay": 0.01}


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int]] = {}
        self.lines: list[str] = []

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        self.stages[name] = (done, total)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "num_cores", lambda: 2)


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a second one takes seconds, and a test of failures learns nothing from it."""
    several = suite.Crew
    monkeypatch.setattr(suite, "Crew", lambda size, reporter: several(1, reporter))


def plan_of(data: Path, folder: Path, **options: Any) -> RunPlan:
    given = {"task": "custom", "name": "brightness", "axis": "appearance", "workers": 0, "settings": SHORT}
    given |= {"data": data, "cache": folder / "cache", "results": folder / "results", "device": "cpu"}
    return make_plan(make_options(given | options))


def plans_of(data: Path, folder: Path, **options: Any) -> list[RunPlan]:
    """Two encoders, and a third plan whose probe needs no process of its own."""
    models = [plan_of(data, folder, model=model, **options) for model in ("random", "pixels")]
    return [*models, plan_of(data, folder, probe="knn", settings={"probe.neighbours": [1, 3]})]


def predictions(folder: Path, record: Record) -> pd.DataFrame:
    return pd.read_parquet(folder / "results" / record.run_id / "predictions.parquet")


def test_plans_at_once_give_the_records_of_one_after_another(bright_and_dark: Path, tmp_path: Path) -> None:
    listener = Listener()
    alone = [run(plan, Silent()) for plan in plans_of(bright_and_dark, tmp_path / "a")]
    together = run_all(plans_of(bright_and_dark, tmp_path / "b"), listener)
    for one, other in zip(alone, together, strict=True):
        assert (one.model, one.probe) == (other.model, other.probe)
        assert one.scores == other.scores and one.heads == other.heads and one.digests == other.digests
        assert one.cost.encoder_clips == other.cost.encoder_clips and not other.cost.cached_probe
        pd.testing.assert_frame_equal(predictions(tmp_path / "a", one), predictions(tmp_path / "b", other))
        files = [
            folder / "results" / record.run_id for folder, record in ((tmp_path / "a", one), (tmp_path / "b", other))
        ]
        if one.probe == "attentive":
            weights = [tensor_bytes(file / "probe.safetensors") for file in files]
            assert weights[0] == weights[1]
    for model in ("random", "pixels"):
        done, total = listener.stages[f"{model}, brightness: train"]
        assert done == total
    known = run_all(plans_of(bright_and_dark, tmp_path / "b"), listener)
    assert [record.cost.cached_probe for record in known] == [True, True, False]


def tensor_bytes(path: Path) -> dict[str, bytes]:
    """The tensors of a probe file, bit by bit."""
    from safetensors.numpy import load_file

    return {name: tensor.tobytes() for name, tensor in load_file(path).items()}


def test_known_probes_and_single_plans_start_no_process(
    bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan_of(bright_and_dark, tmp_path, seed=seed) for seed in (0, 1)]
    for plan in plans:
        run(plan, Silent())
    monkeypatch.setattr(Pool, "_hire", lambda self: pytest.fail("started a process"))
    assert all(record.cost.cached_probe for record in run_all(plans, Silent()))
    assert not run_all([plan_of(bright_and_dark, tmp_path, seed=2)], Silent())[0].cost.cached_probe


@pytest.mark.usefixtures("one_process")
def test_earlier_plans_are_kept_when_one_fails(bright_and_dark: Path, tmp_path: Path) -> None:
    good = plan_of(bright_and_dark, tmp_path, seed=1)
    diverges = plan_of(bright_and_dark, tmp_path, settings={**SHORT, "probe.lr": 1e30})
    with pytest.raises(BenchError, match="the probe diverged"):
        run_all([good, diverges, plan_of(bright_and_dark, tmp_path, max_failed=0, seed=2)], Silent())
    seeds = {read_record(path).seed for path in (tmp_path / "results").glob("*/record.json")}
    assert 1 in seeds and 0 not in seeds


@pytest.mark.usefixtures("one_process")
def test_samples_that_cannot_be_read_end_it_after_the_plans_before(bright_and_dark: Path, tmp_path: Path) -> None:
    plans = [plan_of(bright_and_dark, tmp_path, max_failed=0.2), plan_of(bright_and_dark, tmp_path, model="pixels")]
    (bright_and_dark / "clips" / "val_3.mp4").write_bytes(b"")
    with pytest.raises(BenchError, match="1 of 12 test samples"):
        run_all(plans, Silent())
    assert [read_record(path).model for path in (tmp_path / "results").glob("*/record.json")] == ["random"]


@pytest.mark.usefixtures("one_process")
def test_a_process_that_dies_is_one_line(
    bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Pool._send

    def kill(self: Pool[Any, Any], worker: Any, job: Any) -> None:
        send(self, worker, job)
        worker.process.kill()

    monkeypatch.setattr(Pool, "_send", kill)
    settings = {**SHORT, "probe.min_steps": 1_000_000}
    with pytest.raises(BenchError, match="a process that trained a probe died"):
        run_all([plan_of(bright_and_dark, tmp_path, seed=seed, settings=settings) for seed in (0, 1)], Silent())


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_ends_every_process(bright_and_dark: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "BENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    code = "import bench.pipeline.suite as s; s.num_cores = lambda: 2; from bench.cli.app import main; main()"
    command = [sys.executable, "-c", code, "run", "--workers", "0", "--task", "custom", "--data", str(bright_and_dark)]
    command += ["--model", "random,pixels", "--set", "probe.min_steps=1000000"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "pixels: encoding test clips" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from there" in errors and "Traceback" not in errors
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
    pytest.fail("a process is left")
