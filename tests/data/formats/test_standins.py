"""Every card reads its official layout."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import standins
from support import Run, assert_refused

import bench
from bench.cards.load import load_task, task_names
from bench.data.dataset import load_splits, read
from bench.data.sample import ListOptions

CARDS = sorted(standins.LAYOUTS)
LISTS = [name for name in CARDS if load_task(name).data == "lists"]


def test_every_card_of_the_users_data_has_a_stand_in() -> None:
    """Boxes have one of their own, and digits bring their data."""
    assert sorted(name for name in task_names() if load_task(name).data not in ("boxes", "digits")) == CARDS


@pytest.mark.parametrize("name", CARDS)
def test_every_card_reads_its_layout(tmp_path: Path, name: str) -> None:
    standins.standin(name, tmp_path / "the data", train=4, test=2)
    splits = load_splits(load_task(name), ListOptions(tmp_path / "the data"), tmp_path)
    for split, samples, count in (("train", splits.train, 2), ("test", splits.test, 1)):
        has_labels = load_task(name).data != "masks"
        assert Counter(sample.label for sample in samples) == ({0: count, 1: count} if has_labels else {0: 2 * count})
        assert all(Path(sample.path).exists() for sample in samples)
        assert samples == read(name, tmp_path / "the data", split)  # type: ignore[arg-type]
    assert len({sample.id for sample in splits.train}) == 4
    assert len(splits.class_names) == (load_task(name).num_classes or 2)


@pytest.mark.parametrize("name", [name for name in CARDS if name not in ("custom", "in1k", "ade20k")])
def test_a_sample_without_its_file_is_still_a_sample(tmp_path: Path, name: str) -> None:
    standins.standin(name, tmp_path, train=4, test=2)
    gone = Path(read(name, tmp_path, "train")[1].path)
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    samples = read(name, tmp_path, "train")
    assert len(samples) == 4
    assert [Path(sample.path).exists() for sample in samples] == [True, False, True, True]
    assert samples[1].path.startswith(str(tmp_path))


@pytest.mark.parametrize("name", LISTS)
def test_plain_lists_work_for_every_card(tmp_path: Path, name: str) -> None:
    """Two of them in the folder come before the official files."""
    for file in ("train.csv", "val.csv"):
        (tmp_path / file).write_text(f"a b/{file}1.mp4 0\na b/{file}2.mp4 1\n")
    samples = read(name, tmp_path, "test")
    assert [(sample.id, sample.label) for sample in samples] == [("a b/val.csv1.mp4", 0), ("a b/val.csv2.mp4", 1)]


@pytest.mark.parametrize("name", LISTS)
def test_every_card_runs_from_its_layout_to_a_score(tmp_path: Path, name: str) -> None:
    standins.standin(name, tmp_path / "data", train=8, test=8)
    record = bench.evaluate(
        task=name,
        data=tmp_path / "data",
        model="pixels",
        probe="knn",
        settings={"probe.neighbours": [1], "clip.frames": 8},
        workers=0,
        device="cpu",
        cache=tmp_path / "cache",
        results=tmp_path / "results",
    )
    score = record.scores[0]
    assert (score.n, score.failed, score.value, record.num_train) == (8, 0, 100.0, 8)


def test_a_half_downloaded_dataset_is_counted(bench_command: Run, tmp_path: Path) -> None:
    standins.standin("ssv2", tmp_path / "data", train=8, test=8)
    for sample in read("ssv2", tmp_path / "data", "train")[:6]:
        Path(sample.path).unlink()
    Path(read("ssv2", tmp_path / "data", "test")[0].path).write_bytes(b"")
    command = ["run", "--task", "ssv2", "--data", tmp_path / "data", "--model", "pixels", "--dry-run"]
    done = bench_command(*command, "--json")
    assert_refused(
        done,
        "task ssv2: 6 of 8 training files are missing or empty (2 present), first 100000, 100001, 100002, ...",
        "1 of 8 test files",
        "--max-failed 0.75",
        "`bench tasks ssv2` shows the layout",
    )
    (report,) = json.loads(done.stdout)
    train, test = report["files"]
    assert (train["annotated"], train["present"], train["missing"], train["official"]) == (8, 2, 6, 168913)
    assert (test["annotated"], test["empty"], test["first_absent"]) == (8, 1, ["200000"])
    accepted = bench_command(*command, "--max-failed", "0.75", "--json")
    assert json.loads(accepted.stdout)[0]["missing_files"] == 6, accepted.stderr


def test_a_split_is_read_by_the_name_of_its_card(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 173\n")
    (tmp_path / "val.csv").write_text("c.mp4 5\n")
    assert [(s.id, s.label) for s in read("ssv2", tmp_path, "train")] == [("a.mp4", 0), ("b.mp4", 173)]
    assert [s.path for s in read("ssv2", str(tmp_path), "test")] == [str(tmp_path / "c.mp4")]
