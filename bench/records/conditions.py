"""What a probe was trained on and how, beyond what the names of task and protocol say: where that differs, two scores
are not of one measurement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.cards.probe import ProbeCard
from bench.core.errors import BenchError
from bench.core.hashing import digest
from bench.core.types import Count
from bench.records.schema import Record

_IN_THE_PROTOCOL = ("name", "title", "version", "caveat")
"""Fields of a recipe that its protocol names, or that decide no score."""
_SHARED = "test videos have the same bytes as a training video"
_RENEW = "run with those of the baseline, or --update"


class Conditions(BaseModel):
    """The conditions of one score. None: the record does not say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: str | None
    """Digest of ids, labels and contents of the whole training list; for a released probe, the probe's digest."""
    num_train: Count
    """Training samples that could be read."""
    shared: Count | None
    """Test videos that have the bytes of a training video."""
    recipe: dict[str, Any] | None
    """Its settings, as they were used."""
    num_classes: Count
    classes: str
    """Digest of the class names, in order."""


def conditions(record: Record) -> Conditions:
    """The conditions of a record's scores."""
    listed = record.digests.get("train_list")
    shared = shared_videos(record.notes)
    return Conditions(
        training=listed or record.digests.get("probe"),
        num_train=record.num_train,
        shared=shared if shared or listed else None,
        recipe=_settings(record),
        num_classes=record.num_classes,
        classes=digest(record.class_names),
    )


def changed_settings(then: Record, now: Record) -> list[str]:
    """`key value / value` of every setting of the recipe that two records of one protocol do not share, `now` first."""
    return list(_differences(_settings(then) or {}, _settings(now) or {}))


def _settings(record: Record) -> dict[str, Any] | None:
    recipe = record.resolved.get("recipe")
    if not isinstance(recipe, dict):
        return None
    # Older records lack settings that there was no choice of: they are as usual. Recipes of versions with other fields
    # are compared as they are.
    with suppress(ValidationError):
        recipe = ProbeCard.model_validate(recipe).model_dump(mode="json")
    return {key: value for key, value in recipe.items() if key not in _IN_THE_PROTOCOL}


def shared_note(count: int) -> str:
    """How a record says that test videos are among its training videos."""
    return f"{count} {_SHARED}"


def shared_videos(notes: Iterable[str]) -> int:
    """How many test videos are among the training videos, by the notes of a record; 0 where none says so."""
    counts = (note.removesuffix(f" {_SHARED}") for note in notes if note.endswith(f" {_SHARED}"))
    return max((int(count) for count in counts if count.isdecimal()), default=0)


def check_conditions(then: Conditions | None, now: Conditions, *, accept_training_data: bool) -> list[str]:
    """What a reader of a comparison under these conditions must know. `then` is None where nothing is known of it.

    Raises BenchError where they may not be compared: for other settings or classes, and for other training data unless
    they are accepted.
    """
    if then and then.recipe is not None:
        changed = ["none recorded"] if now.recipe is None else list(_differences(then.recipe, now.recipe))
        if changed:
            raise BenchError(f"other settings of the recipe: {', '.join(changed)} in the baseline", fix=_RENEW)
    if then and then.classes != now.classes:
        counts = f"{now.num_classes:,} / {then.num_classes:,} in the baseline"
        raise BenchError(f"other classes, or in another order: {counts}", fix=_RENEW)
    other = list(_other_training(then, now))
    if other and not accept_training_data:
        raise BenchError(f"other training data: {'; '.join(other)}", fix="--accept-training-data, or --update")
    notes = [f"accepted, other training data: {'; '.join(other)}"] if other else []
    if now.shared and then and then.shared == now.shared:
        notes.append(f"{shared_note(now.shared)}, as in the baseline")
    return notes


def _other_training(then: Conditions | None, now: Conditions) -> Iterator[str]:
    """What is known to differ between two probes' training data, in words."""
    if now.shared and (then is None or then.shared is None):
        yield f"{shared_note(now.shared)}, and the baseline does not say whether that was so"
    if then is None:
        return
    if then.training and then.training != now.training:
        yield f"train_list {_short(now.training)} / {_short(then.training)} in the baseline"
    if then.num_train != now.num_train:
        yield f"{now.num_train:,} samples read / {then.num_train:,} in the baseline"
    if then.shared is not None and then.shared != now.shared:
        yield f"{shared_note(now.shared or 0)} / {then.shared} in the baseline"


def _short(digest: str | None) -> str:
    return digest[:8] if digest else "(none)"


def _differences(then: dict[str, Any], now: dict[str, Any], section: str = "") -> Iterator[str]:
    """`key value / value` of every setting that is not the same, those of sections too."""
    for key in sorted({**then, **now}):
        a, b, name = now.get(key), then.get(key), f"{section}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(b, a, f"{name}.")
        elif a != b:
            yield f"{name} {_text(a)} / {_text(b)}"


def _text(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
