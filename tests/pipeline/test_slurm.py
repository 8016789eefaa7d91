"""`bench run --slurm`: the right jobs, on submitit's executor of this machine in place of a cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support import Run, assert_refused

from bench.cli.app import app
from bench.core.errors import BenchError
from bench.pipeline.slurm import parse_parameters, repeat_arguments
from bench.records.schema import read_record

pytestmark = pytest.mark.slow

KNN = ["--probe", "knn", "--set", "probe.neighbours=[1,3]"]


def test_parameters_are_read() -> None:
    assert parse_parameters("partition=gpu, nodes=2") == {"partition": "gpu", "nodes": 2}
    with pytest.raises(BenchError, match="'gpu' is not key=value"):
        parse_parameters("gpu")


def test_a_job_gets_the_arguments_that_were_given() -> None:
    import typer

    options = typer.main.get_command(app).commands["run"].params  # type: ignore[attr-defined]
    given = {
        "task": ["a"],
        "model": ["b"],
        "slurm": "x=y",
        "seed": 3,
        "data": Path("d"),
        "settings": ["probe.lr=1", "c=2"],
    }
    given |= {"timeout_s": 60.0, "results": Path("results"), "as_json": True}
    words = repeat_arguments(given, options)
    assert words == ["--data", "d", "--seed", "3", "--set", "probe.lr=1", "--set", "c=2"]


def test_one_job_for_each_model_on_each_task(bench_command: Run, bright_and_dark: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    given = ["run", "--task", "custom", "--data", bright_and_dark, "--model", "pixels", *KNN, "--workers", "0"]
    done = bench_command(*given, "--json", "--slurm", "cluster=local,tasks_per_node=2,timeout_min=2")
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(done.stdout)
    assert (job["model"], job["task"]) == ("pixels", "custom")
    wait_for(Path(job["log"]).parent, job["job"], processes=2)
    records = list((tmp_path / "work").glob("results/*/record.json"))
    assert [read_record(path).hardware["processes"] for path in records] == [2], Path(job["log"]).read_text()


def wait_for(folder: Path, job: str, *, processes: int) -> None:
    """Until all processes of a job have said how they ended."""
    deadline = time.monotonic() + 100
    while len(list(folder.glob(f"{job}_*_result.pkl"))) < processes and time.monotonic() < deadline:
        time.sleep(0.2)


def test_what_the_cluster_does_not_know_is_one_line(bench_command: Run) -> None:
    pytest.importorskip("submitit")
    assert_refused(bench_command("run", "--slurm", "cluster=local,colour=red"), "--slurm", "colour")
