"""Key frames that a run on boxes keeps for people: `RUN/key_frames/`, a few drawn frames and their boxes in words.

key_frames.json         the key frames in order, with the people in each
01.jpg, 02.jpg, ...     the same key frames, drawn
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.core.errors import BenchError
from bench.core.inputs import KEY_FRAME, read_bytes

FOLDER = "key_frames"
_LIST = "key_frames.json"
_JPEG = b"\xff\xd8\xff"
"""How every JPEG begins."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Guess(_Part):
    """An action that a probe holds likely."""

    action: str
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    right: bool
    """Whether the annotated person in the same place does it."""


class Person(_Part):
    """A box of a key frame: annotated, looked into, or both."""

    annotated: list[str] | None
    """What the person does, of the evaluated actions; None where nobody is annotated."""
    predicted: list[Guess] | None
    """The likeliest first; None where nobody was looked for."""


class ShownFrame(_Part):
    """A key frame that was drawn."""

    video: str
    timestamp: int
    """Seconds, as the annotations count them."""
    people: list[Person]
    """In the order of the numbers in the picture, from 1."""


class _ShownFrames(_Part):
    frames: list[ShownFrame]


def write_key_frames(run: Path, drawn: Sequence[tuple[ShownFrame, bytes]]) -> None:
    """Write key frames and their JPEGs into the folder of a run that is being made; without any, nothing."""
    if not drawn:
        return
    folder = run / FOLDER
    folder.mkdir()
    listed = _ShownFrames(frames=[frame for frame, _ in drawn])
    (folder / _LIST).write_text(listed.model_dump_json(indent=1), encoding="utf-8")
    for number, (_, picture) in enumerate(drawn, start=1):
        (folder / _name(number)).write_bytes(picture)


def read_key_frames(run: Path) -> list[tuple[ShownFrame, bytes]]:
    """The key frames in the folder of a run, with their JPEGs; none where it has none.

    Raises BenchError where the folder is damaged.
    """
    folder = run / FOLDER
    if not folder.is_dir():
        return []
    try:
        frames = _ShownFrames.model_validate_json(read_bytes(folder / _LIST, KEY_FRAME)).frames
        pictures = [read_bytes(folder / _name(number), KEY_FRAME) for number, _ in enumerate(frames, start=1)]
    except (OSError, ValidationError) as error:
        raise _unreadable(folder, str(error).splitlines()[0]) from error
    odd = next((number for number, picture in enumerate(pictures, start=1) if not picture.startswith(_JPEG)), None)
    if odd:
        raise _unreadable(folder, f"{_name(odd)} is no JPEG")
    return list(zip(frames, pictures, strict=True))


def _name(number: int) -> str:
    return f"{number:02d}.jpg"


def _unreadable(folder: Path, reason: str) -> BenchError:
    return BenchError(f"not readable key frames ({reason})", where=str(folder), fix="remove the folder or run again")
