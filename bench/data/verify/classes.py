"""Whether the labels count the classes in the order of the card, and each class has samples to train on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.cards.load import TaskCard
from bench.data.coverage import counts_from_one, untrained_classes
from bench.data.formats import Sample
from bench.data.verify.samples import Parts

_ENOUGH = 0.5
"""Share of the folders with a class's name from which on folders are taken to name classes."""


def class_names(card: TaskCard, splits: Parts) -> tuple[str, ...]:
    """Of the card, else of the annotations; numbers where neither has any, up to the largest training label."""
    if isinstance(card.classes, tuple):
        return card.classes
    known = splits["train"].class_names or {}
    number = card.classes or 1 + max((*known, *(sample.label for sample in splits["train"].samples)), default=0)
    return tuple(known.get(label, str(label)) for label in range(number))


def label_problems(
    card: TaskCard, names: Sequence[str], splits: Parts, counts: Mapping[str, Sequence[int]]
) -> list[str]:
    """What is wrong with the labels of the splits taken together; `counts`: samples of each class, by split."""
    numbered = card.classes is None and not splits["test"].class_names
    from_one = numbered and counts_from_one(part.samples for part in splits.values())
    lines = ["no sample has label 0: the labels seem to count from 1"] if from_one else []
    return lines + untrained_classes(names, counts["train"], counts["test"])


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
