"""Folders of files a class: everything in them is a sample, or its number is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import BenchError
from bench.cards.load import load_task, replace
from bench.data.dataset import ListOptions, Splits, load_splits
from bench.data.formats.suffixes import VIDEO_SUFFIXES

CUSTOM = load_task("custom")
NAMED = replace(CUSTOM, {"classes": ("wave", "point")}, "test")
IMAGES = replace(NAMED, {"media": "image"}, "test")


def folders(root: Path, *files: str, empty: tuple[str, ...] = ()) -> Path:
    """A data folder with these files, and a video of both classes in val."""
    for name in (*files, "val/wave/v.mp4", "val/point/v.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for name in empty:
        (root / name).mkdir(parents=True)
    return root


def split(data: Path, card: object = CUSTOM) -> Splits:
    return load_splits(card, ListOptions(data, data / "train", data / "val"), data)  # type: ignore[arg-type]


def test_a_custom_task_has_the_classes_of_its_folders_in_sorted_order(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/b.mp4", "train/wave/a.mp4", "train/point/a.mp4")
    for where in (
        ListOptions(data),
        ListOptions(train=data / "train", val=data / "val"),
        ListOptions(data, data / "train", data / "val"),
    ):
        splits = load_splits(CUSTOM, where, data)
        assert splits.class_names == ("point", "wave") and not splits.notes
        assert [(s.id, s.label) for s in splits.train] == [
            ("train/point/a.mp4", 0),
            ("train/wave/a.mp4", 1),
            ("train/wave/b.mp4", 1),
        ]
        assert splits.test[0].path == str(data / "val" / "point" / "v.mp4")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_test_folder_may_have_any_usual_name(tmp_path: Path, name: str) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/point/a.mp4")
    (data / "val").rename(data / name)
    assert len(load_splits(CUSTOM, ListOptions(data), data).test) == 2


def test_a_class_of_the_test_folders_alone_is_refused(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/points/a.mp4")
    with pytest.raises(BenchError, match=r"'point', the class of 'val/point/v.mp4', has no training .*did you mean"):
        split(data)


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".WMV", ".Gif"])
def test_files_of_every_suffix_that_a_list_may_name_are_read(tmp_path: Path, suffix: str) -> None:
    data = folders(tmp_path, f"train/wave/a{suffix}", "train/point/a.mp4")
    splits = split(data, NAMED)
    assert [s.id for s in splits.train] == ["train/point/a.mp4", f"train/wave/a{suffix}"] and not splits.notes


def test_other_files_are_left_out_and_their_number_is_said(tmp_path: Path) -> None:
    data = folders(
        tmp_path,
        "train/wave/a.mp4",
        "train/wave/a.txt",
        "train/point/b/a.txt",
        "train/point/README",
        "train/point/a.mp4",
    )
    folders(data, "train/point/.DS_Store")
    splits = split(data, NAMED)
    assert len(splits.train) == 2
    assert splits.notes == ("train: 3 files with other endings in class folders are left out: 2 .txt, 1 without any",)


@pytest.mark.parametrize("card", [CUSTOM, NAMED, IMAGES])
def test_the_images_of_a_class_may_lie_in_a_folder_of_their_own(tmp_path: Path, card: object) -> None:
    images = [f"train/{kind}/images/{kind}_{k}.JPEG" for kind in ("point", "wave") for k in range(3)]
    splits = split(folders(tmp_path, *images), card)
    assert [s.id for s in splits.train] == images


def test_videos_lie_at_any_depth(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/wave/day2/deep/a.mp4", "train/point/day1/a.mp4")
    assert [s.id for s in split(data).train] == [
        "train/point/day1/a.mp4",
        "train/wave/a.mp4",
        "train/wave/day2/deep/a.mp4",
    ]


def test_several_folders_of_images_in_a_class_are_videos_unless_samples_are_images(tmp_path: Path) -> None:
    frames = [f"train/{kind}/{clip}/{k}.jpg" for kind in ("point", "wave") for clip in ("c1", "c2") for k in range(2)]
    data = folders(tmp_path, *frames)
    splits = split(data, NAMED)
    assert [s.id for s in splits.train] == ["train/point/c1", "train/point/c2", "train/wave/c1", "train/wave/c2"]
    assert splits.notes == ("train: 4 folders of images in class folders are read as a video each",)
    assert len(split(data, IMAGES).train) == 8
    folders(data, "train/wave/more.jpg")
    assert len(split(data, NAMED).train) == 9


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/point/a.mp4", "more/b.mp4")
    (data / "train" / "wave" / "more").symlink_to(data / "more")
    (data / "more" / "loop").symlink_to(data / "train" / "wave")
    assert [s.id for s in split(data).train] == ["train/point/a.mp4", "train/wave/a.mp4", "train/wave/more/b.mp4"]


def test_a_class_folder_without_files_is_said(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/point/a.mp4", empty=("train/jump",))
    splits = split(data)
    assert splits.class_names == ("jump", "point", "wave")
    assert splits.notes == ("1 of 3 classes has no sample in either split: jump",)
