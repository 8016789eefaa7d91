"""The manifest of prepared data: one row a sample as parquet, and the same as lists in the official format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.core.errors import BenchError
from bench.core.files import atomic_write, lines_of
from bench.core.inputs import CONFIGURATION, read_bytes
from bench.core.types import Split
from bench.data.formats.lists import DELIMITERS, find_delimiter, unquoted

if TYPE_CHECKING:
    import pandas as pd

_INTEGERS = ("label", "frames", "height", "width", "bytes")
_FLOATS = ("fps", "duration_s", "start_s", "end_s")
_DELIMITERS = (" ", *(d for d in DELIMITERS if d != " "))  # the official code reads spaces


@dataclass(frozen=True)
class Row:
    """One sample. What is not known is None."""

    id: str
    path: str
    """Relative to the folder of the files, with forward slashes."""
    label: int
    split: Split
    frames: int | None = None
    fps: float | None = None
    height: int | None = None
    """Pixels, upright."""
    width: int | None = None
    duration_s: float | None = None
    hash: str | None = None
    """Content id of the file at `path`, as the feature cache knows it: SHA-256 of the bytes, 32 hex digits."""
    bytes: int | None = None
    source: str = ""
    """Path in the data folder that it was made from."""
    start_s: float | None = None
    """The sample begins at this second of `source`; a re-encoded file holds nothing else."""
    end_s: float | None = None
    problem: str | None = None
    """Why the file could not be read or made."""


def write_manifest(path: Path, rows: Sequence[Row]) -> None:
    """Write `rows` as parquet, in their order; equal rows give equal bytes."""
    with atomic_write(path) as temporary:
        to_frame(rows).to_parquet(temporary, index=False)


def to_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A table with the fields of `Row` as columns, whatever is missing."""
    import pandas as pd

    frame = pd.DataFrame([asdict(row) for row in rows], columns=list(Row.__dataclass_fields__))
    kinds = {**dict.fromkeys(_INTEGERS, "Int64"), **dict.fromkeys(_FLOATS, "float64")}
    typed: pd.DataFrame = frame.astype({name: kinds.get(name, "string") for name in frame.columns})
    return typed


def write_list(path: Path, rows: Sequence[Row]) -> None:
    """Write `path label` lines that read back as `rows`: with the first delimiter that no path holds, a space if
    possible. Raises BenchError where there is none, and for names with line breaks, blanks at an end, or in quotes."""
    odd = next((row.path for row in rows if lines_of(unquoted(row.path)) != [(1, row.path)]), None)
    if odd is not None:
        raise BenchError(f"a list cannot hold the name {odd!r}", where=str(path), fix="rename the file")
    for delimiter in _DELIMITERS:
        lines = [f"{row.path}{delimiter}{row.label}" for row in rows]
        if not any(delimiter in row.path for row in rows) and find_delimiter(lines) == delimiter:
            with atomic_write(path) as temporary:
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            return
    raise BenchError("the names hold every delimiter that a list can have", where=str(path), fix="rename the files")


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
    """Version of the suite."""
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
    """Samples without a readable source, among `samples`."""
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
