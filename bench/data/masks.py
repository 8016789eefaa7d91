"""Still images with a mask each -> the samples of both splits, and maps of the true class of every pixel.

Layouts: ADE20K (`images/training/NAME.jpg`, `annotations/training/NAME.png`), VOC 2012 (lists of names in
`ImageSets/Segmentation`, `JPEGImages`, `SegmentationClass`), and whatever folders a card names.

Shapes: n images, H x W pixels of an image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.cards.load import MaskAnnotations, TaskCard
from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.hashing import digest
from bench.core.inputs import CACHED, open_input
from bench.data.formats.lists import resolve
from bench.data.formats.tables import read_lines
from bench.data.sample import ListOptions, Sample, Split, Splits
from bench.metrics.iou import VOID
from bench.video.contents import content_ids
from bench.video.image_frames import IMAGE_SUFFIXES, as_decode_errors, image_size, is_image
from bench.video.info import DecodeError

ClassMap = npt.NDArray[np.int32]
"""The class of every pixel, VOID where there is none, [H, W]."""

_GREY_BITS = {2: 3, 4: 15}
"""Bits of a grey value in a PNG that Pillow stretches to 0 .. 255, and the largest value that they hold."""
_THREADS = 8
_SPLITS: tuple[Split, Split] = ("train", "test")


@dataclass(frozen=True)
class MaskFiles:
    """Where the masks of all images of a task are, and what their values mean. Images have numbers, from 0."""

    names: tuple[str, ...]
    """Ids of the samples."""
    images: tuple[str, ...] = field(repr=False)
    """Paths of the images."""
    masks: tuple[str, ...] = field(repr=False)
    """Paths of their masks."""
    meaning: MaskAnnotations
    num_classes: int
    digests: tuple[str, ...] = field(default=(), repr=False)
    """Content ids of the masks, once they were `checked`."""
    pixels: npt.NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    """Pixels of each class in each mask [n, C], once they were `checked`."""

    def numbers(self, samples: Sequence[Sample]) -> npt.NDArray[np.int64]:
        """The numbers of these images."""
        places = {name: number for number, name in enumerate(self.names)}
        return np.array([places[sample.id] for sample in samples], dtype=np.int64)

    def read_mask(self, number: int) -> ClassMap:
        """The true classes of an image, int32 [H, W], whatever the size of the image is."""
        path = self.masks[number]
        return class_map(read_values(path), self.meaning, self.num_classes, where=path)

    def read(self, number: int) -> ClassMap:
        """The true classes of an image, int32 [H, W].

        Raises BenchError, with the file, where it is no mask, has another size than its image, or holds a value that is
        neither a class nor void.
        """
        found, image = self.read_mask(number), self.images[number]
        _check_size(self.masks[number], (found.shape[0], found.shape[1]), image, image_size(image))
        return found

    def read_all(self, numbers: Iterable[int], side: int | None = None) -> Iterator[ClassMap]:
        """The maps of several images in their order, `side` pixels high and wide by `nearest` where given."""
        for found in _in_order(self.read, numbers):
            yield found if side is None else nearest(found, (side, side))


def checked(files: MaskFiles, cache: Path, progress: Callable[[int, int], None]) -> MaskFiles:
    """The same, with content ids and pixels of all masks. Masks are read once, and that is remembered in the cache.

    Raises BenchError for the first mask that is unfit (`MaskFiles.read`). An image that cannot be read is left to
    whoever decodes it.
    """
    ids = content_ids(cache, files.masks)
    for path in files.masks:
        if path not in ids:
            read_values(path)  # says why
    digests = tuple(ids.get(path, "") for path in files.masks)
    known = [digests, files.meaning.void, files.meaning.zero, files.num_classes]
    place = cache / "masks" / f"{digest(known)[:32]}.npy"
    facts = _remembered(place, (len(digests), files.num_classes + 2))
    if facts is None:
        facts = np.stack(list(_facts(files, progress)))
        with atomic_write(place) as temporary, temporary.open("wb") as file:
            np.save(file, facts)
    for number, (image, size) in enumerate(zip(files.images, facts[:, :2].tolist(), strict=True)):
        _check_size(files.masks[number], (size[0], size[1]), image, _size_of(image))
    return replace(files, digests=digests, pixels=facts[:, 2:])


def _facts(files: MaskFiles, progress: Callable[[int, int], None]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield height, width and the pixels of each class, for every mask."""
    for number, found in enumerate(_in_order(files.read_mask, range(len(files.masks)))):
        yield np.array([*found.shape, *np.bincount(found.ravel() + 1, minlength=files.num_classes + 1)[1:]])
        progress(number + 1, len(files.masks))


def _remembered(place: Path, shape: tuple[int, int]) -> npt.NDArray[np.int64] | None:
    """The facts in the cache; None where there are none of this shape."""
    try:
        with open_input(place, CACHED) as file:
            facts: npt.NDArray[np.int64] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, BenchError):
        return None  # not there, or damaged: masks are read anew
    return facts if facts.shape == shape and facts.dtype == np.int64 else None


def _size_of(image: str) -> tuple[int, int] | None:
    try:
        return image_size(image)
    except DecodeError:
        return None


def _check_size(mask: str, size: tuple[int, int], image: str, expected: tuple[int, int] | None) -> None:
    """Raise BenchError where a mask has another (height, width) than its image, where that is known."""
    if expected is not None and size != expected:
        what = f"is {size[1]}x{size[0]} pixels, its image {image} {expected[1]}x{expected[0]}"
        raise BenchError(what, where=mask, fix="give the mask of this image, in its size")


def _in_order(read: Callable[[int], ClassMap], numbers: Iterable[int]) -> Iterator[ClassMap]:
    """What `read` gives of each, a few ahead in threads: Pillow decodes outside of Python's lock."""
    wanted = list(numbers)
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(wanted), _THREADS):
            yield from pool.map(read, wanted[start : start + _THREADS])


def read_values(path: str) -> npt.NDArray[np.int32]:
    """The values of a mask as the file holds them, int32 [H, W]. Raises BenchError for anything but a PNG of one
    channel."""
    from PIL import Image

    with as_decode_errors(path), Image.open(path) as image:
        if getattr(image, "is_animated", False):
            raise BenchError("holds more than one picture", where=path, fix="give one mask for each image")
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
    first = meaning.first
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
    chosen: npt.NDArray[np.int32] = values[rows.astype(np.int64)[:, None], columns.astype(np.int64)]
    return chosen


def load_mask_splits(card: TaskCard, where: ListOptions, *, test_only: bool = False) -> Splits:
    """The samples of both splits, with a MaskFiles as their facts; a sample's id is the path of its image in the data.

    Raises BenchError naming the file for a folder, an image or a mask that is not there, a list that does not fit, and
    an image in both splits. Masks are not opened: `checked` does that.
    """
    meaning, classes = card.masks, card.num_classes
    if meaning is None or classes is None:
        raise ValueError(f"task {card.name} has no masks")
    root = _root(card, meaning, where.data)
    masks: dict[str, str] = {}
    images: dict[str, str] = {}
    beside_whom: dict[str, str] = {}
    found: dict[Split, list[Sample]] = {"train": [], "test": []}
    for split in _SPLITS[1:] if test_only else _SPLITS:
        folder, beside = (getattr(folders, split) for folders in (meaning.images, meaning.masks))
        for name, row in _names(card, root, folder, where, split):
            image = resolve(f"{folder}/{name}", root, absolute_allowed=False, where=row)
            mask = resolve(f"{beside}/{name.rpartition('.')[0]}.png", root, absolute_allowed=False, where=row)
            if not os.path.lexists(mask):
                raise BenchError(f"no mask of image {image}", where=mask, fix="restore it, or remove the image")
            identity = f"{folder}/{name}"
            if identity in images:
                both = any(sample.id == identity for sample in found["train"]) and split == "test"
                what = f"'{identity}' is {'in both splits' if both else 'listed twice'}"
                raise BenchError(what, where=row, fix="a test image must not be trained on: remove one")
            if mask in beside_whom:
                what = f"is the mask of two images, {beside_whom[mask]} and {name}"
                raise BenchError(what, where=mask, fix="remove one of the images, or give it another name")
            beside_whom[mask] = name
            images[identity], masks[identity] = image, mask
            found[split].append(Sample(identity, image, 0))
    files = MaskFiles(tuple(images), tuple(images.values()), tuple(masks.values()), meaning, classes)
    return Splits(found["train"], found["test"], _class_names(card, classes), facts=files)


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
    lists = card.annotations.train if split == "train" else card.annotations.test
    listed = given or next((root / name for name in lists if (root / name).is_file()), None)
    if lists and listed is None:
        fix = f"restore it, or give --{'train' if split == 'train' else 'val'} LIST"
        raise BenchError(f"no list of the {split} images", where=str(root / lists[0]), fix=fix)
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


def _images(folder: Path) -> list[str]:
    """Paths of all images below a folder, sorted; hidden ones are passed over."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _class_names(card: TaskCard, num_classes: int) -> tuple[str, ...]:
    return card.classes if isinstance(card.classes, tuple) else tuple(map(str, range(num_classes)))
