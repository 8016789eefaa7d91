"""A table as the report's page draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Spot(NamedTuple):
    """One place of a table."""

    text: str
    number: float | None = None
    """To sort by; text is sorted as text where it is None."""
    small: str = ""
    """Printed behind, smaller."""


MISSING = Spot("—")


@dataclass(frozen=True)
class Grid:
    """A table with a caption; the first place of each row names it."""

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[Spot, ...], ...]
    remark: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        return tuple(any(row[index].number is not None for row in self.rows) for index in range(len(self.heading)))


def percent(value: float, low: float | None = None, high: float | None = None) -> Spot:
    """A score of 0 to 100, with its interval."""
    interval = "" if low is None or high is None else f"{low:.1f}–{high:.1f}"
    return Spot(f"{value:.1f}", value, interval)
