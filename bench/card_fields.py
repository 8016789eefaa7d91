"""What all cards are made of: frozen models without unknown keys, and numbers that are numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Strict: YAML's `true` is no rate. An integer is a number all the same.
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
AtLeastOne = Annotated[int, Field(ge=1, strict=True)]


class CardPart(BaseModel):
    """A card, or a section of one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
