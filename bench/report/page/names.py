"""What the report calls the columns of a board: as short as tells them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from bench.analysis.leaderboard import Column


def column_names(columns: Iterable[Column]) -> Mapping[Column, str]:
    """Task and probe; where several columns share these, the protocol instead, then the metric, the size, the lists."""
    columns = list(columns)
    steps: tuple[Callable[[Column], str], ...] = (
        lambda column: f"{column.task}, {column.probe}",
        lambda column: f"{column.task}, {column.protocol}",
        lambda column: f"{column.task}, {column.protocol}, {column.metric}",
        lambda column: f"{column.task}, {column.protocol}, {column.metric}, n = {column.num_test:,}",
        lambda column: (
            f"{column.task}, {column.protocol}, {column.metric}, lists "
            + "/".join(digest[:7] for digest in column.lists.split())
        ),
    )
    names: dict[Column, str] = {}
    for step in steps:
        made = {column: step(column) for column in columns}
        often = Counter(made.values())
        last = step is steps[-1]
        names.update({c: name for c, name in made.items() if c not in names and (often[name] == 1 or last)})
    return names
