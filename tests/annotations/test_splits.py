"""From a card and the user's lists to the samples of a task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import BenchError, digits
from bench.annotations import Sample
from bench.annotations.splits import ListOptions, load_splits, subset
from bench.cards import load_task, replace

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


@pytest.mark.parametrize(
    ("card", "train", "val", "words"),
    [
        (THREE, "a.mp4 0\nb.mp4 3\n", "c.mp4 1\n", ["label 3", "classes 0 to 2", "train.csv"]),
        (CUSTOM, "a.mp4 0\nb.mp4 1\n", "c.mp4 2\n", ["label 2", "'c.mp4'", "val.csv"]),
        (CUSTOM, "a.mp4 0\nb.mp4 0\n", "c.mp4 0\n", ["two classes"]),
        (CUSTOM, "a.mp4 0\nb.mp4 100000000\n", "c.mp4 0\n", ["100000001 classes", "b.mp4"]),
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
    clip = SimpleNamespace(id="a", path="a.mp4", motion=3, digit=5)
    monkeypatch.setattr(digits, "ensure_digits", lambda cache, progress: tmp_path)
    monkeypatch.setattr(digits, "read_digits", lambda folder, split: [clip])
    splits = load_splits(load_task("digits-motion"), ListOptions(), tmp_path, test_only=True)
    assert (splits.train, [sample.label for sample in splits.test]) == ([], [3])


def test_a_subset_is_random_and_repeatable() -> None:
    samples = [Sample(id=str(i), path=str(i), label=i // 50) for i in range(100)]
    chosen = subset(samples, 20, seed=1)
    assert chosen == subset(samples, 20, seed=1) != subset(samples, 20, seed=2)
    assert len(chosen) == 20 and {s.label for s in chosen} == {0, 1}
    assert chosen == sorted(chosen, key=samples.index)
    assert subset(samples, 200, seed=1) == samples
