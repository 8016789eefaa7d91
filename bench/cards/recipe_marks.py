"""What the name of a protocol says of a recipe: settings that are not as its card has them, recipes of a user's own."""

from __future__ import annotations

import json
from typing import Any

from bench.cards.load import ProbeCard, load_probe_card, probe_names
from bench.core.hashing import text_digest


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
    """What tells a recipe of the user's own from a shipped one, whatever name it bears; empty for those."""
    if recipe.name in probe_names() and flat(load_probe_card(recipe.name)) == flat(recipe):
        return ""
    return "#" + text_digest(json.dumps(flat(recipe)))[:6]
