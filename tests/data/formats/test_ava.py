"""AVA's files: the real samples, their conventions, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import GOLDEN, SHARED_DATA

from bench.cards.load import BoxReading, load_task
from bench.core.errors import BenchError
from bench.data.dataset import load_splits, read
from bench.data.formats.ava import read_action_list, read_detections, read_excluded, read_ground_truth, read_included
from bench.data.key_frames import read_box_splits
from bench.data.sample import ListOptions

CARD = load_task("ava")
ORACLE = BoxReading(cells=3, over_time="all", over_cells="all", test_boxes="ground-truth")
DETECTOR = ORACLE.model_copy(update={"test_boxes": "detector"})


LIST = 'item {\n  name: "stand"\n  id: 12\n}\nitem {\n  name: "walk"\n  id: 14\n}\n'


def folder(tmp_path: Path, **files: str) -> Path:
    """A data folder; `train`, `val`, `detections`, ... are the contents of the official files."""
    names = {
        "train": "ava_train_v2.2.csv",
        "val": "ava_val_v2.2.csv",
        "excluded": "ava_val_excluded_timestamps_v2.2.csv",
        "included": "ava_included_timestamps_v2.2.txt",
        "detections": "ava_detection_val_boxes_and_labels.csv",
        "actions": "ava_action_list_v2.2_for_activitynet_2019.pbtxt",
    }
    (tmp_path / "annotations").mkdir()
    for key, text in {"train": "a,0902,0.1,0.1,0.5,0.5,12,0\n", **files}.items():
        (tmp_path / "annotations" / names[key]).write_text(text)
    return tmp_path


def test_the_card_evaluates_the_official_sixty_of_eighty() -> None:
    assert CARD.boxes is not None
    official = read_action_list(GOLDEN / "ava" / "classes.pbtxt")
    assert tuple(official) == CARD.boxes.action_ids
    assert tuple(official.values()) == CARD.classes
    assert len(official) == 60 and max(official) == CARD.boxes.last_action_id == 80


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no shared folder here")
def test_the_real_samples_are_read() -> None:
    tests = SHARED_DATA / "annotations" / "mmaction2" / "tests" / "data"
    frames = read_ground_truth(tests / "ava_dataset" / "ava_sample.csv", 80)
    assert [frame.id for frame in frames.values()] == ["0f39OWEqJ24,0902", "0f39OWEqJ24,0903", "_-Z6wFjXtGQ,0902"]
    assert frames["0f39OWEqJ24", 902].boxes == {(0.031, 0.162, 0.67, 0.995): {12, 17, 79}}
    excluded = read_excluded(tests / "ava_dataset" / "ava_excluded_timestamps_sample.csv")
    assert excluded == {("0f39OWEqJ24", 903), ("_-Z6wFjXtGQ", 902)}
    assert list(read_action_list(tests / "ava_dataset" / "action_list.txt")) == [12, 17, 79, 80]
    found = read_detections(tests / "eval_detection" / "pred.csv", 0.8)
    assert sum(len(frame.boxes) for frame in found.values()) < 30
    every = read_detections(tests / "eval_detection" / "pred.csv", 0.0)
    assert sum(len(frame.boxes) for frame in every.values()) == 30


def test_a_frame_without_actions_is_evaluated_and_an_excluded_one_is_not(tmp_path: Path) -> None:
    data = folder(
        tmp_path, val="b,0902\nb,0903,0.1,0.2,0.3,0.4,12,0\nb,0904,0.1,0.2,0.3,0.4,80,1\n", excluded="b,0904\n"
    )
    splits = read_box_splits(CARD, ListOptions(data), ORACLE, 0.0)
    assert [(sample.id, splits.frames[sample.id].looked_at) for sample in splits.test] == [
        ("b,0902", ()),
        ("b,0903", ((0.1, 0.2, 0.3, 0.4),)),
    ]
    assert "1 of 3 test key frames are excluded by the annotations" in splits.notes


def test_only_included_seconds_count(tmp_path: Path) -> None:
    data = folder(tmp_path, val="b,0902,0.1,0.2,0.3,0.4,12,0\nb,0903,0.1,0.2,0.3,0.4,12,0\n", included="0902\n0904\n")
    assert [sample.id for sample in read_box_splits(CARD, ListOptions(data), ORACLE, 0.0).test] == ["b,0902"]
    assert read_included(data / "annotations" / "ava_included_timestamps_v2.2.txt") == {902, 904}


def test_actions_of_one_box_are_one_box_and_persons_do_not_matter(tmp_path: Path) -> None:
    data = folder(tmp_path, val="b,0902,0.1,0.2,0.3,0.4,12,0\nb,0902,0.1,0.2,0.3,0.4,80,7\n")
    (frame,) = read_box_splits(CARD, ListOptions(data), ORACLE, 0.0, test_only=True).frames.values()
    assert frame.truth.boxes == {(0.1, 0.2, 0.3, 0.4): {12, 80}}


def test_detected_boxes_of_a_low_score_or_in_other_frames_are_left_out(tmp_path: Path) -> None:
    rows = "b,0902,0.1,0.1,0.5,0.5,,0.9\nb,0902,0.2,0.2,0.5,0.5,,0.7\nb,0903,0.1,0.1,0.5,0.5,,0.9\n"
    data = folder(tmp_path, val="b,0902,0.1,0.2,0.3,0.4,12,0\n", detections=rows)
    splits = read_box_splits(CARD, ListOptions(data), DETECTOR, 0.0, test_only=True)
    assert [frame.looked_at for frame in splits.frames.values()] == [((0.1, 0.1, 0.5, 0.5),)]
    lower = DETECTOR.model_copy(update={"min_box_score": 0.6})
    (frame,) = read_box_splits(CARD, ListOptions(data), lower, 0.0, test_only=True).frames.values()
    assert len(frame.looked_at) == 2


def test_a_detectors_file_may_have_no_column_of_actions(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("b,0902,0.1,0.1,0.5,0.5,0.9\n")
    assert list(read_detections(tmp_path / "a.csv", 0.8)["b", 902].boxes) == [(0.1, 0.1, 0.5, 0.5)]


def test_timestamps_count_from_where_the_file_begins(tmp_path: Path) -> None:
    data = folder(tmp_path, val="b,0902,0.1,0.2,0.3,0.4,12,0\n")
    (data / "cut").mkdir()
    (data / "cut" / "b.mkv").touch()
    (sample,) = read_box_splits(CARD, ListOptions(data), ORACLE, 900.0).test
    assert (sample.start_s, sample.path) == (2.0, str(data / "cut" / "b.mkv"))


def test_videos_that_are_not_there_are_expected_in_the_official_place(tmp_path: Path) -> None:
    data = folder(tmp_path, val="b,0902,0.1,0.2,0.3,0.4,12,0\n")
    assert read_box_splits(CARD, ListOptions(data), ORACLE, 0.0).test[0].path == str(data / "trainval/b.mp4")


def test_the_groups_hold_every_action_once() -> None:
    assert CARD.boxes is not None
    sizes = {
        name: sum(first <= action <= last for action in CARD.boxes.action_ids)
        for name, (first, last) in CARD.boxes.groups.items()
    }
    assert sizes == {"pose": 13, "person-object": 32, "person-person": 15}


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("b,0902,0.1,0.1,1.5,0.5,12,0", "leaves the frame"),
        ("b,0902,120,80,300,200,12,0", "not pixels"),
        ("b,0902,0.5,0.1,0.1,0.5,12,0", "inverted"),
        ("b,0902,0.1,0.1,0.1,0.5,12,0", "inverted or empty"),
        ("b,0902,0.1,0.1,0.5,0.5,81,0", "action 81 is not in the list"),
        ("b,0902,0.1,0.1,0.5,0.5,0,0", "action 0 is not in the list"),
        ("b,0902,0.1,0.1,0.5,wide,12,0", "y2 'wide' is no number"),
        ("b,0902,0.1,0.1,nan,0.5,12,0", "x2 'nan' is no number"),
        ("b,0902,0.1,0.1,0.5", "5 columns"),
        ("b,902.5,0.1,0.1,0.5,0.5,12,0", "no whole number"),
        ("b,-3,0.1,0.1,0.5,0.5,12,0", "negative"),
        ("b", "no video and timestamp"),
        ("../../x,0902,0.1,0.1,0.5,0.5,12,0", "leaves the data folder"),
        ("a,0905,0.1,0.1,0.5,0.5,12,0", "in both splits"),
    ],
)
def test_a_bad_row_is_one_line_that_names_it(tmp_path: Path, row: str, word: str) -> None:
    data = folder(tmp_path, val=f"b,0901,0.1,0.1,0.5,0.5,12,0\n{row}\n")
    with pytest.raises(BenchError, match=word) as caught:
        read_box_splits(CARD, ListOptions(data), ORACLE, 0.0)
    assert "ava_val_v2.2.csv" in str(caught.value.where)
    if "x," not in row and not row.startswith("a,"):
        assert str(caught.value.where).endswith(":2")
    assert "\n" not in str(caught.value)


def test_missing_and_useless_detections_are_refused(tmp_path: Path) -> None:
    data = folder(tmp_path, val="b,0902,0.1,0.2,0.3,0.4,12,0\n")
    with pytest.raises(BenchError, match="no detected boxes of the test split") as caught:
        read_box_splits(CARD, ListOptions(data), DETECTOR, 0.0)
    assert "probe.test_boxes=ground-truth" in str(caught.value.fix)
    detections = data / "annotations" / "ava_detection_val_boxes_and_labels.csv"
    for text, word in (
        ("other,0902,0.1,0.1,0.5,0.5,,0.9\n", "no box of score 0.8 or more in any of 1 test key frames"),
        ("b,0902,0.1,0.1,0.5,0.5,,1.9\n", "score 1.9 is not in 0 to 1"),
        ("b,0902,0.1,0.1,0.5\n", "5 columns"),
        ("", "empty"),
    ):
        detections.write_text(text)
        with pytest.raises(BenchError, match=word):
            read_box_splits(CARD, ListOptions(data), DETECTOR, 0.0)
    with pytest.raises(BenchError, match="a pickle can hold code"):
        read_detections(data / "boxes.pkl", 0.8)


def test_an_action_list_in_the_folder_takes_the_place_of_the_cards(tmp_path: Path) -> None:
    data = folder(
        tmp_path,
        val="b,0902,0.1,0.2,0.3,0.4,12,0\n",
        actions='item {\n  name: "stand"\n  id: 12\n}\nitem {\n  name: "walk"\n  id: 14\n}\n',
    )
    splits = read_box_splits(CARD, ListOptions(data), ORACLE, 0.0)
    assert splits.actions == {12: "stand", 14: "walk"}
    assert any("2 actions are evaluated" in note for note in splits.notes)


@pytest.mark.parametrize("text", ['item { name: "walk" }', 'item { name: "a" id: 1 }\nitem { name: "b" id: 1 }', ""])
def test_a_list_without_numbers_of_their_own_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.pbtxt").write_text(text)
    with pytest.raises(BenchError):
        read_action_list(tmp_path / "list.pbtxt")


def test_other_commands_say_that_boxes_are_no_labelled_videos(tmp_path: Path) -> None:
    for reader in (lambda: load_splits(CARD, ListOptions(tmp_path), tmp_path), lambda: read("ava", tmp_path, "test")):
        with pytest.raises(BenchError, match="boxes in key frames"):
            reader()
