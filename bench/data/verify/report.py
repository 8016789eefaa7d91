"""What `bench data verify` found, for programs: a schema with a version."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from bench.core.types import Split
from bench.data.verify.checks import Fault

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Part):
    """Least, middle and largest of many numbers."""

    min: float
    median: float
    max: float


class Problem(_Part):
    """One sample that cannot be used."""

    split: Split
    sample: str
    """Its id."""
    path: str
    kind: Fault | Literal["label"]
    """`label`: outside the classes."""
    reason: str


class Member(_Part):
    """One of several samples that show the same."""

    split: Split
    sample: str
    label: int


class Duplicates(_Part):
    """Samples of equal content."""

    members: list[Member]
    across: bool
    """Whether they are of both splits: then the test split is partly trained on."""
    labels_differ: bool


class SplitReport(_Part):
    """One split. Frames, rates and sizes are of the readable samples whose files tell them."""

    samples: int
    official: int | None
    """Samples that the card says there are."""
    readable: int
    missing: int
    empty: int
    unreadable: int
    bytes: int
    """Of the files, each counted once."""
    frames: Range | None
    fps: Range | None
    short_side: Range | None
    """Pixels."""
    class_counts: list[int]
    """Samples of each class, in label order."""
    classes_without: list[str]


class Report(_Part):
    """Everything that a check of a task's data found."""

    schema_version: Literal[1] = 1
    version: str
    """Of the suite."""
    task: str
    data: str | None
    """The folder."""
    full: bool
    """Whether every frame was decoded; else headers and ends of files were read."""
    class_names: list[str]
    splits: dict[Split, SplitReport]
    problems: list[Problem]
    duplicates: list[Duplicates]
    misleading: list[str]
    """What would mislead a score; a sound data set has nothing here."""
    remarks: list[str]
    """What is worth knowing, and harmless."""
