"""What files of this project's pretraining say of themselves.

They have the official layout, and under one more key, `bench`, what shapes do not tell (in safetensors files: JSON text
of that name in the metadata).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from bench.cards.fields import Million
from bench.core.errors import BenchError
from bench.encoders import vjepa

OWN_KEY = "bench"
"""Where files of this project's pretraining say what they hold; the schema is OwnFacts."""

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


def _encoder_fields() -> type[BaseModel]:
    """A strict schema of VitConfig: every number a whole one and at least 1. Fields with defaults may be absent, so
    that files stay readable when VitConfig grows."""
    hints = get_type_hints(vjepa.VitConfig)
    fields: dict[str, Any] = {
        f.name: (
            Annotated[int, Field(ge=1)] if hints[f.name] is int else hints[f.name],
            ... if f.default is dataclasses.MISSING else f.default,
        )
        for f in dataclasses.fields(vjepa.VitConfig)
    }
    return create_model("EncoderFields", __config__=_STRICT, **fields)


class InputFacts(BaseModel):
    """The clips that an encoder was trained on, as far as its architecture does not say."""

    model_config = _STRICT
    frame_step: Million
    """Frames of the source video between two frames of a clip."""


class OwnFacts(BaseModel):
    """The entry `bench` of a file that this project's pretraining wrote. What else it holds concerns training alone."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)
    version: Literal[1]
    encoder: _encoder_fields()  # type: ignore[valid-type]
    input: InputFacts
    objective: str
    preset: str | None = None
    head: Any = None
    """What sat on the encoder in training; pretraining checks it whole."""

    @property
    def config(self) -> vjepa.VitConfig:
        """The encoder's architecture as the file states it."""
        return vjepa.VitConfig(**self.encoder.model_dump())

    @property
    def predictor_depth(self) -> int | None:
        """Blocks of the predictor as the file states them; none where it states no predictor."""
        head = self.head if isinstance(self.head, dict) and self.head.get("kind") == "predictor" else {}
        depth = head.get("depth")
        return depth if isinstance(depth, int) else None


def read_own_facts(path: Path, content: dict[str, Any]) -> OwnFacts | None:
    """What a file of this project's pretraining says of itself, taken out of `content`; None for other files."""
    stated = content.pop(OWN_KEY, None)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(OWN_KEY, "null")
        try:
            stated = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise bad_own_facts(path, f"{OWN_KEY}: the metadata is not JSON") from error
    if stated is None:
        return None
    try:
        return OwnFacts.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part)[:40] for part in (OWN_KEY, *first["loc"]))
        raise bad_own_facts(path, f"{field}: {first['msg']}") from error


def bad_own_facts(path: Path, what: str) -> BenchError:
    """The error of a file whose entry `bench` cannot be believed."""
    fix = "the file is damaged, not written by bench, or written by a newer version of it"
    return BenchError(what, where=str(path), fix=fix)
