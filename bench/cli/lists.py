"""What has a name, as `bench models` and `bench tasks` print it: encoders at the width of the terminal, and cards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.cards.load import ClipProtocol, Optimisation, Reference, TaskCard
from bench.encoders.catalog import ModelCard, Registered

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


_CLASSES_SHOWN = 4


def task_rows(cards: Sequence[TaskCard]) -> list[dict[str, Any]]:
    """One row a card."""
    return [
        {
            "task": card.name,
            "axis": card.axis or "-",
            "classes": _count(card.num_classes),
            "train": _count(card.train_size),
            "test": _count(card.test_size),
            "title": card.title,
        }
        for card in cards
    ]


def task_lines(card: TaskCard) -> dict[str, str]:
    """What a card says, name and value; values may have several lines."""
    train, test = ", ".join(card.annotations.train), ", ".join(card.annotations.test)
    lines = {
        "task": f"{card.name}: {card.title}",
        "axis": f"{card.axis}, says {card.axis_source}" if card.axis else "",
        "classes": _classes(card),
        "samples": f"{_count(card.train_size)} training, {_count(card.test_size)} test" if card.test_size else "",
        "media": card.media,
        "metric": card.metric,
        "format": {
            "digits": "brings its own data",
            "boxes": "rows of boxes",
            "actions": "actions in long videos",
            "masks": "images with masks",
        }.get(card.data, card.format),
        "annotations": f"training: {train}\ntest: {test}" if train else "",
        "layout": card.layout.rstrip() or ("" if card.data == "digits" else f"DATA/{card.train}, DATA/{card.test}"),
        "clip": _clip(card.clip),
        **{f"--clip {name}": _clip(clip) for name, clip in card.clips.items()},
        **{f"--probe {name}": _recipe(rules) for name, rules in card.recipes.items()},
        "published": "\n".join(_reference(reference) for reference in card.references),
        "licence": card.licence,
        "homepage": card.homepage,
        "access": card.access,
    }
    return {name: line for name, line in lines.items() if line}


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _classes(card: TaskCard) -> str:
    if card.actions:
        return f"{card.actions.verbs} verbs, {card.actions.nouns} nouns, and the pairs of them that the lists hold"
    if not isinstance(card.classes, tuple):
        return f"{card.classes:,}, named by the annotations" if card.classes else "from your lists"
    shown = "; ".join(card.classes[:_CLASSES_SHOWN])
    more = "; ... (all with --json)" if len(card.classes) > _CLASSES_SHOWN else ""
    return f"{len(card.classes):,}: {shown}{more}"


def _clip(clip: ClipProtocol) -> str:
    own = "the encoder's own"
    # Fields that are as by default say nothing; the two that the encoder may decide are always told.
    pace = {} if clip.fps or clip.duration_s else {"step": clip.step or own}
    told = {"frames": clip.frames or own, **pace} | clip.model_dump(exclude_defaults=True, exclude={"anticipation"})
    if isinstance(clip.layers, dict):
        told["layers"] = " or ".join(f"{_joined(layers)} of {depth}" for depth, layers in clip.layers.items())
    elif clip.layers:
        told["layers"] = _joined(clip.layers)
    words = [f"{name} {value}" for name, value in told.items()]
    if ahead := clip.anticipation:
        words += [
            f"{ahead.seconds:g} s {ahead.anchor}",
            ahead.times,
            f"unseen {ahead.unseen}",
            f"tokens {ahead.tokens}",
        ]
    return ", ".join(words)


def _recipe(rules: Optimisation) -> str:
    """How a recipe is optimised on the task, where the task has its own word on it."""
    settings = rules.settings
    lr, decay = (sorted({getattr(one, name) for one in settings}) for name in ("lr", "weight_decay"))
    words = [f"{len(settings)} settings" if len(settings) > 1 else "1 setting", f"{rules.epochs} epochs"]
    words += [f"batch {rules.batch_size}", f"lr {_range(lr)}", f"weight decay {_range(decay)}"]
    return ", ".join(words)


def _range(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"


def _joined(layers: Sequence[int]) -> str:
    return ",".join(map(str, layers))


def _reference(reference: Reference) -> str:
    ends = f"{reference.probe}, --clip {reference.clip} ({reference.source})"
    return f"{reference.value:.1f} +- {reference.tolerance:g} %  {reference.model}, {ends}"
