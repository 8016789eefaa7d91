"""From a card and the user's lists to the samples of a task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import BenchError
from bench.cards.load import load_task, override, replace
from bench.data import digits
from bench.data.dataset import load_splits, read, subset
from bench.data.sample import ListOptions, Sample

CUSTOM = load_task("custom")
THREE = replace(CUSTOM, {"classes": 3}, "test")


def lists(folder: Path, train: str, val: str) -> ListOptions:
    (folder / "train.csv").write_text(train)
    (folder / "val.csv").write_text(val)
    return ListOptions(train=folder / "train.csv", val=folder / "val.csv")


def test_classes_come_from_the_training_list(tmp_path: Path) -> None:
    splits = load_splits(CUSTOM, lists(tmp_path, "a.mp4 0\nb.mp4 2\nd.mp4 2\n", "c.mp4 1\n"), tmp_path)
    assert splits.class_names == ("0", "1", "2")
    assert [s.id for s in splits.train] == ["a.mp4", "b.mp4", "d.mp4"] and splits.test[0].label == 1


def test_the_data_folder_holds_the_lists_of_the_card(tmp_path: Path) -> None:
    lists(tmp_path, "a.mp4 0\nb.mp4 1\n", "c.mp4 1\n")
    assert len(load_splits(CUSTOM, ListOptions(data=tmp_path), tmp_path).train) == 2


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_named_classes_are_sorted_over_both_lists(tmp_path: Path, delimiter: str) -> None:
    train, val = "a.mp4 wave\nb.mp4 point\nc.mp4 jump\n", "d.mp4 wave\ne.mp4 point\n"
    where = lists(tmp_path, train.replace(" ", delimiter), val.replace(" ", delimiter))
    splits = load_splits(CUSTOM, where, tmp_path)
    assert splits.class_names == ("jump", "point", "wave") and not splits.notes
    assert [[s.label for s in part] for part in (splits.train, splits.test)] == [[2, 1, 0], [2, 1]]


def test_named_classes_take_the_labels_of_a_card_that_names_them(tmp_path: Path) -> None:
    card = replace(CUSTOM, {"classes": ("wave", "point")}, "test")
    splits = load_splits(card, lists(tmp_path, "a.mp4 Wave\nb.mp4 point\n", "c.mp4 1\n"), tmp_path)
    assert [s.label for s in (*splits.train, *splits.test)] == [0, 1, 1]
    with pytest.raises(BenchError, match=r"train.csv:2: 'pint' is not a class .*did you mean 'point'"):
        load_splits(card, lists(tmp_path, "a.mp4 wave\nb.mp4 pint\n", "c.mp4 1\n"), tmp_path)


def test_one_split_alone_has_the_labels_that_it_has_beside_the_other(tmp_path: Path) -> None:
    lists(tmp_path, "a.mp4 wave\nb.mp4 jump\nc.mp4 point\n", "d.mp4 wave\n")
    assert [s.label for s in read(CUSTOM, tmp_path, "test")] == [2]


@pytest.mark.parametrize(
    ("train", "val", "notes"),
    [
        ("a.mp4 0\nb.mp4 1\n", "c.mp4 0\n", []),
        ("a.mp4 0\nb.mp4 2\nd.mp4 2\n", "c.mp4 0\n", ["1 of 3 classes has no sample in either split: 1"]),
        (
            "a.mp4 0\nb.mp4 2\nd.mp4 2\n",
            "c.mp4 1\ne.mp4 1\n",
            ["1 of 3 classes has no training sample, and 2 test samples are of it: 1"],
        ),
        (
            "a.mp4 0\nb.mp4 5\nd.mp4 0\ne.mp4 0\nf.mp4 0\ng.mp4 0\n",
            "c.mp4 1\nh.mp4 3\n",
            [
                "2 of 6 classes have no sample in either split: 2, 4",
                "2 of 6 classes have no training sample, and 2 test samples are of them: 1, 3",
            ],
        ),
    ],
)
def test_classes_without_a_training_sample_are_said(tmp_path: Path, train: str, val: str, notes: list[str]) -> None:
    assert list(load_splits(CUSTOM, lists(tmp_path, train, val), tmp_path).notes) == notes


def test_labels_that_count_from_one_are_refused_unless_they_are_meant(tmp_path: Path) -> None:
    where = lists(tmp_path, "a.mp4 1\nb.mp4 2\nd.mp4 3\ne.mp4 3\n", "c.mp4 1\n")
    with pytest.raises(BenchError, match=r"train.csv and .*val.csv: .* seem to count from 1 .*task.labels=as-they-are"):
        load_splits(CUSTOM, where, tmp_path)
    splits = load_splits(override(CUSTOM, "task", {"labels": "as-they-are"}), where, tmp_path)
    assert splits.class_names == ("0", "1", "2", "3")
    assert splits.notes == ("1 of 4 classes has no sample in either split: 0",)


def test_a_label_beyond_the_cards_says_that_labels_seem_to_count_from_one(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"label 3 of 'd.mp4' is out of range.*subtract 1 from each"):
        load_splits(THREE, lists(tmp_path, "a.mp4 1\nb.mp4 2\nd.mp4 3\n", "c.mp4 1\n"), tmp_path)


@pytest.mark.parametrize(
    ("card", "train", "val", "words"),
    [
        (THREE, "a.mp4 0\nb.mp4 3\n", "c.mp4 1\n", ["label 3", "classes 0 to 2", "train.csv"]),
        (CUSTOM, "a.mp4 0\nb.mp4 1\n", "c.mp4 2\n", ["label 2", "'c.mp4'", "val.csv"]),
        (CUSTOM, "a.mp4 0\nb.mp4 0\n", "c.mp4 0\n", ["two classes"]),
        (CUSTOM, "a.mp4 0\nb.mp4 100000000\n", "c.mp4 0\n", ["100000001 classes", "b.mp4"]),
        (CUSTOM, "a.mp4 wave\nb.mp4 point\n", "c.mp4 wav\n", ["'wav'", "no training sample", "did you mean 'wave'"]),
        (CUSTOM, "a.mp4 wave\nb.mp4 point\n", "c.mp4 1\n", ["val.csv", "numbers", "names of classes"]),
        (CUSTOM, "a.mp4 0\nb.mp4 1\n", "a.mp4 0\n", ["1 file(s) are in both lists", "'a.mp4'"]),
    ],
)
def test_lists_that_would_mislead_are_refused(
    tmp_path: Path, card: object, train: str, val: str, words: list[str]
) -> None:
    with pytest.raises(BenchError) as refusal:
        load_splits(card, lists(tmp_path, train, val), tmp_path)  # type: ignore[arg-type]
    for word in words:
        assert word in str(refusal.value)


def test_missing_data_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="--train LIST --val LIST"):
        load_splits(CUSTOM, ListOptions(), tmp_path)
    with pytest.raises(BenchError, match="no such data folder"):
        load_splits(CUSTOM, ListOptions(data=tmp_path / "none"), tmp_path)
    with pytest.raises(BenchError, match="no such list"):
        load_splits(CUSTOM, ListOptions(data=tmp_path), tmp_path)
    with pytest.raises(BenchError, match="brings its own data"):
        load_splits(load_task("digits-motion"), ListOptions(data=tmp_path), tmp_path)


def test_without_training_the_training_list_may_be_absent(tmp_path: Path) -> None:
    given = lists(tmp_path, "a.mp4 0\nb.mp4 2\nd.mp4 1\n", "c.mp4 1\ne.mp4 0\n")
    splits = load_splits(CUSTOM, given, tmp_path, test_only=True)
    assert (splits.train, len(splits.test), len(splits.class_names)) == ([], 2, 3)
    (tmp_path / "train.csv").unlink()
    for where in (ListOptions(data=tmp_path), ListOptions(val=given.val)):
        splits = load_splits(CUSTOM, where, tmp_path, test_only=True)
        assert (splits.train, len(splits.test), len(splits.class_names)) == ([], 2, 2)
    assert len(load_splits(THREE, ListOptions(val=given.val), tmp_path, test_only=True).class_names) == 3
    with pytest.raises(BenchError, match="give --val LIST, or --data"):
        load_splits(CUSTOM, ListOptions(), tmp_path, test_only=True)
    lists(tmp_path, "c.mp4 0\nb.mp4 1\n", "c.mp4 1\n")
    with pytest.raises(BenchError, match="in both lists"):
        load_splits(CUSTOM, ListOptions(data=tmp_path), tmp_path, test_only=True)


def test_the_digits_without_training_have_their_test_split_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = SimpleNamespace(id="a", path="a.mp4", motion=3, digit=5, image=7)
    monkeypatch.setattr(digits, "ensure_digits", lambda cache, progress: tmp_path)
    monkeypatch.setattr(digits, "read_digits", lambda folder, split: [clip])
    splits = load_splits(load_task("digits-motion"), ListOptions(), tmp_path, test_only=True)
    assert (splits.train, [(one.label, one.group_name) for one in splits.test]) == ([], [(3, "image 7")])


def test_a_subset_is_random_and_repeatable() -> None:
    samples = [Sample(id=str(i), path=str(i), label=i // 50) for i in range(100)]
    chosen = subset(samples, 20, seed=1)
    assert chosen == subset(samples, 20, seed=1) != subset(samples, 20, seed=2)
    assert len(chosen) == 20 and {s.label for s in chosen} == {0, 1}
    assert chosen == sorted(chosen, key=samples.index)
    assert subset(samples, 200, seed=1) == samples
