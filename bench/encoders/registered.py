"""Encoders that installed packages offer by name: entry points of the group `bench.encoders`. None is imported here."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from importlib import metadata

from bench.encoders.catalog import natural_order

GROUP = "bench.encoders"


@dataclass(frozen=True)
class Registered:
    """An entry point, as its package declares it."""

    name: str
    package: str
    """The distribution that declares it, as pip knows it."""
    module: str
    function: str


def registered_encoders(pattern: str = "*") -> list[Registered]:
    """The encoders of installed packages whose names match a wildcard pattern, in natural order."""
    found = [
        Registered(point.name, point.dist.name if point.dist else "unknown", point.module, point.attr)
        for point in metadata.entry_points(group=GROUP)
        if fnmatch.fnmatch(point.name, pattern)
    ]
    return sorted(found, key=lambda encoder: natural_order(encoder.name))
