"""The official list format: one `path label` a line, no header (protocol.md 3.1).

The delimiter is one space, a comma, a tab or `::`, the same in the whole file. The label is what follows the last
delimiter, so that paths with spaces survive.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.annotations import Sample
from bench.errors import BenchError

DELIMITERS = ("::", "\t", ",", " ")


def read_list(path: Path, data: Path | None = None) -> list[Sample]:
    """The samples of a list, in its order. Relative paths are resolved against `data`, else the list's folder.

    Raises BenchError naming file and line for a bad row, a path that leaves the data folder, or a path given twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise BenchError("no such list", where=str(path), fix="check --data, --train and --val") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot be read as text ({error})", where=str(path), fix="give a list in UTF-8") from error
    rows = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise BenchError("the list is empty", where=str(path), fix="one `path label` a line, no header")
    delimiter = find_delimiter([line for _, line in rows])
    root = data if data is not None else path.parent
    samples: dict[str, Sample] = {}  # by path, so that a.mp4 and ./a.mp4 are one
    for number, line in rows:
        sample = _parse(line, delimiter, root, given=data is not None, where=f"{path}:{number}")
        if sample.path in samples:
            raise BenchError(f"'{sample.id}' is listed twice", where=f"{path}:{number}", fix="remove one of the rows")
        samples[sample.path] = sample
    return list(samples.values())


def find_delimiter(lines: list[str]) -> str:
    """The delimiter under which most lines end in a label."""

    def fits(delimiter: str) -> int:
        return sum(_is_label(line.rpartition(delimiter)[2]) for line in lines if delimiter in line)

    return max(DELIMITERS, key=fits)


def _parse(line: str, delimiter: str, root: Path, *, given: bool, where: str) -> Sample:
    name, found, label = line.rpartition(delimiter)
    name, label = name.strip(), label.strip()
    if not found or not name or not _is_label(label):
        shown = line if len(line) <= 60 else line[:57] + "..."
        raise BenchError(
            f"not `path label`: '{shown}'",
            where=where,
            fix="a path, one delimiter, a whole number; no header",
        )
    if int(label) < 0:
        raise BenchError(f"label {label} is negative", where=where, fix="labels count from 0")
    return Sample(id=name, path=resolve(name, root, absolute_allowed=not given, where=where), label=int(label))


def resolve(name: str, root: Path, *, absolute_allowed: bool, where: str) -> str:
    """The path of the file `name` of an annotation file. Raises BenchError where it leaves the folder `root`, or is no
    text that records and lists can hold."""
    if "\0" in name:
        raise BenchError("the path holds a zero byte", where=where, fix="mend the row, or download the file again")
    path = _inside(name, root, absolute_allowed=absolute_allowed, where=where)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        fix = "rename the file or its folder"
        raise BenchError(f"the name of '{shown}' is not in UTF-8", where=where, fix=fix) from error
    return path


def _inside(name: str, root: Path, *, absolute_allowed: bool, where: str) -> str:
    if absolute_allowed and Path(name).is_absolute():
        return os.path.normpath(name)
    base = os.path.abspath(root)  # noqa: PTH100 - does not follow links
    if os.sep == "/" and base != "/" and name[:1] not in (".", "/") and "/." not in name and "//" not in name:
        return f"{base}/{name.rstrip('/')}"  # as below, for millions of rows
    path = os.path.normpath(Path(base) / name)
    if os.path.commonpath([base, path]) != base:
        raise BenchError(f"'{name}' leaves the data folder {base}", where=where, fix="check --data, or the row")
    return path


def _is_label(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}", text.strip()) is not None
