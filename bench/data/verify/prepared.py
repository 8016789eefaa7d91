"""`prepared.json`: what prepared data were made from and how, beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.core.errors import BenchError
from bench.core.inputs import CONFIGURATION, read_bytes

FILE = "prepared.json"


class Encoding(BaseModel):
    """How the videos were written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_side: int | None
    """Pixels; larger videos were resized to it. None: the sizes are the sources'."""
    gop: int
    """Frames from one key frame to the next, at most."""
    codec: Literal["libx264"] = "libx264"
    crf: int
    preset: str
    tune: str
    b_frames: int
    pixels: Literal["yuv420p"] = "yuv420p"
    resize: str
    """swscale's interpolation."""
    pyav: str
    """Its version, which decides the versions of FFmpeg and x264."""


class Prepared(BaseModel):
    """What a folder of prepared data holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    version: str
    """Of the suite."""
    task: str
    source: str
    """The data folder that it was made from."""
    source_digest: str
    """SHA-256 over id, label, split, times and content hash of every sample's source."""
    encoding: Encoding | None
    """None: nothing was re-encoded, and the paths of the manifest start at `source`."""
    lists: dict[Literal["train", "test"], str]
    """Lists in the official format, by split; none where parts of videos were not cut out."""
    samples: int
    failed: int
    """Of these, samples without a readable source."""
    notes: list[str]


def read_prepared(folder: Path) -> Prepared | None:
    """What the folder says of itself; None where it says nothing that can be read."""
    try:
        return Prepared.model_validate_json(read_bytes(folder / FILE, CONFIGURATION))
    except (OSError, BenchError, ValidationError):
        return None


def notes_on(folder: Path | None) -> list[str]:
    """What a reader of a score on the data in `folder` must know: whether the videos were re-encoded, and how."""
    if folder is None or not (folder / FILE).exists():
        return []
    prepared = read_prepared(folder)
    if prepared is None:
        return [f"{FILE} in the data folder cannot be read: the videos may have been re-encoded"]
    encoding = prepared.encoding
    if encoding is None:
        return []
    size = f"short side {encoding.short_side}, " if encoding.short_side else ""
    return [f"videos re-encoded by `bench data prepare`: {size}GOP {encoding.gop}, {encoding.codec} CRF {encoding.crf}"]
