"""Dataset cards for people: the rows of `bench tasks`, and one card in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.cards.load import ClipProtocol, Optimisation, Reference, TaskCard

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
