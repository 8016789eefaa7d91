"""Masks of still images: which image has which, and what their values mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from standins import standin
from support import SHARED_DATA

from bench import BenchError
from bench.cards.load import TaskCard, load_task, replace
from bench.core.progress import Silent
from bench.data.masks import MaskFiles, checked, load_mask_splits, nearest, read_values
from bench.data.sample import ListOptions
from bench.data.verify.prepare import Wishes, prepare
from bench.data.verify.verify import verify
from bench.metrics.iou import VOID

ADE = load_task("ade20k")
VOC = load_task("voc12")


def facts(card: TaskCard, folder: Path, **options: Any) -> MaskFiles:
    found = load_mask_splits(card, ListOptions(folder), **options).facts
    assert isinstance(found, MaskFiles)
    return found


def save(values: Any, path: Path, mode: str | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).convert(mode).save(path, **options)
    return path


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    standin("ade20k", tmp_path / "ade", train=4, test=2)
    return tmp_path / "ade"


@pytest.mark.parametrize("card", [ADE, VOC], ids=lambda card: card.name)
def test_each_image_has_the_mask_of_its_name(card: TaskCard, tmp_path: Path) -> None:
    standin(card.name, tmp_path / "deep" / "data", train=4, test=2)
    for folder in (tmp_path / "deep" / "data", tmp_path / "deep"):
        splits = load_mask_splits(card, ListOptions(folder))
        assert (len(splits.train), len(splits.test), splits.class_names) == (4, 2, card.classes)
        for sample in (*splits.train, *splits.test):
            (number,) = splits.facts.numbers([sample])
            mask = Path(splits.facts.masks[number])
            assert mask.is_file() and (mask.stem, mask.suffix) == (Path(sample.path).stem, ".png")
            assert splits.facts.images[number] == sample.path and splits.facts.read(number).max() >= 0
        assert load_mask_splits(card, ListOptions(folder), test_only=True).train == []


def test_zero_is_void_or_the_first_class_as_the_card_says(tmp_path: Path) -> None:
    values = np.array([[0, 1, 150], [255, 2, 0]], dtype=np.uint8)
    for card, expected in ((ADE, [[VOID, 0, 149], [VOID, 1, VOID]]), (VOC, None)):
        standin(card.name, tmp_path / card.name, train=2, test=2)
        found = facts(card, tmp_path / card.name)
        save(values, Path(found.masks[0]))
        Image.new("RGB", (3, 2)).save(found.images[0])
        if expected:
            assert found.read(0).tolist() == expected
        else:
            with pytest.raises(BenchError, match="value 150 at row 0, column 2, is no class: they are 0 to 20, void"):
                found.read(0)


@pytest.mark.parametrize(
    ("bits", "mode"), [(1, "1"), (2, "L"), (4, "L"), (8, "L"), (8, "P"), (2, "P"), (4, "P"), (16, "I;16")]
)
def test_values_are_those_of_the_file_whatever_its_depth(tmp_path: Path, bits: int, mode: str) -> None:
    """Pillow stretches grey values of 2 and 4 bits to 0 .. 255."""
    values = np.arange(6).reshape(2, 3) % 2**bits + (300 if bits == 16 else 0)
    path = tmp_path / "mask.png"
    path.write_bytes(png(values, bits, palette=mode == "P"))
    with Image.open(path) as image:
        assert image.mode == mode
    assert read_values(str(path)).tolist() == values.tolist()


def png(values: np.ndarray, bits: int, *, palette: bool) -> bytes:
    """A PNG of so many bits a value, which Pillow writes of few kinds alone."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b""
    for row in values.tolist():
        line = "".join(f"{value:0{bits}b}" for value in row)
        line += "0" * (-len(line) % 8)
        rows += b"\0" + bytes(int(line[i : i + 8], 2) for i in range(0, len(line), 8))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 3 if palette else 0, 0, 0, 0)
    colours = chunk(b"PLTE", bytes(range(256)) * 3) if palette else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + colours
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def without_mask(mask: Path) -> None:
    mask.unlink()


def other_size(mask: Path) -> None:
    save(np.ones((5, 7), dtype=np.uint8), mask)


def beyond(mask: Path) -> None:
    with Image.open(mask) as image:
        values = np.asarray(image).copy()
    values[1, 2] = 151
    save(values, mask)


def in_colour(mask: Path) -> None:
    with Image.open(mask) as image:
        image.convert("RGB").save(mask)


def photo(mask: Path) -> None:
    with Image.open(mask) as image:
        image.save(mask, format="JPEG")


def damaged(mask: Path) -> None:
    mask.write_bytes(mask.read_bytes()[:60])


def empty(mask: Path) -> None:
    mask.write_bytes(b"")


def folder_in_its_place(mask: Path) -> None:
    mask.unlink()
    mask.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_mask, "no mask of image .*ADE_train_00000002.jpg - restore it"),
        (other_size, r"is 7x5 pixels, its image .*ADE_train_00000002.jpg \d+x\d+"),
        (beyond, "value 151 at row 1, column 2, is no class: they are 1 to 150, void is 255 or 0"),
        (in_colour, "is PNG of mode RGB, not a mask"),
        (photo, "is JPEG of mode L, not a mask"),
        (damaged, "damaged"),
        (empty, "the file is empty"),
        (folder_in_its_place, "is a folder"),
    ],
)
def test_masks_that_do_not_fit_are_refused_by_name(ade: Path, spoil: Callable[[Path], None], said: str) -> None:
    mask = ade / "annotations" / "training" / "ADE_train_00000002.png"
    spoil(mask)
    with pytest.raises(BenchError, match=said) as refused:
        checked(facts(ADE, ade), ade.parent, lambda done, total: None)
    assert refused.value.where == str(mask)


def test_masks_are_checked_once_and_what_changed_is_noticed(ade: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    files = facts(ADE, ade)
    first = checked(files, tmp_path, lambda *state: told.append(state))
    assert told == [(number, 6) for number in range(1, 7)] and first.pixels is not None
    for number, pixels in enumerate(first.pixels):
        assert pixels[:3].tolist() == [int((files.read(number) == label).sum()) for label in range(3)]
    again = checked(files, tmp_path, lambda *state: told.append(state))
    assert len(told) == 6 and again == first and (again.pixels == first.pixels).all()
    (next((tmp_path / "masks").iterdir())).write_bytes(b"damaged")
    assert (checked(files, tmp_path, lambda *state: None).pixels == first.pixels).all()
    Image.new("RGB", (9, 9)).save(files.images[1])
    with pytest.raises(BenchError, match=r"its image .* 9x9"):
        checked(files, tmp_path, lambda *state: None)
    beyond(Path(files.masks[0]))
    with pytest.raises(BenchError, match="value 151"):
        checked(files, tmp_path, lambda *state: None)


def test_an_image_that_cannot_be_read_is_left_to_its_decoder(ade: Path, tmp_path: Path) -> None:
    files = facts(ADE, ade)
    Path(files.images[0]).write_bytes(b"no image")
    assert checked(files, tmp_path, lambda *state: None).digests[0]


def test_a_folder_that_is_not_there_is_named(ade: Path, tmp_path: Path) -> None:
    for data, said in ((None, "needs your data"), (tmp_path / "no", "no such data folder")):
        with pytest.raises(BenchError, match=said):
            load_mask_splits(ADE, ListOptions(data))
    (ade / "images" / "validation").rename(ade / "images" / "val")
    with pytest.raises(BenchError, match="no folders images/validation and annotations/validation here"):
        load_mask_splits(ADE, ListOptions(ade))
    (ade / "images" / "val").rename(ade / "images" / "validation")
    for image in (ade / "images" / "training").iterdir():
        image.unlink()
    with pytest.raises(BenchError, match="no images of the train split here"):
        load_mask_splits(ADE, ListOptions(ade))


def test_lists_name_images_with_or_without_folder_and_suffix(tmp_path: Path) -> None:
    standin("voc12", tmp_path, train=4, test=2)
    names = sorted(path.stem for path in (tmp_path / "JPEGImages").iterdir())
    own = tmp_path / "own.txt"
    for text in ("{}", "{}.jpg", "JPEGImages/{}.jpg"):
        own.write_text("".join(text.format(name) + "\n" for name in names[:2]))
        splits = load_mask_splits(VOC, ListOptions(tmp_path, val=own), test_only=True)
        assert [Path(sample.path).stem for sample in splits.test] == names[:2]


def test_an_image_in_both_splits_or_twice_in_a_list_is_refused(tmp_path: Path) -> None:
    standin("voc12", tmp_path, train=4, test=2)
    lists = tmp_path / "ImageSets" / "Segmentation"
    test = (lists / "val.txt").read_text()
    (lists / "val.txt").write_text(test + test.splitlines()[0] + "\n")
    with pytest.raises(BenchError, match="listed twice"):
        load_mask_splits(VOC, ListOptions(tmp_path))
    (lists / "val.txt").write_text(test + (lists / "train.txt").read_text().splitlines()[1] + "\n")
    with pytest.raises(BenchError, match="in both splits") as refused:
        load_mask_splits(VOC, ListOptions(tmp_path))
    assert refused.value.where == f"{lists / 'val.txt'}:3"


@pytest.mark.parametrize("row", ["../../outside", "/etc/passwd", "no\0name", "missing"])
def test_lists_that_lead_elsewhere_are_refused(tmp_path: Path, row: str) -> None:
    standin("voc12", tmp_path, train=4, test=2)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text(f"{row}\n")
    with pytest.raises(BenchError):
        load_mask_splits(VOC, ListOptions(tmp_path))


def test_nearest_takes_the_pixel_under_the_centre_as_pillow_does() -> None:
    values = np.arange(7 * 5, dtype=np.int32).reshape(7, 5)
    for size in ((3, 4), (14, 10), (9, 13)):
        expected = np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.NEAREST))
        np.testing.assert_array_equal(nearest(values, size), expected)


def test_the_shared_tree_in_ades_layout_is_read() -> None:
    folder = SHARED_DATA / "blocks" / "layouts" / "ade20k"
    if not folder.is_dir():
        pytest.skip("shared/data/blocks is absent")
    card = replace(ADE, {"classes": ("background", "ball", "cube", "cylinder", "cone", "cross")}, "test")
    splits = load_mask_splits(card, ListOptions(folder))
    assert (len(splits.train), len(splits.test)) == (40, 20)
    maps = list(splits.facts.read_all(splits.facts.numbers(splits.test)))
    shares = np.bincount(np.concatenate([one.ravel() for one in maps]) + 1, minlength=7) / (20 * 96 * 96)
    assert shares[0] == pytest.approx(0.018, abs=0.01) and shares[1] == pytest.approx(0.875, abs=0.04)


def test_the_data_can_be_verified_and_are_not_copied(ade: Path, tmp_path: Path) -> None:
    report = verify(ADE, ListOptions(ade), tmp_path, Silent())
    for split, count in (("train", 4), ("test", 2)):
        part = report.splits[split]  # type: ignore[index]
        assert (part.samples, part.readable, part.class_counts[:4]) == (count, count, [count, count, count, 0])
    assert [line for line in report.misleading if "official" not in line] == [
        "147 of 150 classes have no sample in either split: floor, tree, ceiling, road, bed, ..."
    ]
    with pytest.raises(BenchError, match="say nothing of their masks"):
        prepare(ADE, ListOptions(ade), tmp_path / "out", Wishes(None, None, None), Silent())
    beyond(ade / "annotations" / "training" / "ADE_train_00000002.png")
    with pytest.raises(BenchError, match="value 151"):
        verify(ADE, ListOptions(ade), tmp_path, Silent())


def test_a_mask_of_two_images_and_an_animated_one_are_refused(ade: Path, tmp_path: Path) -> None:
    first = ade / "images" / "training" / "ADE_train_00000001.jpg"
    (first.parent / "ADE_train_00000001.png").write_bytes(first.read_bytes())
    with pytest.raises(BenchError, match=r"is the mask of two images, ADE_train_00000001\.jpg and .*1\.png"):
        facts(ADE, ade)
    pictures = [Image.new("L", (4, 4), value) for value in (0, 1)]
    pictures[0].save(tmp_path / "m.png", save_all=True, append_images=pictures[1:])
    with pytest.raises(BenchError, match="more than one picture"):
        read_values(str(tmp_path / "m.png"))


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    standin("voc12", tmp_path, train=4, test=2)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").unlink()
    with pytest.raises(BenchError, match="no list of the train images") as refused:
        load_mask_splits(VOC, ListOptions(tmp_path))
    assert refused.value.where == str(tmp_path / "ImageSets" / "Segmentation" / "train.txt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"media": "video"}, "of still images"),
        ({"classes": None}, "of so many classes"),
        ({"classes": 256}, "255 is the value of a class"),
        ({"metric": "top1"}, "metric mIoU"),
        ({"masks": None}, "give it, and the metric mIoU"),
        ({"masks": {**ADE.model_dump()["masks"], "void": 7}}, "7 is the value of a class"),
        ({"masks": {**ADE.model_dump()["masks"], "masks": {"train": "images/training", "test": "x"}}}, "a folder each"),
        ({"masks": {**ADE.model_dump()["masks"], "images": {"train": "../x", "test": "y"}}}, "inside the data folder"),
    ],
)
def test_cards_that_cannot_be_meant_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        replace(ADE, changes, "card.yaml")
