"""The log of a pretraining run: rows that survive an interruption, and files that are no log."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from bench import BenchError
from bench.pretrain.logs import TrainLog, read_log


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def row(step: int) -> dict[str, float]:
    return {"step": step, "samples": 64 * step, "loss": 1 / (step + 1), "lr": 1e-3, "failures": 0}


def write(folder: Path, steps: range, resume_step: int | None = None) -> None:
    log = TrainLog(folder, resume_step=resume_step)
    for step in steps:
        log.append(row(step))


def test_rows_are_on_disk_when_they_are_appended(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "run", resume_step=None)
    log.append(row(3))
    assert (tmp_path / "run" / "log.csv").read_text() == "step,samples,loss,lr,failures\n3,192,0.25,0.001,0\n"
    assert read_log(tmp_path / "run" / "log.csv") == [row(3)]
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_resumed_run_leaves_the_log_of_an_uninterrupted_one(tmp_path: Path) -> None:
    write(tmp_path / "whole", range(10))
    write(tmp_path / "parts", range(7))
    write(tmp_path / "parts", range(5, 10), resume_step=4)
    assert (tmp_path / "parts" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()


def test_a_row_cut_off_by_a_crash_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "whole", range(6))
    write(tmp_path, range(5))
    path = tmp_path / "log.csv"
    path.write_text(path.read_text()[:-9])
    assert [row["step"] for row in read_log(path)] == [0, 1, 2, 3]
    write(tmp_path, range(4, 6), resume_step=3)
    assert path.read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()


def test_a_run_that_starts_over_drops_all_rows_and_may_have_other_columns(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    TrainLog(tmp_path, resume_step=-1).append({"step": 0, "loss": 1.5})
    assert read_log(tmp_path / "log.csv") == [{"step": 0, "loss": 1.5}]


def test_the_log_of_another_run_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    with pytest.raises(BenchError, match=r"log\.csv: holds the log of another run \(3 rows\) - resume"):
        TrainLog(tmp_path, resume_step=None)
    assert len(read_log(tmp_path / "log.csv")) == 3


def test_numbers_come_back_as_they_went_in(tmp_path: Path) -> None:
    values: dict[str, float] = {
        "step": 2**53,
        "loss": torch.tensor(0.1).item(),
        "std": math.nan,
        "grad_norm": math.inf,
        "lr": torch.tensor(1e-30).item(),
    }
    TrainLog(tmp_path, resume_step=None).append(values)
    back = read_log(tmp_path / "log.csv")[0]
    assert back["step"] == 2**53 and math.isnan(back["std"]) and back["grad_norm"] == math.inf
    for column in ("loss", "lr"):
        assert torch.tensor(back[column]) == torch.tensor(values[column])


def test_the_first_row_fixes_the_columns_but_not_their_order(tmp_path: Path) -> None:
    log = TrainLog(tmp_path, resume_step=None)
    log.append({"step": 1, "loss": 0.5})
    log.append({"loss": 0.25, "step": 2})
    assert read_log(tmp_path / "log.csv")[1] == {"step": 2, "loss": 0.25}
    for other in ({"step": 3}, {"step": 3, "loss": 0.1, "lr": 0.1}, {"step": 3, "lr": 0.1}):
        with pytest.raises(ValueError, match="columns"):
            log.append(other)
    with pytest.raises(ValueError, match="is not behind step 2"):
        log.append({"step": 2, "loss": 0.1})
    assert len(read_log(tmp_path / "log.csv")) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,price\napple,3\n", "log.csv:1: not a log"),
        (b"step,step\n1,2\n", "log.csv:1: not a log"),
        (b"step,loss\n1,0.5\n2\n", "log.csv:3: not a log"),
        (b"step,loss\n1,0.5\n2,much\n3,0.5\n", "'much'"),
        (b"step,loss\n1,0.5\n1,0.4\n", "step 1 does not follow"),
        (b"step,loss\nnan,0.5\n", "log.csv:2: not a log"),
        (b"step,loss\n-1,0.5\n", "step -1 does not follow"),
        (b"\x80\x02\xff\n", "not text"),
    ],
)
def test_damaged_and_foreign_files_are_refused_and_kept(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    for resume_step in (None, -1, 1):
        with pytest.raises(BenchError) as refusal:
            TrainLog(tmp_path, resume_step=resume_step)
        assert words in str(refusal.value)
    assert (tmp_path / "log.csv").read_bytes() == content


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"log\.csv: no such log"):
        read_log(tmp_path / "log.csv")


def test_events_go_to_tensorboard_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.undo()
    for steps, resume_step in ((range(4), None), (range(2, 4), 1)):
        log = TrainLog(tmp_path, resume_step=resume_step)
        for step in steps:
            log.append(row(step))
        log.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"samples", "loss", "lr", "failures"}
    assert [(event.step, event.value) for event in events.Scalars("samples")] == [(s, 64 * s) for s in range(4)]
