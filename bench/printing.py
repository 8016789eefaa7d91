"""What commands print: tables for people, JSON for programs. Wide enough for a terminal, plain where there is none."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.forecast import Forecast


def print_forecasts(forecasts: list[Forecast], as_json: bool) -> None:
    """One row a run."""
    if as_json:
        print(json.dumps([dataclasses.asdict(item) for item in forecasts], indent=1))
        return
    from bench.features.space import human_bytes

    rows = [
        {
            "task": item.task,
            "model": item.model,
            "samples": f"{item.train_samples:,} + {item.test_samples:,}",
            "unreadable": f"{item.missing_files} missing, {item.empty_files} empty",
            "clips": f"{item.clips:,}",
            "tokens": f"{item.tokens:,}",
            "features": f"{human_bytes(item.feature_bytes)} of {human_bytes(item.free_bytes)} free",
            "time, rough": f"decode {item.decode_s:.0f} s, encode {item.encode_s:.0f} s",
        }
        for item in forecasts
    ]
    show(table(rows))


def print_facts(lines: dict[str, str], facts: dict[str, Any], as_json: bool) -> None:
    """One line for each name and value; `facts` as JSON."""
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        from rich.table import Table
        from rich.text import Text

        made = Table(box=None, pad_edge=False, show_header=False)
        for name, value in lines.items():
            made.add_row(name, Text(value))
        show(made)


def print_list(rows: list[dict[str, Any]], cards: list[dict[str, Any]], as_json: bool) -> None:
    """A table of `rows`; `cards` as JSON."""
    if as_json:
        print(json.dumps(cards, indent=1))
    else:
        show(table(rows))


def table(rows: list[dict[str, Any]]) -> Any:
    """A table of rows that share their columns, the keys."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(rows[0] if rows else ["(none)"]):
        made.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(value)) for value in row.values()))
    return made


def show(renderable: Any) -> None:
    """Print on stdout."""
    from rich.console import Console

    Console(highlight=False).print(renderable)
