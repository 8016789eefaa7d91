"""What runs answered, on disk: one form of answers a module, written beside the record and checked when it is read."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from bench.metrics.metric import FORMS

if TYPE_CHECKING:
    from bench.metrics.metric import Answers
    from bench.records.schema import Record


class AnswerTable(Protocol):
    """A module of this package: `classes`, `boxes`, `ranked`."""

    FILES: tuple[str, ...]
    """Names of the files that it writes."""

    def write(self, folder: Path, answers: Any) -> None:
        """Write the tables of these answers into a folder."""

    def read(self, folder: Path, record: Record) -> Answers:
        """The answers in a folder. Raises BenchError where a table is missing or damaged, or contradicts itself or what
        the record says of classes and failures; its scores are compared by `bench.records.recomputed`."""


def table_of(form: str) -> AnswerTable:
    """The tables of a form of answers."""
    if form not in FORMS:
        raise ValueError(f"no form of answers is called {form}")
    return cast("AnswerTable", importlib.import_module(f"bench.records.tables.{form}"))


def write_answers(folder: Path, answers: Answers) -> None:
    """Write answers of any form into a folder."""
    table_of(answers.form).write(folder, answers)
