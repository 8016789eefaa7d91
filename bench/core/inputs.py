"""Files that others wrote: opened without waiting, known to be regular and of bounded size, parsed without surprises.

A pipe, a terminal or a device may never answer or never end, a file may be larger than the memory, and a few lines of
YAML can stand for billions. Whoever reads what a user or a stranger gave does it through here.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import Any, BinaryIO

import yaml

from bench.core.errors import BenchError

_MIB, _GIB = 1 << 20, 1 << 30
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MOST_NODES = 1_000_000
_LONGEST_NUMBER = 400
"""Letters of a number, truth value or date in YAML: the digits of the largest float, and a sign."""


@dataclass(frozen=True)
class FileKind:
    """What a file is, in an error's words, and how large one of its kind can be."""

    name: str
    most_bytes: int
    fix: str = "give a regular file"


RECORD = FileKind("record", 64 * _MIB, "move it away or run again")
PREDICTIONS = FileKind("file of predictions", 16 * _GIB, "move it away or run again")
BASELINE = FileKind("baseline", 256 * _MIB, "move it away, and write one with `bench check --update`")
CURVE = FileKind("score curve", 64 * _MIB, "move it away, and run again")
KEY_FRAME = FileKind("key frame", 64 * _MIB, "remove the folder or run again")
LOG = FileKind("log", 256 * _MIB, "move it away, and start anew")
ANNOTATIONS = FileKind("annotation file", 4 * _GIB, "give the file itself: what a pipe gives has to be saved first")
CLASS_NAMES = FileKind(
    "file of class names", 16 * _MIB, "one name a line in label order, or JSON or YAML with a list or `label: name`"
)
CARD = FileKind("card", 16 * _MIB)
PRESET = FileKind("preset", 16 * _MIB)
CONFIGURATION = FileKind("configuration", 64 * _MIB, "download the folder again")
WEIGHTS = FileKind("file of weights", 1024 * _GIB, "give the file itself, as it was downloaded")
ESTIMATE = FileKind("estimate", 16 * _MIB)
VIDEO = FileKind("video", 1024 * _GIB)
ANIMATION = FileKind("animated picture", 4 * _GIB)
REPORT = FileKind("report", 4 * _GIB, "name another file")
PUBLISHED = FileKind("table of published scores", 64 * _MIB)
CODE = FileKind("module", 64 * _MIB)
CACHED = FileKind("file of the cache", _GIB, "remove it: it is made anew")


def open_input(path: str | os.PathLike[str], kind: FileKind) -> BinaryIO:
    """The file, open for reading. Raises BenchError for a folder, pipe, socket or device and for more bytes than its
    kind can have, without waiting for any; OSError where it is missing or not to be read."""
    # Before it is opened too: a device may act on that alone.
    _check(path, kind, os.stat(path))  # noqa: PTH116 - a Path for each of a million files costs more than the call
    descriptor = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    try:
        _check(path, kind, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_input(path: str | os.PathLike[str], kind: FileKind) -> None:
    """Raise as `open_input`: for files that a library opens by their name."""
    open_input(path, kind).close()


def read_bytes(path: str | os.PathLike[str], kind: FileKind, first: int | None = None) -> bytes:
    """All of a file, or its `first` bytes. Raises as `open_input`, also for more bytes than the file says to have, as
    those of /proc do."""
    with open_input(path, kind) as file:
        content: bytes | None = file.read(kind.most_bytes + 1 if first is None else first)
    if content is None:  # it would have to be waited for
        raise BenchError("gives nothing to read", where=os.fspath(path), fix=kind.fix)
    if len(content) > kind.most_bytes:
        raise _too_large(path, kind)
    return content


def read_text(path: str | os.PathLike[str], kind: FileKind, encoding: str = "utf-8") -> str:
    """All of a text file, its lines ending in line feeds. Raises as `open_input`, and UnicodeDecodeError."""
    return read_bytes(path, kind).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | os.PathLike[str], kind: FileKind) -> Any:
    """The content of a JSON file. Raises as `read_text`, and BenchError naming the line where it is no JSON."""
    try:
        return json.loads(read_text(path, kind, "utf-8-sig"))
    except json.JSONDecodeError as error:
        what = f"not a readable {kind.name}: not readable as JSON ({error.msg})"
        row = f":{error.lineno}" if error.lineno > 1 else ""
        raise BenchError(what, where=f"{os.fspath(path)}{row}", fix=kind.fix) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of thousands of digits, lists without end
        what = f"not a readable {kind.name}: not readable as JSON ({error})"
        raise BenchError(what, where=os.fspath(path), fix=kind.fix) from error


def read_yaml(path: str | os.PathLike[str], kind: FileKind) -> Any:
    """The content of a YAML file. Raises as `read_text`, and BenchError naming the line where it is no YAML."""
    try:
        return parse_yaml(read_text(path, kind))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date such as 2026-99-99
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        what = f"not a YAML file ({error})" if isinstance(error, _ExcessError) else "not a YAML file"
        raise BenchError(what, where=f"{os.fspath(path)}{line}", fix=f"mend the {kind.name}") from error


class _ExcessError(yaml.YAMLError):
    """YAML text that stands for more than it is long."""


def parse_yaml(text: str) -> Any:
    """The content of YAML text: plain values, never code. Raises yaml.YAMLError, ValueError or RecursionError, also for
    text whose aliases stand for more than a million values, or for themselves."""
    # The same safe loader in C where PyYAML was built with it: cards with a thousand classes are slow without.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _nodes(node, {}) > _MOST_NODES:
            raise _ExcessError(f"its aliases stand for more than {_MOST_NODES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for with all its aliases written out; `known`: those of nodes seen before."""
    if isinstance(node, yaml.ScalarNode):
        if len(node.value) > _LONGEST_NUMBER and not node.tag.endswith(":str"):
            raise _ExcessError("a number of too many digits")
        return 1
    if id(node) not in known:
        known[id(node)] = _MOST_NODES + 1  # of an alias for what it is in itself
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_nodes(part, known) for part in parts)
    return known[id(node)]


def _check(path: str | os.PathLike[str], kind: FileKind, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "something else")
        raise BenchError(f"is {what}, not a regular file", where=os.fspath(path), fix=kind.fix)
    if status.st_size > kind.most_bytes:
        raise _too_large(path, kind)


def _too_large(path: str | os.PathLike[str], kind: FileKind) -> BenchError:
    units = (("GiB", _GIB), ("MiB", _MIB), ("bytes", 1))
    most = next(f"{kind.most_bytes // size} {unit}" for unit, size in units if kind.most_bytes >= size)
    return BenchError(f"larger than any {kind.name}: {most} at most", where=os.fspath(path), fix=kind.fix)
