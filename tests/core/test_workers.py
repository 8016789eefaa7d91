"""Work on many files goes on when one of them hangs or kills its process."""

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.core.workers import Lost, Pool, Tell, guarded_map


def treat(task: str, alive: Callable[[], None]) -> str:
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "hang":
        threading.Event().wait()
    if task == "long":
        for _ in range(4):
            threading.Event().wait(0.2)
            alive()
    if task == "refuse":
        raise BenchError("the disk is full")
    if task == "bug":
        raise KeyError("bug")
    return task.upper()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_task_arrives(workers: int) -> None:
    tasks = [f"t{i}" for i in range(40)]
    ended = dict(guarded_map(treat, iter(tasks), workers=workers, timeout_s=30, ahead=2))
    assert ended == {task: task.upper() for task in tasks}


def test_what_hangs_or_dies_is_lost_and_nothing_else() -> None:
    tasks = ["a", "die", "b", "hang", "c", "long", "d"]
    ended = dict(guarded_map(treat, tasks, workers=2, timeout_s=0.6, ahead=3))
    assert set(ended) == set(tasks)
    assert {task for task, outcome in ended.items() if isinstance(outcome, Lost)} == {"die", "hang"}
    assert "crashed" in ended["die"].reason and "hung for more than 0.6 s" in ended["hang"].reason  # type: ignore[union-attr]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_function_end_the_work(workers: int) -> None:
    with pytest.raises(BenchError, match="disk is full"):
        list(guarded_map(treat, ["a", "refuse"], workers=workers, timeout_s=30, ahead=2))
    with pytest.raises((KeyError, RuntimeError), match="bug"):
        list(guarded_map(treat, ["a", "bug"], workers=workers, timeout_s=30, ahead=2))


def test_a_negative_number_of_workers_and_no_time_are_refused() -> None:
    with pytest.raises(BenchError, match="-1 workers"):
        list(guarded_map(treat, ["a"], workers=-1, timeout_s=30, ahead=2))
    with pytest.raises(BenchError, match="--timeout-s: 0 s is no time"):
        list(guarded_map(treat, ["a"], workers=1, timeout_s=0, ahead=2))


def killed_once(mark: Path, task: str, tell: Tell) -> str:
    if task == "b" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    tell(f"at {task}")
    return task.upper()


@pytest.mark.parametrize("retry", [True, False])
def test_a_task_whose_process_something_else_killed_is_tried_once_more(tmp_path: Path, retry: bool) -> None:
    told: list[str] = []
    with Pool(partial(killed_once, tmp_path / "mark"), 1, told=told.append, retry=retry) as pool:
        for task in "abc":
            pool.submit(task)
        ended = {}
        while pool.pending:
            ended.update(pool.ended(wait=True))
        assert pool.ended(wait=True) == []
    lost = Lost("crashed on this file", -signal.SIGKILL)
    assert ended == {"a": "A", "b": "B" if retry else lost, "c": "C"}
    assert told == (["at a", "at b", "at c"] if retry else ["at a", "at c"])
