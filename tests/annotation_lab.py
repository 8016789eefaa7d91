"""Annotations of every format, small and whole, and what must hold of anything that is read from damaged ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ava_standin import ava_standin
from kitchens import kitchen
from standins import LAYOUTS, standin

from bench.cards.load import load_probe_card, load_task, override
from bench.data.actions import load_actions
from bench.data.dataset import load_splits
from bench.data.key_frames import BoxSample, read_box_splits
from bench.data.sample import ListOptions, Sample

_APART = ("ade20k", "ek100")
"""A layout without annotation files, and one with variants."""
KINDS = (*(name for name in LAYOUTS if name not in _APART), "ek100", "ek100-frames", "ava", "ava-oracle")
"""The formats: cards, and the variants of two of them that read other files."""
VERBS, NOUNS, ACTIONS = 97, 300, 80
KAGGLE = {"train": "train_cls.txt", "val": "LOC_val_solution.csv"}


@dataclass(frozen=True)
class Annotated:
    """A data folder with the annotations of one format."""

    files: list[Path]
    """Its annotation files."""
    read: Callable[[], None]
    """Reads both splits. Raises BenchError where the files are refused, AssertionError where what was read cannot be
    true."""


def annotated(kind: str, folder: Path) -> Annotated:
    """Make `folder` look as the official data of a format, with two samples or one video of each split."""
    if kind.startswith("ava"):
        read = _boxes(ava_standin(folder, train=1, test=1), "detector" if kind == "ava" else "ground-truth")
    elif kind.startswith("ek100"):
        read = _actions(kitchen(folder, train=1, test=1), "before-start" if kind == "ek100" else "official-encoder")
    else:
        standin(kind, folder, train=2, test=2)
        read = _labelled(kind, _kaggle_lists(folder) if kind == "in1k" else ListOptions(folder))
    return Annotated(sorted(p for p in folder.rglob("*") if p.suffix in (".csv", ".json", ".txt", ".pbtxt")), read)


def _kaggle_lists(folder: Path) -> ListOptions:
    """ImageNet as Kaggle lists it; its folders alone have no file to damage."""
    images = {name: sorted((folder / name).rglob("*.JPEG")) for name in KAGGLE}
    train = [f"{path.parent.name}/{path.stem} {number}\n" for number, path in enumerate(images["train"], start=1)]
    val = [f"{path.stem}_val,{path.parent.name} 85 1 499 272\n" for path in images["val"]]
    (folder / KAGGLE["train"]).write_text("".join(train))
    (folder / KAGGLE["val"]).write_text("".join(["ImageId,PredictionString\n", *val]))
    return ListOptions(folder, folder / KAGGLE["train"], folder / KAGGLE["val"])


def _labelled(card: str, where: ListOptions) -> Callable[[], None]:
    task, folder = load_task(card), where.data or Path()

    def read() -> None:
        splits = load_splits(task, where, folder)
        for samples in (splits.train, splits.test):
            assert_possible(samples, folder)
            assert all(0 <= sample.label < len(splits.class_names) for sample in samples)

    return read


def _actions(folder: Path, clip: str) -> Callable[[], None]:
    for kind, count in (("verb", VERBS), ("noun", NOUNS)):
        rows = "".join(f"{number},{kind} {number},\n" for number in range(count))
        (folder / "annotations" / f"EPIC_100_{kind}_classes.csv").write_text(f"id,key,instances\n{rows}")
    card = load_task("ek100")
    task = card.model_copy(update={"clip": card.clips[clip]})

    def read() -> None:
        splits = load_actions(task, ListOptions(folder))
        assert_possible([*splits.train, *splits.test], folder)
        assert len(set(splits.pairs)) == len(splits.pairs) == len(splits.class_names) >= 1
        assert all(0 <= verb < VERBS and 0 <= noun < NOUNS for verb, noun in splits.pairs)
        assert {sample.label for sample in (*splits.train, *splits.test)} <= set(range(len(splits.pairs)))
        assert not {sample.path for sample in splits.train} & {sample.path for sample in splits.test}

    return read


def _boxes(folder: Path, looked_at: str) -> Callable[[], None]:
    names = folder / "annotations"
    entries = "".join(f'item {{\n  name: "action {n}"\n  id: {n}\n}}\n' for n in (5, 7, 10, 14))
    (names / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(entries)
    (names / "ava_included_timestamps_v2.2.txt").write_text("".join(f"{second:04d}\n" for second in range(902, 1799)))
    task = load_task("ava")
    reading = override(load_probe_card("ava-attentive"), "probe", {"test_boxes": looked_at}).boxes
    assert reading

    def read() -> None:
        splits = read_box_splits(task, ListOptions(folder), reading, 900)
        assert len(splits.actions) >= 2 and all(1 <= action <= ACTIONS for action in splits.actions)
        for part in (splits.train, splits.test):
            assert_possible(part, folder)
            assert all(_possible(splits.frames[sample.id]) for sample in part)

    return read


def assert_possible(samples: Iterable[Sample], folder: Path) -> None:
    """There are samples, each once, within the folder, at times that there are."""
    samples = list(samples)
    assert samples and len({sample.id for sample in samples}) == len(samples)
    assert all(Path(os.path.normpath(sample.path)).is_relative_to(folder) for sample in samples)
    for sample in samples:
        times = [time for time in (sample.start_s, sample.end_s) if time is not None]
        assert all(map(math.isfinite, times)) and times == sorted(times)


def _possible(frame: BoxSample) -> bool:
    """Whether boxes have an area within the frame, and actions have numbers."""
    boxes = {*frame.looked_at, *frame.truth.boxes}
    inside = all(0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1 for x1, y1, x2, y2 in boxes)
    return inside and all(1 <= action <= ACTIONS for actions in frame.truth.boxes.values() for action in actions)
