"""Runs as jobs of a Slurm cluster, one for each encoder on each task, through submitit.

A job is the same `bench run` of one encoder on one task. Where it has several tasks in Slurm's sense, they are the
processes of that run, as torchrun would start them. Jobs that a time limit or a preemption ends are queued
again and go on with what is in the cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError

TIMEOUT_MIN = 24 * 60
"""Time limit of a job where the user gives none."""
_GENERAL = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
"""What submitit calls the same on every cluster; the other parameters are Slurm's own, such as partition."""
_OWN = ("task", "model", "slurm", "dry_run", "as_json")


@dataclass(frozen=True)
class Submitted:
    """A job that was handed to the cluster."""

    job: str
    model: str
    task: str
    log: str
    """What its first process writes to stderr."""

    def facts(self) -> dict[str, str]:
        """The job as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Command:
    """What every process of a job runs: `bench` with these arguments, in the folder that it was submitted from."""

    arguments: tuple[str, ...]

    def __call__(self) -> None:
        """Run it. Raises RuntimeError where it fails, so that the job counts as failed; its log says why."""
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        if JobEnvironment().num_tasks > 1:
            # All GPUs stay visible: a process takes that of its local rank.
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        done = subprocess.run([sys.executable, "-m", "bench", *self.arguments], env=dict(os.environ))
        if done.returncode:
            raise RuntimeError(f"bench ended with exit code {done.returncode}")

    def checkpoint(self) -> Any:
        """What is queued when the job is ended early: the same again, as finished parts are in the cache."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    wanted: str, models: Sequence[str], tasks: Sequence[str], shared: Sequence[str], results: Path
) -> list[Submitted]:
    """Hand one job for each model on each task to the cluster.

    `wanted`: `partition=gpu,gpus_per_node=8,...`; `cluster=local` starts the jobs on this machine instead. `shared`:
    the arguments of `bench run` besides task and model. Raises BenchError where the cluster is not there, or refuses.
    """
    parameters = parse_parameters(wanted)
    cluster = str(parameters.pop("cluster", "slurm"))
    folder = results / ".slurm"
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise BenchError(
            "submitit is not installed", where="--slurm", fix="pip install 'vjepa-bench[slurm]'"
        ) from error
    named = {key if key in _GENERAL else f"slurm_{key}": value for key, value in parameters.items()}
    try:
        executor = AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": "bench", "timeout_min": TIMEOUT_MIN, **named})
        pairs = [(model, task) for model in models for task in tasks]
        commands = [Command(("run", "--task", task, "--model", model, *shared)) for model, task in pairs]
        jobs = [executor.submit(command) for command in commands]
    except (RuntimeError, ValueError, NameError, AssertionError, subprocess.CalledProcessError) as error:
        raise BenchError(str(error), where="--slurm", fix="such as --slurm partition=gpu,gpus_per_node=1") from error
    return [
        Submitted(job.job_id, model, task, str(job.paths.stderr))
        for job, (model, task) in zip(jobs, pairs, strict=True)
    ]


def parse_parameters(wanted: str) -> dict[str, int | str]:
    """`partition=gpu,nodes=2` as a mapping; numbers as int. Raises BenchError for what has no such form."""
    parameters: dict[str, int | str] = {}
    for part in wanted.split(","):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (key and equals and value):
            raise BenchError(f"'{part}' is not key=value", where="--slurm", fix="such as partition=gpu,gpus_per_node=1")
        parameters[key] = int(value) if value.isdecimal() else value
    return parameters


def repeat_arguments(arguments: Mapping[str, Any], options: Sequence[Any]) -> list[str]:
    """The arguments of a command as words again, besides those that differ from job to job.

    `options` are the command's parameters: name, opts, default, is_flag.
    """
    words = []
    for option in options:
        value = arguments.get(option.name)
        if option.name in _OWN or value is None or value == option.default:
            continue
        if option.is_flag:
            words.append(option.opts[0])
            continue
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option.opts[0], str(one)]
    return words
