"""Tables of measured promises, in Markdown; a row that misses its promise by over two standard errors is marked."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np


class Table:
    """A Markdown table, printed row by row; counts broken promises."""

    broken = 0

    def __init__(self, *columns: str) -> None:
        print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)

    def row(self, *cells: object, kept: bool) -> None:
        """One row; `kept` is whether its promise is."""
        Table.broken += not kept
        shown = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
        print("| " + " | ".join(shown) + (" |" if kept else " | BROKEN"), flush=True)


def percent(found: Sequence[bool]) -> float:
    """Share of True, in percent."""
    return 100 * float(np.mean(found))


def chance(repeats: int, share: float) -> float:
    """Two standard errors, in percent, of a share that is measured in so many simulations."""
    return 100 * 2 * sqrt(share * (1 - share) / repeats)


def covers(measured: float, repeats: int) -> bool:
    """Within 95 +- 1.5 %."""
    return abs(measured - 95) <= 1.5 + chance(repeats, 0.95)


def few(measured: float, repeats: int) -> bool:
    """At most 5 %."""
    return measured <= 5 + chance(repeats, 0.05)
