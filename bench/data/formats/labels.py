"""Names of classes in annotation files and folders -> labels in the card's order."""

from __future__ import annotations

import re

from bench.cards.load import TaskCard
from bench.core.errors import BenchError, nearest


class ClassNumbers:
    """The labels of a card's classes, by name: case, brackets, and underscores for spaces are passed over."""

    def __init__(self, card: TaskCard) -> None:
        if not isinstance(card.classes, tuple):
            raise BenchError(
                f"annotations in the format {card.format} name their classes, and card {card.name} does not",
                fix="state `classes: [NAME, ...]` in label order in the card",
            )
        self._card, self._names = card.name, card.classes
        self._numbers = {plain(name): number for number, name in enumerate(card.classes)}
        if card.format == "imagenet":  # named as in LOC_synset_mapping.txt: WordNet id, then words
            self._numbers |= {name.split()[0]: number for number, name in enumerate(card.classes)}

    def __call__(self, name: str, *, where: str) -> int:
        """The label of a class. Raises BenchError with the nearest names for one that the card does not have."""
        number = self._numbers.get(plain(name))
        if number is None:
            fix = nearest(name, self._names)
            if fix.startswith("known: "):
                fix = f"`bench tasks {self._card} --json` lists the classes"
            raise BenchError(f"'{name[:80]}' is not a class of card {self._card}", where=where, fix=fix)
        return number


def plain(name: str) -> str:
    """A class name without what spellings differ in."""
    return " ".join(re.sub(r"[\[\]]", "", name).replace("_", " ").casefold().split())
