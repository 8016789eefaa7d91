"""`bench run --model 'run/epoch*.pth.tar'`: which files that is, and the curve it leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Run, assert_refused

from bench import BenchError
from bench.analysis.checkpoint_curve import has_wildcard, matching_files, write_curves
from bench.encoders import vjepa
from bench.encoders.untrained import random_encoder
from bench.metrics.score import Score
from bench.records.curve import read_curve
from bench.records.schema import Record
from bench.report.plots.curve import curve_pictures

pytestmark = pytest.mark.slow

NANO = vjepa.SIZES["vit_nano"]
QUICK = ("--probe", "knn", "--set", "probe.neighbours=[1]", "--workers", "1", "--name", "brightness")


def save_checkpoint(path: Path, epoch: int, samples: int | None = None) -> Path:
    """A checkpoint as pretraining writes it, or without `samples` as the official code does."""
    encoder = random_encoder("vit_nano").module.state_dict()
    encoder["norm.bias"] += 0.1 * epoch
    content: dict[str, Any] = {
        "target_encoder": {f"module.backbone.{k}": v for k, v in encoder.items()},
        "epoch": epoch,
    }
    if samples is not None:
        shapes = {"version": 1, "encoder": dataclasses.asdict(NANO), "input": {"frame_step": 1}}
        content["bench"] = {**shapes, "objective": "features", "samples": samples, "step": samples // 64}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def save_facts(path: Path, **facts: object) -> Path:
    """A file with a checkpoint's facts and no weights."""
    torch.save(facts, path)
    return path


def record(file: Path, encoder: str = "") -> Record:
    """The record of a checkpoint, as far as curves read it; `encoder` is the digest of its weights."""
    return Record.model_construct(
        task="digits-motion",
        axis="motion",
        model=file.stem,
        probe="attentive",
        num_classes=8,
        scores=[Score(metric="top1", value=40, low=35, high=45, correct=40, n=100, failed=0, interval="")],
        arguments={"model": str(file)},
        digests={"encoder": encoder or file.name},
    )


def test_files_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("epoch10.pt", "epoch2.pt", "epoch1.pt", "other.pt", ".epoch3.pt.part"):
        (tmp_path / name).touch()
    (tmp_path / "epoch4.pt").mkdir()
    assert [Path(name).name for name in matching_files(f"{tmp_path}/epoch*")] == [
        "epoch1.pt",
        "epoch2.pt",
        "epoch10.pt",
    ]
    with pytest.raises(BenchError, match=r"--model: no file matches '.*/step\*'"):
        matching_files(f"{tmp_path}/step*")


def test_a_file_may_be_called_like_a_wildcard(tmp_path: Path) -> None:
    (tmp_path / "a[1].pt").touch()
    assert not has_wildcard(str(tmp_path / "a[1].pt")) and has_wildcard(str(tmp_path / "a[2].pt"))
    assert not has_wildcard("random")


def test_a_pattern_runs_its_checkpoints_and_leaves_a_curve(
    bench_command: Run, bright_and_dark: Path, tmp_path: Path
) -> None:
    for epoch in (2, 10):
        save_checkpoint(tmp_path / "nano" / f"epoch{epoch}.pth.tar", epoch, samples=64 * epoch)
    arguments = ["run", "--task", "custom", "--data", bright_and_dark, "--axis", "motion", *QUICK]
    done = bench_command(*arguments, "--model", f"{tmp_path}/nano/epoch*.pth.tar")
    assert done.returncode == 0, done.stderr
    assert "epoch2" in done.stdout and "epoch10" in done.stdout
    (curve,) = (tmp_path / "work").glob("results/curves/nano-*-knn/curve.csv")
    said = f"bench: score curve of nano: results/curves/{curve.parent.name}/curve.svg (and .png, .csv)"
    assert said in done.stderr.splitlines()
    points = read_curve(curve)
    assert [(p.samples, p.epoch, p.step) for p in points] == [(128, 2, 2), (640, 10, 10)]
    assert {(p.task, p.axis) for p in points} == {("brightness", "motion")}
    board = json.loads(bench_command("leaderboard", "--format", "json").stdout)
    assert {row["model"]: row["value"] for row in board} == {"epoch2": points[0].score, "epoch10": points[1].score}


def test_a_pattern_without_files_is_refused_before_anything_runs(bench_command: Run, tmp_path: Path) -> None:
    done = bench_command("run", "--model", f"random,{tmp_path}/epoch*.pth.tar")
    assert_refused(done, "--model: no file matches", "epoch*.pth.tar", "quotes")


def test_official_files_are_placed_by_epoch(tmp_path: Path) -> None:
    files = [save_facts(tmp_path / f"e{epoch}.pt", epoch=epoch) for epoch in (300, 100)]
    write_curves([f"{tmp_path}/*.pt"], [record(file) for file in files], tmp_path / "results", curve_pictures)
    (target,) = (tmp_path / "results" / "curves").iterdir()
    assert [(p.epoch, p.samples) for p in read_curve(target / "curve.csv")] == [(100, None), (300, None)]
    assert "epochs of pretraining" in (target / "curve.svg").read_text()


@pytest.mark.parametrize("pattern", ["*/e*.pt", "**/e*.pt", "[abs]*/e?.pt"])
def test_every_folder_is_a_run_of_its_own(tmp_path: Path, pattern: str) -> None:
    records = []
    for run in ("a", "b", "single"):
        (tmp_path / run).mkdir()
        for epoch in (1, 2) if run != "single" else (1,):
            records.append(record(save_facts(tmp_path / run / f"e{epoch}.pt", epoch=epoch), encoder=f"{run}{epoch}"))
    lines = write_curves([f"{tmp_path}/{pattern}"], records, tmp_path, curve_pictures)
    assert [line.split(":")[0] for line in lines] == ["score curve of a", "score curve of b"]
    assert len(list((tmp_path / "curves").iterdir())) == 2


def test_two_folders_of_one_name_have_two_curves(tmp_path: Path) -> None:
    records = []
    for parent in ("a", "b"):
        (tmp_path / parent / "run").mkdir(parents=True)
        files = [save_facts(tmp_path / parent / "run" / f"e{epoch}.pt", epoch=epoch) for epoch in (1, 2)]
        records += [record(file, encoder=str(file)) for file in files]
    write_curves([f"{tmp_path}/*/run/e*.pt"], records, tmp_path, curve_pictures)
    assert len(list((tmp_path / "curves").iterdir())) == 2


def test_the_last_epoch_under_two_names_is_one_point(tmp_path: Path) -> None:
    first = save_facts(tmp_path / "epoch1.pt", epoch=1)
    twins = [save_facts(tmp_path / name, epoch=2) for name in ("epoch2.pt", "latest.pt")]
    records = [record(first), *(record(file, encoder="same") for file in twins)]
    write_curves([f"{tmp_path}/*.pt"], records, tmp_path, curve_pictures)
    assert [p.epoch for p in read_curve(next(tmp_path.rglob("curve.csv")))] == [1, 2]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([{"epoch": 300}, {"epoch": 300}], "different encoders after the same number of epochs"),
        ([{"epoch": 300}, {"loss": 0.1}], "1.pt does not say after how many samples or epochs"),
        ([{"epoch": 1}, {"epoch": -1, "bench": {"samples": 5}}], "1.pt does not say"),
        ([{"epoch": 1}, {"epoch": 2.5}], "1.pt does not say"),
    ],
)
def test_files_that_are_no_series_get_a_reason_and_no_curve(
    tmp_path: Path, facts: list[dict[str, object]], words: str
) -> None:
    files = [save_facts(tmp_path / f"{number}.pt", **content) for number, content in enumerate(facts)]
    lines = write_curves([f"{tmp_path}/*.pt"], [record(file) for file in files], tmp_path, curve_pictures)
    assert len(lines) == 1 and lines[0].startswith("no curve of") and words in lines[0]
    assert not list(tmp_path.rglob("curve.*"))


def test_checkpoints_named_one_by_one_are_compared_and_not_joined(tmp_path: Path) -> None:
    files = [save_facts(tmp_path / f"e{epoch}.pt", epoch=epoch) for epoch in (1, 2)]
    assert write_curves([f"{files[0]},{files[1]}"], [record(file) for file in files], tmp_path, curve_pictures) == []
