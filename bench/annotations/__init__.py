"""Annotation files -> samples: one reader per format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One labelled video."""

    id: str
    """Stable and unique in its split: the path as the annotation file gives it."""
    path: str
    """Where the file is."""
    label: int
    start_s: float | None = None
    end_s: float | None = None
