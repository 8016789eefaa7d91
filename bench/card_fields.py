"""What all cards are made of: frozen models without unknown keys, and numbers that are numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# Strict: YAML's `true` is no rate. An integer is a number all the same.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, strict=True)]


class CardPart(BaseModel):
    """A card, or a section of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def without_usual(part: CardPart, content: dict[str, Any], *names: str) -> dict[str, Any]:
    """The content without these fields where they are as usual: marks, keys and records of cards that do not use a
    field are those of before there was one."""
    usual = {name: type(part).model_fields[name].default for name in names}
    return {key: value for key, value in content.items() if key not in usual or getattr(part, key) != usual[key]}
