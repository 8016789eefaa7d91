"""Contamination: whether an encoder was pretrained on the dataset that it is tested on, and whether it saw labels.

What is known is the statement `pretrained_on` of the catalog's cards. Encoders without a card carry no mark: nothing is
known of them, and nothing is claimed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from bench.records.summary import Summary

_KINETICS = r"kinetics(?!-?\d)|kinetics-?710|k710"
"""Kinetics-710 is the union of the three others; Kinetics without a number may be any."""
_DATASETS = {
    "digits": r"moving digits",
    "ssv2": r"ssv2|something-something[ -]v2",
    "k400": rf"{_KINETICS}|kinetics-?400|k400",
    "k600": rf"{_KINETICS}|kinetics-?600|k600",
    "k700": rf"{_KINETICS}|kinetics-?700|k700",
    "in1k": r"imagenet|in1k",
    "places205": r"places-?205",
    "inat21": r"inaturalist|inat-?21",
    "diving48": r"diving-?48",
    "jester": r"jester",
    "coin": r"coin",
    "ucf101": r"ucf-?101",
    "hmdb51": r"hmdb-?51",
    "ava": r"ava",
    "ek100": r"epic-kitchens|ek-?100",
}
"""How statements name the datasets of tasks, in small letters."""


@dataclass(frozen=True)
class Exposure:
    """A statement that an encoder's pretraining included the dataset of a task."""

    labels: Literal["unlabelled", "labelled", "labels not stated"]
    statement: str
    """What the card says."""

    @property
    def note(self) -> str:
        """The mark in words."""
        kind = {"unlabelled": "without its labels", "labelled": "with its labels"}.get(self.labels, self.labels)
        return f"pretrained on this dataset, {kind}: {self.statement}"


def exposure(summary: Summary) -> Exposure | None:
    """What the card of the record's encoder says of the record's dataset; None without a card or a word on it."""
    if summary.dataset not in _DATASETS:
        return None
    by_name, by_file = _statements()
    statement = by_name.get(summary.model) or by_name.get(summary.spec) or by_file.get(summary.weights_file, "")
    return stated(statement, summary.dataset)


@cache
def stated(pretrained_on: str, dataset: str) -> Exposure | None:
    """Whether a statement of pretraining data names a dataset. `dataset` is as in `Summary.dataset`."""
    pattern = _DATASETS.get(dataset)
    text = pretrained_on.lower()
    if pattern is None or not re.search(rf"\b(?:{pattern})\b", text):
        return None
    if re.search(r"\b(unlabell?ed|without labels)\b", text):
        return Exposure("unlabelled", pretrained_on)
    supervised = re.search(r"\b(labell?ed|labels|supervised|fine-?tuned)\b", text)
    return Exposure("labelled" if supervised else "labels not stated", pretrained_on)


@cache
def _statements() -> tuple[dict[str, str], dict[str, str]]:
    """What the cards of the catalog state, by the encoder's name and by the name of its official file."""
    from bench.encoders.catalog import model_cards

    cards = model_cards()
    files = {name: card.pretrained_on for card in cards for name in (card.file, (card.url or "").rpartition("/")[2])}
    return {card.name: card.pretrained_on for card in cards}, {name: text for name, text in files.items() if name}
