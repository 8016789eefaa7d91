"""What encoders are called. A model's name is no identity: two pretrainings both leave an `e100.pt`.

Where several weights bear one name, the folders of their files tell them apart, as far as they do; then the digests.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.records.schema import Record
    from bench.records.summary import Summary

Identity = tuple[str, str, str]
"""Name of the model, digest of its weights, input."""
_SUFFIX = re.compile(r"(\.pth\.tar|\.[^./]+)$")
_HUGGING_FACE = "hf:"


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that puts vit2 before vit10."""
    parts = re.split(r"([0-9]+)", text.lower())
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


def given_spec(record: Record) -> str:
    """What `--model` named, without the name that the user gave it."""
    return str(record.arguments.get("model", "")).removeprefix(f"{record.model}=")


def weights_place(record: Record) -> str:
    """The path of the weights as it was given, without its suffix: `runA/e100` of the model `e100`.

    Empty for weights that are no file or folder, and for a row that the user named.
    """
    if record.arguments.get("model") != given_spec(record):
        return ""
    prefix = _HUGGING_FACE if record.model.startswith(_HUGGING_FACE) else ""
    path = posixpath.normpath(given_spec(record).removeprefix(prefix))
    name = record.model.removeprefix(prefix)
    whole = next((known for known in (path, _SUFFIX.sub("", path)) if ends_with(known, name)), "")
    return prefix + whole if whole else ""


def ends_with(place: str, name: str) -> bool:
    """Whether a path is, or ends with, whole parts `name`."""
    return f"/{place}".endswith(f"/{name}")


def is_called(model: str, place: str, name: str) -> bool:
    """Whether a name means this model: it is the model's, or the end of the path of its weights."""
    prefix = _HUGGING_FACE if place.startswith(_HUGGING_FACE) and name.startswith(_HUGGING_FACE) else ""
    return name == model or (bool(place) and ends_with(place.removeprefix(prefix), name.removeprefix(prefix)))


def names(encoders: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], str]:
    """The name of each (model, digest), from (model, digest, place of the weights): the model's where it has one set of
    weights or one place only, else with the fewest folders that no other place ends with. Later places count."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for model, digest, place in encoders:
        places[model][digest] = place
    return {
        (model, digest): _shortest(model, place, [other for other in of_model.values() if other != place])
        for model, of_model in places.items()
        for digest, place in of_model.items()
    }


def _shortest(model: str, place: str, others: Sequence[str]) -> str:
    prefix = _HUGGING_FACE if place.startswith(_HUGGING_FACE) else ""
    parts = place.removeprefix(prefix).split("/")
    if not others or not place:
        return model
    for count in range(model.count("/") + 1, len(parts) + 1):
        name = "/".join(parts[-count:])
        if not any(ends_with(other.removeprefix(prefix), name) for other in others):
            return prefix + name
    return model


def identity(record: Summary) -> Identity:
    """What a row of a leaderboard is."""
    return record.model, record.digests.get("encoder", ""), record.input


def labels(records: Sequence[Summary]) -> dict[Identity, str]:
    """What each encoder is called: its name, with input and weights where the name is there more than once.

    One set of weights that saw several inputs on the same task is several rows; where only the tasks differ
    in their input, it is one.
    """
    inputs: dict[Any, set[str]] = defaultdict(set)
    for record in records:
        inputs[record.model, record.digests.get("encoder", ""), record.task, record.probe].add(record.input)
    split = {(model, digest) for (model, digest, *_), seen in inputs.items() if len(seen) > 1}
    called = names((record.model, record.digests.get("encoder", ""), record.place) for record in records)
    members: dict[str, dict[Any, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model, digest, shape in map(identity, records):
        members[called[model, digest]][model, digest, shape if (model, digest) in split else ""].add(shape)
    return {
        (model, digest, shape): label
        for name, rows in members.items()
        for (model, digest, _), (label, shapes) in _told_apart(name, rows).items()
        for shape in shapes
    }


def _told_apart(name: str, rows: Mapping[Any, set[str]]) -> dict[Any, tuple[str, set[str]]]:
    """The label of each row of one name, and its inputs."""
    shown = {row: "/".join(sorted(shapes, key=natural)) for row, shapes in rows.items()}
    found = {}
    for row, shapes in rows.items():
        parts = [shown[row]] if len(set(shown.values())) > 1 else []
        parts += [f"weights {row[1][:7]}"] if list(shown.values()).count(shown[row]) > 1 else []
        found[row] = (f"{name} ({', '.join(parts)})" if parts else name, shapes)
    return found
