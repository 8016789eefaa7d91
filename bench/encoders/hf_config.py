"""Configuration files of transformers' models, as data: checked before anything is made of the sizes they state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.inputs import CONFIGURATION, read_json

_LARGEST = 10**6
"""No size, number of classes or position of a video encoder is larger; transformers makes a name for each class."""
_LARGEST_RATIO = 1000
_FIX = "give the configuration that its authors published"


def read_configuration(path: Path) -> dict[str, Any]:
    """The fields of a JSON file. Raises BenchError for other content, and for a number that is none or absurd."""
    content = read_json(path, CONFIGURATION)
    if not isinstance(content, dict):
        raise BenchError(f"holds a {type(content).__name__}, not an object", where=str(path), fix=_FIX)
    for name, number in _numbers("", content):
        if not abs(number) <= _LARGEST:  # not a number is no less
            raise BenchError(f"{name[:60]} is no number up to {_LARGEST:,}", where=str(path), fix=_FIX)
    return content


def whole(value: Any, name: str, where: str, least: int = 1) -> int:
    """A size that a configuration states. Raises BenchError where it is no whole number, or less than `least`."""
    if type(value) is not int or value < least:
        raise BenchError(f"{name} is {str(value)[:60]}, not a whole number from {least}", where=where, fix=_FIX)
    return value


def ratio(value: Any, name: str, where: str) -> float:
    """A factor that a configuration states. Raises BenchError where it is no number above 0, or is absurd."""
    if type(value) not in (int, float) or not 0 < value <= _LARGEST_RATIO:
        raise BenchError(f"{name} is {str(value)[:60]}, not a number above 0", where=where, fix=_FIX)
    return float(value)


def _numbers(name: str, content: Any) -> Iterator[tuple[str, float]]:
    """Every number in a JSON value, and the names that lead to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _numbers(f"{name}.{key}" if name else str(key), value)
    elif isinstance(content, list):
        for value in content:
            yield from _numbers(name, value)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield name, content
