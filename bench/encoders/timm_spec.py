"""The grammar of `timm:NAME[+special][+time][+untrained][@FILE]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import BenchError, nearest

OPTIONS = ("special", "time", "untrained")
"""In the order in which a row's name has them."""


@dataclass(frozen=True)
class TimmSpec:
    """What follows `timm:` in a model spec, taken apart."""

    model: str
    """With the tag of its weights where one was given."""
    special: bool = False
    time: bool = False
    untrained: bool = False
    file: Path | None = None

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"model timm:{self.model}"

    @property
    def architecture(self) -> str:
        """The model's name without the tag of weights."""
        return self.model.partition(".")[0]

    def row_name(self, tag: str | None) -> str:
        """Name on the leaderboard: a spec again, with the tag of the hub's weights and a file without its folder."""
        hub = not self.untrained and self.file is None
        model = f"{self.architecture}.{tag}" if hub and tag else self.model
        options = "".join(f"+{option}" for option in OPTIONS if getattr(self, option))
        return f"timm:{model}{options}" + (f"@{self.file.name}" if self.file else "")


def parse(argument: str) -> TimmSpec:
    """Take apart what follows `timm:`. Raises BenchError for an unknown option or a contradiction."""
    where = f"model timm:{argument}"
    before, at, file = argument.partition("@")
    model, *options = before.split("+")
    for option in options:
        if option not in OPTIONS:
            raise BenchError(f"unknown option '+{option}'", where=where, fix=nearest(option, OPTIONS))
    if len(set(options)) < len(options):
        raise BenchError("an option is given twice", where=where)
    if at and not file:
        raise BenchError("no file after the @", where=where, fix="say timm:NAME@path/to/weights.safetensors")
    if file and "untrained" in options:
        raise BenchError("+untrained and a file of weights contradict each other", where=where, fix="drop one")
    return TimmSpec(
        model=model,
        special="special" in options,
        time="time" in options,
        untrained="untrained" in options,
        file=Path(file).expanduser() if file else None,
    )
