"""EPIC-KITCHENS-100: the official files, their classes and times, and mistakes in them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import SHARED_DATA, Run

from bench import BenchError
from bench.cards.load import load_task, override, with_clip
from bench.data import actions
from bench.data.actions import ActionSplits, load_actions
from bench.data.dataset import load_splits, read
from bench.data.sample import ListOptions

OFFICIAL = SHARED_DATA / "annotations" / "epic100"
has_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the shared annotation fixtures are not here")
CARD = load_task("ek100")
HEADER = "narration_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame,verb_class,noun_class"
ROWS = {
    "train": ["a,P01_01,00:00:10.50,00:00:12.00,630,720,0,5", "b,P01_02,00:00:02.00,00:00:02.50,120,150,3,1"],
    "test": ["c,P02_01,00:01:00.00,01:00:00.25,3600,216015,3,1", "d,P02_01,00:00:04.00,00:00:05.00,240,300,0,1"],
}
Change = Callable[[dict[str, list[str]]], None]


@pytest.fixture
def kitchen(tmp_path: Path) -> Callable[..., ListOptions]:
    def make(change: Change = lambda rows: None) -> ListOptions:
        rows = {split: list(lines) for split, lines in ROWS.items()}
        change(rows)
        for split, name in (("train", "train"), ("test", "validation")):
            (tmp_path / f"EPIC_100_{name}.csv").write_text("\n".join([HEADER, *rows[split]]) + "\n")
        info = "video_id,duration,fps,resolution\nP01_01,99,60,a\nP01_02,99,50,a\nP02_01,9999,59.94005994,a\n"
        (tmp_path / "EPIC_100_video_info.csv").write_text(info)
        return ListOptions(tmp_path)

    return make


def test_actions_are_the_pairs_of_both_splits_in_order(kitchen: Callable[..., ListOptions]) -> None:
    splits = load_splits(CARD, kitchen(), Path())
    assert isinstance(splits, ActionSplits)
    assert splits.pairs == ((0, 1), (0, 5), (3, 1)) and splits.class_names == ("0 1", "0 5", "3 1")
    assert [sample.label for sample in (*splits.train, *splits.test)] == [1, 2, 2, 0]
    assert [(sample.start_s, sample.end_s) for sample in splits.train] == [(10.5, 12.0), (2.0, 2.5)]
    assert splits.test[0].end_s == 3600.25 and splits.num_left_out == 0
    assert len(splits.verb_names) == 97 and len(splits.noun_names) == 300
    assert read(CARD, splits.train[0].path.removesuffix("/P01/videos/P01_01.MP4"), "test") == splits.test


def test_the_official_code_leaves_out_unseen_pairs_and_counts_frames(kitchen: Callable[..., ListOptions]) -> None:
    splits = load_actions(with_clip(CARD, "official"), kitchen())
    assert splits.pairs == ((0, 5), (3, 1)) and splits.num_left_out == 1
    assert [sample.id for sample in splits.test] == ["c"]
    assert [(sample.start_s, sample.end_s) for sample in splits.train] == [(10.5, 12.0), (2.4, 3.0)]
    assert round((splits.test[0].end_s or 0) * 59.94005994) == 216015


@pytest.mark.parametrize("place", ["P01/videos/P01_01.MP4", "P01/P01_01.MP4", "anywhere/else/P01_01.mp4"])
def test_videos_are_found_in_either_layout(kitchen: Callable[..., ListOptions], place: str) -> None:
    where = kitchen()
    assert where.data is not None
    (where.data / place).parent.mkdir(parents=True)
    (where.data / place).write_bytes(b"video")
    train = load_actions(CARD, where).train
    assert train[0].path == str(where.data / place)
    assert train[1].path == str(where.data / "P01/videos/P01_02.MP4"), "where a missing one belongs"


def row(split: str, number: int, text: str) -> Change:
    def change(rows: dict[str, list[str]]) -> None:
        rows[split][number] = text

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (row("train", 1, "b,P01_02,00:00:02,00:00:02.50,120,150,97,1"), "train.csv:3: verb_class 97 is not in 0 .. 96"),
        (
            row("test", 0, "c,P02_01,00:01:00,00:01:02,3600,3720,3,-1"),
            "validation.csv:2: noun_class -1 is not in 0 .. ",
        ),
        (row("train", 0, "a,P01_01,00:00:10.50,00:00:12.00,630,720,x,5"), "train.csv:2: 'x' is not a whole number"),
        (row("train", 0, "a,P01_01,10.5,00:00:12.00,630,720,0,5"), "train.csv:2: '10.5' is not a time"),
        (row("train", 0, "a,P01_01,00:00:12.50,00:00:12.00,630,720,0,5"), "train.csv:2: an action from 00:00:12.50"),
        (row("train", 1, "a,P01_02,00:00:02.00,00:00:02.50,120,150,3,1"), "train.csv:3: 'a' is listed twice"),
        (row("train", 1, "b,P02_01,00:00:02,00:00:02.50,120,150,3,1"), "1 video(s) are in both splits, first P02_01"),
        (row("train", 1, "b,../../etc/x,00:00:02.00,00:00:02.50,120,150,3,1"), "leaves the data folder"),
        (row("train", 1, "b,P01_02,00:00:02.00"), "train.csv:3: 3 columns instead of 8"),
        (lambda rows: rows["test"].clear(), "no actions in it"),
    ],
)
def test_mistakes_are_named_with_file_and_row(kitchen: Callable[..., ListOptions], change: Change, what: str) -> None:
    with pytest.raises(BenchError) as caught:
        load_actions(CARD, kitchen(change))
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_frame_numbers_need_the_rate_of_every_video(kitchen: Callable[..., ListOptions]) -> None:
    card = override(CARD, "clip", {"times": "frame-numbers"})
    where = kitchen(row("train", 0, "a,P01_09,00:00:10.50,00:00:12.00,630,720,0,5"))
    with pytest.raises(BenchError, match=r"train\.csv:2: no frame rate of video 'P01_09'"):
        load_actions(card, where)
    assert where.data is not None
    (where.data / "EPIC_100_video_info.csv").unlink()
    with pytest.raises(BenchError, match=r"EPIC_100_video_info.csv: .*is not there"):
        load_actions(card, where)


def test_a_file_without_labels_is_no_training_list(kitchen: Callable[..., ListOptions]) -> None:
    """The challenge's test list has neither verbs nor nouns."""
    where = kitchen()
    assert where.data is not None
    (where.data / "EPIC_100_validation.csv").write_text("narration_id,video_id,start_timestamp,stop_timestamp\n")
    with pytest.raises(BenchError, match="no column 'verb_class'"):
        load_actions(CARD, where)


@has_official
def test_the_official_validation_list(tmp_path: Path) -> None:
    segments = actions.read_segments(OFFICIAL / "EPIC_100_validation.csv", CARD)
    assert len(segments) == CARD.test_size == 9668
    assert len({(one.verb, one.noun) for one in segments}) == 1352
    first = segments[0]
    assert (first.id, first.video, first.start_s, first.stop_s, first.verb, first.noun) == (
        ("P01_11_0", "P01_11", 0.0, 1.89, 0, 2)
    )


@has_official
def test_names_are_those_of_the_official_files() -> None:
    nouns = actions.class_names(OFFICIAL, ("EPIC_100_noun_classes.csv",), 300)
    assert nouns[:2] == ("tap", "spoon") and len(nouns) == 300
    assert actions.class_names(OFFICIAL, ("EPIC_100_verb_classes.csv",), 97)[:2] == ("take", "put")
    with pytest.raises(BenchError, match="not 300 different names"):  # quoted, and of another task
        actions.class_names(OFFICIAL, ("EPIC_100_noun_classes_v2.csv",), 300)


@has_official
def test_frame_numbers_run_ahead_of_the_videos(tmp_path: Path) -> None:
    """They count 60 frames a second where most videos have 59.94: of 9528 actions in those and in videos of 50, a tenth
    comes more than a second too late. docs/ek100.md states the numbers."""
    said = override(CARD, "clip", {"times": "frame-numbers"})
    path = OFFICIAL / "EPIC_100_validation.csv"
    late = [
        by_frame.start_s - by_time.start_s
        for by_frame, by_time in zip(actions.read_segments(path, said), actions.read_segments(path, CARD), strict=True)
        if by_time.video not in ("P09_07", "P09_08", "P17_02", "P18_02", "P18_09")  # filmed at other rates
    ]
    assert len(late) == 9528 and sum(seconds > 1 for seconds in late) == 884
    assert max(late) == pytest.approx(1.96, abs=0.01) and min(late) > -0.02


def official_kitchen(folder: Path) -> Path:
    """The official files; the test split's last participants stand in the place of the training split's."""
    shutil.copytree(OFFICIAL, folder / "annotations")
    path = folder / "annotations" / "EPIC_100_validation.csv"
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or [])
    for name, chosen in (
        ("train", [row for row in rows if row["participant_id"] >= "P22"]),
        ("validation", [row for row in rows if row["participant_id"] < "P22"]),
    ):
        with (folder / "annotations" / f"EPIC_100_{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(chosen)
    return folder


@has_official
@pytest.mark.parametrize("clip", ["before-start", "official-encoder"])
def test_a_dry_run_on_the_official_files(bench_command: Run, tmp_path: Path, clip: str) -> None:
    data = official_kitchen(tmp_path / "epic")
    command = ["run", "--task", "ek100", "--data", data, "--model", "random:vit_tiny", "--clip", clip, "--dry-run"]
    accepted = bench_command(*command, "--max-failed", "1", "--json")
    assert accepted.returncode == 0, accepted.stderr
    (forecast,) = json.loads(accepted.stdout)
    anchor = {"before-start": "1 s before-start", "official-encoder": "1 s before-end frame-numbers unseen left out"}
    assert forecast["protocol"].endswith(f"8 fps {anchor[clip]}")
    assert forecast["tokens"] == forecast["clips"] * 16 * 14 * 14
    assert forecast["feature_bytes"] == forecast["tokens"] * 192 * 2
    assert forecast["missing_files"] == forecast["train_samples"] + forecast["test_samples"]
    assert forecast["files"][0]["first_expected"].endswith("P22/videos/P22_01.MP4")
