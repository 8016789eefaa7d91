"""Encoders with a name as `bench models` prints them: one row each, the catalog's at the width of the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.encoders.catalog import ModelCard
from bench.encoders.registered import Registered

_GAP = 2
"""Spaces between two columns."""

_LETTERS = {
    "tiny": "Ti",
    "small": "S",
    "base": "B",
    "large": "L",
    "huge": "H",
    "giant": "g",
    "gigantic": "G",
}
"""The papers' letters for the sizes of `bench.encoders.vjepa.SIZES`, transformers all of them."""
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def whereabouts(card: ModelCard) -> str:
    """Where the weights of an encoder are: `built in`, `here`, `to fetch`, or `missing` from the package."""
    if card.is_built_in:
        return "built in"
    if card.weights_path and card.weights_path.is_file():
        return "here"
    return "to fetch" if card.url or card.hf else "missing"


def model_facts(card: ModelCard) -> dict[str, Any]:
    """All that is known of an encoder, for programs: the card, where its weights are, and the path they go to."""
    path = card.weights_path
    facts = {"weights": whereabouts(card), "weights_path": str(path) if path else None}
    return {**card.model_dump(mode="json"), **facts}


def registered_facts(encoder: Registered) -> dict[str, Any]:
    """All that is known of an encoder of an installed package without importing it; `weights` as of the catalog's."""
    return {**asdict(encoder), "weights": "its package's"}


def registered_rows(encoders: Sequence[Registered]) -> list[dict[str, str]]:
    """The table of the encoders that installed packages offer."""
    return [{"model": e.name, "package": e.package, "function": f"{e.module}:{e.function}"} for e in encoders]


def model_rows(cards: Sequence[ModelCard], width: int) -> list[dict[str, str]]:
    """The rows of the table; where `width` columns are too few, facts that belong together share a cell of two lines.

    A raised number stands for a remark.
    """
    long = _long_facts(cards)
    rows = [
        {
            "model": card.name,
            "family": card.family,
            "size": _size(card),
            "input": f"{card.num_frames}x{card.resolution}px",
            "params": _millions(card.parameters_m),
            "pretrained on": _marked(card.pretrained_on, long),
            "licence": _marked(card.licence, long),
            "weights": whereabouts(card),
        }
        for card in cards
    ]
    columns = [[heading, *(row[heading] for row in rows)] for heading in rows[0]]
    needed = sum(max(map(len, column)) for column in columns) + _GAP * (len(columns) - 1)
    return rows if needed <= width else [_stacked(row) for row in rows]


def remarks(cards: Sequence[ModelCard]) -> list[str]:
    """What the table has no room for: the facts that it shortens, and how to get weights."""
    lines = [f"{_raised(mark)} {fact}" for mark, fact in enumerate(_long_facts(cards), 1)]
    if any(whereabouts(card) == "to fetch" for card in cards):
        lines.append("to fetch: `bench fetch NAME` downloads the weights")
    return lines


def _size(card: ModelCard) -> str:
    """`L` for `vit_large` and its variants."""
    if card.size is None:
        return "-"
    word = card.size.removeprefix("vit_").split("_")[0]
    return _LETTERS.get(word, word)


def _millions(count: float) -> str:
    return f"{count:.{0 if count >= 10 else 2}f} M" if count else "0"


def _long_facts(cards: Sequence[ModelCard]) -> list[str]:
    """What the table shortens, in the order of its appearance."""
    facts = dict.fromkeys(fact for card in cards for fact in (card.pretrained_on, card.licence))
    return [fact for fact in facts if _in_short(fact) != fact]


def _marked(fact: str, long: list[str]) -> str:
    return f"{_in_short(fact)}{_raised(long.index(fact) + 1)}" if fact in long else fact


def _raised(mark: int) -> str:
    return str(mark).translate(_SUPERSCRIPTS)


def _in_short(fact: str) -> str:
    """A name without what it is made of, a licence without its exceptions."""
    return re.split(r" \(|, ", fact)[0]


def _stacked(row: dict[str, str]) -> dict[str, str]:
    return {
        "model": row["model"],
        "family\nsize": f"{row['family']}\n{row['size']}",
        "input\nparams": f"{row['input']}\n{row['params']}",
        "pretrained on\nlicence": f"{row['pretrained on']}\n{row['licence']}",
        "weights": row["weights"],
    }
