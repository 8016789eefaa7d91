"""Problems a user can solve: one line that says what, where and what to do."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import Literal

_WORDS: dict[Literal["files", "memory"], tuple[str, ...]] = {
    "files": ("too many open files",),
    "memory": (
        "can't allocate memory",
        "cannot allocate memory",
        "failed to map segment",
        "bad_alloc",
        "out of memory",
        "outofmemoryerror",
        "memoryerror",
    ),
}
"""What libraries call it, in small letters, also in the traceback of a process."""
_NUMBERS: dict[int, Literal["files", "memory"]] = {
    errno.EMFILE: "files",
    errno.ENFILE: "files",
    errno.ENOMEM: "memory",
}


class BenchError(Exception):
    """A problem with the user's input or machine. The command line prints it in one line and exits with code 2."""

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            parts.append(self.fix)
        return " ".join(" - ".join(parts).split())


def lack_of(error: BaseException | None) -> Literal["files", "memory"] | None:
    """What the machine has no more of, where an error of any library says so, or a BenchError was raised from one:
    open files or memory."""
    while isinstance(error, BenchError):
        error = error.__cause__
    if isinstance(error, OSError) and error.errno is not None:
        return _NUMBERS.get(error.errno)
    said = f"{'' if error is None else type(error).__name__}: {error}".lower()
    return next((kind for kind, words in _WORDS.items() if any(word in said for word in words)), None)


def nearest(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A hint for a misspelt name: the nearest known names, or else all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    return "known: " + ", ".join(names)
