"""Work on many files goes on when one of them hangs or kills its process."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from bench.core.errors import BenchError
from bench.core.workers import Lost, guarded_map


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
