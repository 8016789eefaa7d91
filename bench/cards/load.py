"""Dataset cards (tasks) and probe cards (recipes): lookup by name or path, and changes by `--set`.

Cards hold facts only. An unknown key, a wrong type or an impossible value is an error that names the field. Their
schemas are in bench.cards.task and bench.cards.probe.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench.cards.probe import BoxReading, MaskReading, Optimisation, ProbeCard, Selection, Setting
from bench.cards.task import (
    ActionAnnotations,
    AnnotationFiles,
    Anticipation,
    BoxAnnotations,
    ClipProtocol,
    Format,
    MaskAnnotations,
    Reference,
    Sampling,
    TaskCard,
    VideoFacts,
)
from bench.core.errors import BenchError, nearest
from bench.core.files import content_folder
from bench.core.hashing import text_digest
from bench.core.inputs import CARD, read_yaml
from bench.core.types import Axis

__all__ = [
    "ActionAnnotations",
    "AnnotationFiles",
    "Anticipation",
    "Axis",
    "BoxAnnotations",
    "BoxReading",
    "Card",
    "ClipProtocol",
    "Format",
    "MaskAnnotations",
    "MaskReading",
    "Optimisation",
    "ProbeCard",
    "Reference",
    "Sampling",
    "Selection",
    "Setting",
    "TaskCard",
    "VideoFacts",
    "load_probe_card",
    "load_recipe",
    "load_task",
    "override",
    "probe_names",
    "replace",
    "task_names",
    "with_clip",
]

Card = TypeVar("Card", TaskCard, ProbeCard)


def task_names() -> list[str]:
    """Names of the shipped dataset cards."""
    return _names("datasets")


def probe_names() -> list[str]:
    """Names of the shipped recipes."""
    return _names("probes")


def load_task(spec: str) -> TaskCard:
    """A task by the name of a shipped card or the path of one's own."""
    return _load(spec, TaskCard, "datasets", "task")


def load_probe_card(spec: str) -> ProbeCard:
    """A recipe by the name of a shipped card or the path of one's own."""
    return _load(spec, ProbeCard, "probes", "probe")


def load_recipe(spec: str, task: TaskCard) -> ProbeCard:
    """A recipe as it is on a task: the optimisation of a shipped one is the task's, where its card states one."""
    card = load_probe_card(spec)
    own = task.recipes.get(card.name) if spec in probe_names() else None
    return card.model_copy(update={"optimisation": own}) if own else card


def with_clip(card: TaskCard, name: str | None) -> TaskCard:
    """The card with the clip protocol `name` of its `clips`; as it is where None. Raises BenchError for other names."""
    if name is None:
        return card
    if name not in card.clips:
        fix = nearest(name, card.clips) if card.clips else "drop --clip; --set clip.KEY=VALUE changes it"
        raise BenchError(f"task {card.name} has no clip protocol '{name}'", where="--clip", fix=fix)
    return card.model_copy(update={"clip": card.clips[name]})


def override(card: Card, prefix: str, settings: dict[str, Any]) -> Card:
    """A copy of `card` with the values of `--set PREFIX.key=value` laid over it, validated again.

    For a task, keys name fields of its `clip` section, or with the prefix `task` its own; for a recipe, fields of the
    recipe or of its sections.
    """
    content = card.model_dump()
    if isinstance(card, ProbeCard) and card.optimisation and {"lr", "weight_decay"} & settings.keys():
        content["optimisation"].pop("sweep", None)  # a grid of the user's own takes the place of listed settings
    homes = {"labels": content} if prefix == "task" else _settable(card, content)
    for key, value in settings.items():
        if key not in homes:
            raise BenchError(f"no setting '{prefix}.{key}'", where="--set", fix=nearest(key, homes))
        many = isinstance(homes[key].get(key), tuple) and isinstance(value, int | float | str)
        homes[key][key] = [value] if many else value
    return _validate(content, type(card), f"--set {prefix}.*")


def replace(card: Card, changes: dict[str, Any], where: str) -> Card:
    """A copy of `card` with other top-level fields, validated again; `where` is what the user gave them with."""
    return _validate({**card.model_dump(), **changes}, type(card), where)


def _settable(card: Card, content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Key -> the part of `content` that holds it, for every key that a user may set."""
    if isinstance(card, TaskCard):
        ending = content["clip"]["anticipation"] or {}
        return {**dict.fromkeys(ending, ending), **dict.fromkeys(ClipProtocol.model_fields, content["clip"])}
    sections = [content[name] for name in ("optimisation", "selection", "boxes", "masks") if content.get(name)]
    homes = {key: section for section in sections for key in section}
    own = ("num_blocks", "num_heads", "train_views", "augmentation", "streaming", "neighbours")
    return {**homes, **dict.fromkeys(own, content)}


def _names(folder: str) -> list[str]:
    return sorted(path.stem for path in content_folder(folder).glob("*.yaml"))


def _load(spec: str, kind: type[Card], folder: str, word: str) -> Card:
    names = _names(folder)
    if spec in names:
        path = content_folder(folder) / f"{spec}.yaml"
    elif spec.endswith((".yaml", ".yml")):
        path = Path(spec).expanduser()
        if not path.exists():
            raise BenchError("no such card", where=spec, fix=f"give a path, or a {word}: {nearest(spec, names)}")
    else:
        raise BenchError(f"unknown {word} '{spec}'", fix=f"{nearest(spec, names)} `bench {word}s` lists them")
    content = read_yaml(path, CARD)
    if not isinstance(content, dict):
        raise BenchError("a card is a mapping of fields", where=str(path), fix="mend the card")
    return _validate(content, kind, str(path))


def _validate(content: dict[str, Any], kind: type[Card], where: str) -> Card:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BenchError(
                f"unknown key '{field}'",
                where=where,
                fix=nearest(str(first["loc"][-1]), _known(kind, first["loc"])),
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        fix = "change it" if where.startswith("--") else "mend the card"
        raise BenchError(f"{field}: {message}" if field else message, where=where, fix=fix) from error


def _known(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location[:-1]:
        if part not in kind.model_fields:  # a position in a list, or a name that the user chose
            continue
        section = kind.model_fields[str(part)].annotation
        options = [section, *getattr(section, "__args__", ())]
        kind = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(kind.model_fields)


def flat(recipe: ProbeCard) -> dict[str, str]:
    """The fields of a recipe that decide scores, sections dissolved."""
    content = recipe.model_dump(mode="json", exclude={"name", "title", "version", "caveat"})
    if recipe.num_blocks == 1:  # as before there was a choice, so that recipes of a user's own keep their mark
        del content["num_blocks"]
    values: dict[str, str] = {}
    for key, value in content.items():
        for inner, setting in value.items() if isinstance(value, dict) else [(key, value)]:
            values[inner] = ",".join(map(_flat_value, setting)) if isinstance(setting, list) else str(setting)
    return values


def _flat_value(value: Any) -> str:
    """A number, or the values of one setting of a listed sweep."""
    if isinstance(value, dict):
        return "/".join(f"{v:g}" for v in value.values() if v is not None)
    return f"{value:g}"


def changed_settings(recipe: ProbeCard, usual: ProbeCard) -> list[str]:
    """`key=value` of every field of a recipe that decides scores and is not as its card says."""
    ours, theirs = flat(recipe), flat(usual)
    changed = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    return [f"{key}={ours.get(key, getattr(recipe, key, None))}" for key in changed]


def own_recipe_mark(recipe: ProbeCard) -> str:
    """Identifies a recipe of the user's own, whatever name it bears; empty for shipped ones."""
    if recipe.name in probe_names() and flat(load_probe_card(recipe.name)) == flat(recipe):
        return ""
    return "#" + text_digest(json.dumps(flat(recipe)))[:6]
