"""The classes of the cards, in their official order, against the real lists."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support import ROOT, SHARED_DATA

from bench.cards.load import load_task, task_names
from bench.data.formats.tables import plain
from bench.encoders.catalog import model_cards

LISTS = SHARED_DATA / "annotations"
LABEL_MAPS = LISTS / "mmaction2" / "tools" / "data"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason="real annotation files are not here")


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@needs_lists
@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("k400", "kinetics/label_map_k400.txt"),
        ("k600", "kinetics/label_map_k600.txt"),
        ("k700", "kinetics/label_map_k700.txt"),
        ("ssv2", "sthv2/label_map.txt"),
        ("diving48", "diving48/label_map.txt"),
        ("jester", "jester/label_map.txt"),
        ("ucf101", "ucf101/label_map.txt"),
        ("hmdb51", "hmdb51/label_map.txt"),
    ],
)
def test_the_classes_are_those_of_the_official_list(task: str, file: str) -> None:
    assert load_task(task).classes == tuple(lines(LABEL_MAPS / file))


@needs_lists
@pytest.mark.parametrize(("task", "file"), [("k400", "kinetics-400_val.csv"), ("k600", "kinetics-600_val.csv")])
def test_kinetics_classes_are_the_sorted_labels_of_the_official_csv(task: str, file: str) -> None:
    with (LISTS / "activitynet" / "Crawler" / "Kinetics" / "data" / file).open() as table:
        assert load_task(task).classes == tuple(sorted({row["label"] for row in csv.DictReader(table)}))


@needs_lists
def test_ssv2_is_in_the_order_of_its_labels_and_not_in_that_of_the_other_list() -> None:
    classes = load_task("ssv2").classes
    assert isinstance(classes, tuple)
    other = lines(LISTS / "uniformer" / "sthv2" / "category.txt")
    assert {plain(name) for name in other} == {plain(name) for name in classes}
    assert sum(plain(a) != plain(b) for a, b in zip(classes, other, strict=True)) > 50


@needs_lists
def test_ucf101_labels_of_a_list_made_by_others_agree_with_the_card() -> None:
    classes = load_task("ucf101").classes
    assert isinstance(classes, tuple)
    rows = [line.rsplit(" ", 1) for line in lines(LISTS / "uniformer" / "ucf101" / "split1" / "train.csv")]
    assert {(plain(path.split("/")[0]), int(label)) for path, label in rows} == {
        (plain(name), i) for i, name in enumerate(classes)
    }


def test_imagenet_classes_are_the_sorted_wordnet_ids_with_their_words() -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    expected = [f"{wnid} {info.index_to_description(i)}" for i, wnid in enumerate(info.label_names())]
    classes = load_task("in1k").classes
    assert list(classes) == expected == sorted(expected)  # type: ignore[arg-type]
    assert classes[134].startswith("n02012849 crane") and classes[517].startswith("n03126707 crane")  # type: ignore[index]


@pytest.mark.skipif(not (SHARED_DATA / "imagenet_sample").is_dir(), reason="sample photos are not here")
def test_imagenet_folders_sort_as_the_classes() -> None:
    folders = sorted(entry.name for entry in (SHARED_DATA / "imagenet_sample").iterdir() if entry.is_dir())
    assert folders == [name.split()[0] for name in load_task("in1k").classes]  # type: ignore[union-attr]


def test_every_reference_is_in_the_published_table_and_its_encoder_in_the_catalog() -> None:
    with (ROOT / "results" / "published.csv").open(encoding="utf-8") as table:
        published = {(row["task"], row["source"], float(row["value"])) for row in csv.DictReader(table)}
    encoders = {card.name for card in model_cards()}
    seen = 0
    for name in task_names():
        card = load_task(name)
        for reference in card.references:
            seen += 1
            assert (card.published_task, reference.source, reference.value) in published
            assert reference.model in encoders and reference.probe in ("vjepa1-paper", "vjepa2-paper", "ek100-paper")
    assert seen > 30


@pytest.mark.parametrize(
    ("task", "clip", "frames", "step", "segments"),
    [
        ("k400", "vjepa1", 16, 4, 8),
        ("k400", "vjepa2", 16, 4, 8),
        ("ssv2", "vjepa1", 16, 4, 2),
        ("ssv2", "vjepa2-g384", 64, 2, 2),
        ("diving48", "vjepa2", 32, 2, 4),
        ("jester", "vjepa2", 32, 2, 4),
        ("coin", "vjepa2-config", 16, 4, 8),
    ],
)
def test_clip_protocols_are_those_of_the_papers(task: str, clip: str, frames: int, step: int, segments: int) -> None:
    """protocol.md 5.2, 5.3; test positions are random there (3.2)."""
    chosen = load_task(task).clips[clip]
    assert (chosen.frames, chosen.step, chosen.segments, chosen.views) == (frames, step, segments, 3)
    assert chosen.sampling == "random"


@pytest.mark.parametrize("task", ["diving48", "jester"])
def test_v_jepa_2_reads_four_layers_of_its_official_encoders(task: str) -> None:
    """protocol.md 5.3; by the number of layers. What is not of the paper reads the last alone."""
    card = load_task(task)
    assert card.clips["vjepa2"].layers == {24: (17, 19, 21, 23), 40: (24, 29, 34, 39)}
    assert card.clip.layers is None


def test_image_tasks_say_so_and_leave_the_repeats_to_the_weights() -> None:
    cards = [load_task(name) for name in task_names()]
    images = {card.name for card in cards if card.media == "image" and card.data == "lists"}
    assert images == {"in1k", "places205", "inat21"}
    assert all(load_task(name).clip.frames is None for name in images)
    assert all(load_task(name).clips["vjepa1"].frames == 16 for name in images)
