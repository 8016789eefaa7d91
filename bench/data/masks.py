"""Still images with a mask each -> the samples of both splits, and maps of the true class of every pixel.

Layouts: ADE20K (`images/training/NAME.jpg`, `annotations/training/NAME.png`), VOC 2012 (lists of names in
`ImageSets/Segmentation`, `JPEGImages`, `SegmentationClass`), and whatever folders a card names.

Shapes: n images, H x W pixels of an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.cards.load import MaskAnnotations, TaskCard
from bench.core.errors import BenchError
from bench.data.dataset import ListOptions, Splits
from bench.data.formats import Sample
from bench.data.formats.lists import resolve
from bench.data.formats.tables import read_lines
from bench.data.sample import Split
from bench.metrics.iou import VOID
from bench.video.image_frames import IMAGE_SUFFIXES, as_decode_errors, image_size, is_image

ClassMap = npt.NDArray[np.int32]
"""The class of every pixel, VOID where there is none, [H, W]."""

_GREY_BITS = {2: 3, 4: 15}
"""Bits of a grey value in a PNG that Pillow stretches to 0 .. 255, and the largest value that they hold."""
_THREADS = 8
_SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True)
class MaskFiles:
    """Where the mask of every sample is, and what its values mean."""

    paths: Mapping[str, str]
    """Id of a sample -> path of its mask."""
    images: Mapping[str, str]
    """Id of a sample -> path of its image."""
    meaning: MaskAnnotations
    num_classes: int

    def read(self, name: str) -> ClassMap:
        """The map of a sample's true classes, int32 [H, W].

        Raises BenchError, with the file, where it is no mask, has another size than its image, or holds a value that is
        neither a class nor void.
        """
        path = self.paths[name]
        values = read_values(path)
        height, width = image_size(self.images[name])
        if values.shape != (height, width):
            what = f"is {values.shape[1]}x{values.shape[0]} pixels, its image {self.images[name]} {width}x{height}"
            raise BenchError(what, where=path, fix="give the mask of this image, in its size")
        return class_map(values, self.meaning, self.num_classes, where=path)

    def read_all(self, names: Sequence[str], side: int | None = None) -> Iterator[ClassMap]:
        """The maps of several samples in their order, `side` pixels high and wide by `nearest` where given."""
        with ThreadPoolExecutor(_THREADS) as pool:  # Pillow decodes outside of Python's lock
            for start in range(0, len(names), _THREADS):
                for found in pool.map(self.read, names[start : start + _THREADS]):
                    yield found if side is None else nearest(found, (side, side))


def read_values(path: str) -> npt.NDArray[np.int32]:
    """The values of a mask as the file holds them, int32 [H, W]. Raises BenchError for anything but a PNG of one
    channel."""
    from PIL import Image

    with as_decode_errors(path), Image.open(path) as image:
        if image.format != "PNG" or image.mode not in ("1", "L", "P", "I", "I;16"):
            what = f"is {image.format} of mode {image.mode}, not a mask"
            raise BenchError(what, where=path, fix="give a PNG whose grey or palette values are numbers of classes")
        values = np.asarray(image).astype(np.int32)
    depth, is_grey = _header(path)
    return values * _GREY_BITS[depth] // 255 if is_grey and depth in _GREY_BITS else values


def _header(path: str) -> tuple[int, bool]:
    """Bits of a value in a PNG, and whether it is grey."""
    with Path(path).open("rb") as file:
        head = file.read(26)
    return head[24], head[25] == 0


def class_map(values: npt.NDArray[np.int32], meaning: MaskAnnotations, num_classes: int, *, where: str) -> ClassMap:
    """The classes that the values of a mask mean, VOID where they mean none; int32 of the same shape.

    Raises BenchError, naming `where` and the pixel, for a value that is neither a class nor void.
    """
    first = 1 if meaning.zero == "void" else 0
    classes = values - first
    is_void = (values == meaning.void) | (classes < 0)
    wrong = ~is_void & (classes >= num_classes)
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise BenchError(
            f"value {values[row, column]} at row {row}, column {column}, is no class: they are {first} to "
            f"{first + num_classes - 1}, void is {meaning.void}{' or 0' if first else ''}",
            where=where,
            fix="give masks of this task, or say in the card what their values mean (masks.void, masks.zero)",
        )
    return np.where(is_void, VOID, classes).astype(np.int32)


def nearest(values: npt.NDArray[np.int32], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    """A map [H, W] in another size: each pixel is that of the map in which its centre lies, as Pillow's NEAREST."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, values.shape, strict=True))
    return values[rows.astype(np.int64)[:, None], columns.astype(np.int64)]


def load_mask_splits(card: TaskCard, where: ListOptions, *, test_only: bool = False) -> Splits:
    """The samples of both splits, with a MaskFiles as their facts; a sample's id is the path of its image in the data.

    Raises BenchError naming the file for a folder, an image or a mask that is not there, a list that does not fit, and
    an image in both splits. Masks are not opened: `check_masks` does that.
    """
    meaning, classes = card.masks, card.num_classes
    if meaning is None or classes is None:
        raise ValueError(f"task {card.name} has no masks")
    root = _root(card, meaning, where.data)
    paths: dict[str, str] = {}
    images: dict[str, str] = {}
    found: dict[Split, list[Sample]] = {"train": [], "test": []}
    for split in _SPLITS[1:] if test_only else _SPLITS:
        folder, masks = (getattr(folders, split) for folders in (meaning.images, meaning.masks))
        for name, row in _names(card, root, folder, where, split):
            image = resolve(f"{folder}/{name}", root, absolute_allowed=False, where=row)
            mask = resolve(f"{masks}/{name.rpartition('.')[0]}.png", root, absolute_allowed=False, where=row)
            if not os.path.lexists(mask):
                raise BenchError(f"no mask of image {image}", where=mask, fix="restore it, or remove the image")
            identity = f"{folder}/{name}"
            if identity in images:
                both = any(sample.id == identity for sample in found["train"]) and split == "test"
                what = f"'{identity}' is {'in both splits' if both else 'listed twice'}"
                raise BenchError(what, where=row, fix="a test image must not be trained on: remove one")
            images[identity], paths[identity] = image, mask
            found[split].append(Sample(identity, image, 0))
    return Splits(
        found["train"], found["test"], _class_names(card, classes), facts=MaskFiles(paths, images, meaning, classes)
    )


def check_masks(masks: MaskFiles, names: Sequence[str], progress: Callable[[int, int], None]) -> None:
    """Read the masks of these samples. Raises BenchError for the first that is unfit (`MaskFiles.read`)."""
    for done, _ in enumerate(masks.read_all(names), start=1):
        progress(done, len(names))


def _root(card: TaskCard, meaning: MaskAnnotations, data: Path | None) -> Path:
    """The data folder, or the folder directly below it, that has the test images."""
    if data is None:
        raise BenchError(f"task {card.name} needs your data", fix="give --data FOLDER with images and masks")
    if not data.is_dir():
        raise BenchError("no such data folder", where=str(data), fix="check --data")
    below = sorted(path for path in data.iterdir() if path.is_dir())
    for root in (data, *below):
        if (root / meaning.images.test).is_dir() and (root / meaning.masks.test).is_dir():
            return root
    raise BenchError(
        f"no folders {meaning.images.test} and {meaning.masks.test} here or one folder down",
        where=str(data),
        fix=f"`bench tasks {card.name}` shows the layout",
    )


def _names(card: TaskCard, root: Path, folder: str, where: ListOptions, split: Split) -> list[tuple[str, str]]:
    """Path of every image of a split below its folder, and where it is said to be: the list's row, or the folder."""
    given = where.train if split == "train" else where.val
    listed = given or _first(root, card.annotations.train if split == "train" else card.annotations.test)
    if not (root / folder).is_dir():
        raise BenchError(f"no folder of the {split} images", where=str(root / folder), fix="check --data")
    if listed is None:
        there = _images(root / folder)
        if not there:
            raise BenchError(f"no images of the {split} split here", where=str(root / folder), fix="check --data")
        return [(name, str(root / folder)) for name in there]
    suffixes = {name.rpartition(".")[0]: name for name in _images(root / folder)}
    names = []
    for line, text in read_lines(listed, "list of images", "one name a line"):
        name = text.rpartition(".")[0] if is_image(text) else text
        name = name.removeprefix(f"{Path(folder).name}/")
        names.append((suffixes.get(name, f"{name}.jpg"), f"{listed}:{line}"))
    return names


def _first(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_file()), None)


def _images(folder: Path) -> list[str]:
    """Paths of all images below a folder, sorted; hidden ones are passed over."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _class_names(card: TaskCard, num_classes: int) -> tuple[str, ...]:
    return card.classes if isinstance(card.classes, tuple) else tuple(map(str, range(num_classes)))
