"""How many samples each class has, and whether the labels count the classes in the order of the card."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.annotations import Sample
from bench.cards import TaskCard
from bench.data.samples import Splits

_ENOUGH = 0.5
"""Share of the folders with a class's name from which on folders are taken to name classes."""


def class_names(card: TaskCard, splits: Splits) -> tuple[str, ...]:
    """Of the card; numbers where it states none, up to the largest label of the training split."""
    if isinstance(card.classes, tuple):
        return card.classes
    number = card.classes or 1 + max((sample.label for sample in splits["train"]), default=0)
    return tuple(str(label) for label in range(number))


def count_classes(samples: Sequence[Sample], num_classes: int) -> list[int]:
    """Samples of each class; labels outside 0 to num_classes - 1 are left out."""
    labels = np.fromiter((sample.label for sample in samples), np.int64, len(samples))
    inside = labels[(labels >= 0) & (labels < num_classes)]
    return [int(count) for count in np.bincount(inside, minlength=num_classes)]


def order_problem(samples: Sequence[Sample], card: TaskCard) -> str | None:
    """What contradicts the card's order of classes; None where nothing does.

    Where the files lie in folders named after classes, as usual, a folder's name tells the label by the card, and the
    annotation tells it too.
    """
    if not isinstance(card.classes, tuple):
        return None
    label_of = {_plain(name): label for label, name in enumerate(card.classes)}
    # ImageNet's folders have the first word of a name such as `n01440764 tench, Tinca tinca`.
    label_of |= {name.split()[0]: label for label, name in enumerate(card.classes) if re.match(r"n\d{8}\b", name)}
    folders = Counter((Path(sample.path).parent.name, sample.label) for sample in samples)
    names = {folder for folder, _ in folders}
    known = {folder for folder in names if _plain(folder) in label_of}
    if not known or len(known) < _ENOUGH * len(names):
        return None
    wrong = {key: count for key, count in folders.items() if key[0] in known and label_of[_plain(key[0])] != key[1]}
    if not wrong:
        return None
    (folder, label), _ = max(wrong.items(), key=lambda item: item[1])
    by_card = label_of[_plain(folder)]
    return (
        f"{sum(wrong.values())} samples have another label than the card's order of classes gives their folder, "
        f"such as '{folder}': {label}, by the card {by_card}"
    )


def _plain(name: str) -> str:
    """A class name without what spellings differ in: case, spaces, punctuation."""
    return re.sub(r"[\W_]+", "", name.lower())
