"""The terminal: everything that is printed goes through here, and nothing that is printed steers it.

What is no format of its own (`write`) is made `plain`, whoever wrote it: a name, a note, a library's error. Each format
adds what would be markup in it. No control character survives: not those of a terminal (C0, C1), not those that reorder
or hide letters, not other ends of lines. Neither does what a line of a log is taken for by continuous integration:
`::error::` of GitHub, `##[error]` and `##vso[...]` of Azure, `##teamcity[...]`. Where stdout cannot be
written to, the command ends and says so; where stderr cannot, there is nobody to tell.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from bench.core.errors import BenchError

if TYPE_CHECKING:
    from rich.console import Console
import html as standard
import json
import re

_NARROWEST, _WIDEST = 40, 10_000
"""Columns; what COLUMNS says beyond them is no terminal, and tables would fall to pieces or fill the memory."""


def show(renderable: Any, on: Console | None = None) -> None:
    """A table or styled text on stdout, laid out for the console `on`."""
    with _output():
        (on or console()).print(renderable)


def say(line: str = "") -> None:
    """A line on stdout."""
    write(plain(line))


def print_json(content: Any) -> None:
    """JSON on stdout; raises ValueError for what JSON has no number for."""
    write(json_text(content))


def tell(line: str) -> None:
    """A line on stderr, for what is no result: warnings, where files are, what went wrong."""
    _on_stderr(f"bench: {plain(' '.join(line.split()))}")


def show_traceback(text: str) -> None:
    """The lines of a traceback on stderr."""
    for line in text.splitlines():
        _on_stderr(plain(line))


def write(text: str, *, end: str = "\n") -> None:
    """Text as it is on stdout: a format whose names were escaped. Raises BenchError where it cannot be written."""
    with _output():
        print(text, end=end)


def console(*, stderr: bool = False, width_of_pipe: int | None = None) -> Console:
    """A console of the terminal's width, in which no text steers the terminal. `width_of_pipe`: its columns where
    stdout is no terminal and COLUMNS says nothing."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for part in super().render(renderable, options):
                yield part if part.control else Segment(plain(part.text, lines=True), part.style)

        def on_broken_pipe(self) -> None:
            if not self.stderr:
                raise  # it is a reason to end the command
            self.quiet = True
            _abandon(sys.stderr)

    wanted = _columns(os.environ.get("COLUMNS", ""))
    if wanted is None and width_of_pipe and not (sys.stdout and sys.stdout.isatty()):
        wanted = width_of_pipe
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return Plain(stderr=stderr, width=wanted, markup=False, emoji=False, highlight=False, _environ=known)


def _columns(said: str) -> int | None:
    """What COLUMNS means: a width that tables can have, or nothing where it is no number above 0."""
    if not (said.isascii() and said.isdigit()) or not said.strip("0"):
        return None
    return _WIDEST if len(said) > len(str(_WIDEST)) else min(max(int(said), _NARROWEST), _WIDEST)


def _on_stderr(line: str) -> None:
    if sys.stderr is not None:
        with unheard():
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Write to stderr inside this. Where it is full or closed, nothing can be said about that, nor anything later."""
    try:
        yield
    except (OSError, ValueError):
        _abandon(sys.stderr)


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Write to stdout inside this; raises BenchError where that fails."""
    fix = "mend where the output goes, and give the command again"
    if sys.stdout is None or sys.stdout.closed:
        raise BenchError("the output could not be written (it is closed)", where="stdout", fix=fix)
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _abandon(sys.stdout)
        reason = "its reader has ended" if isinstance(error, BrokenPipeError) else error.strerror or error
        raise BenchError(f"the output could not be written ({reason})", where="stdout", fix=fix) from error


def _abandon(stream: Any) -> None:
    """Let what the stream still holds go nowhere, so that the end of the program does not try it once more."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


SUBSTITUTE = "\ufffd"
"""Stands for a character that is not shown."""
# Wherever they stand: where a line is broken decides the width of the terminal. Names of commands begin with a letter.
_COMMAND = re.compile(r":(?=:[^\W\d_])|##(?=\w*\[)")
_FORMULA = tuple("=+-@\t\r＝＋－＠")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "—": "---",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    # At the start of a row a bracket would be the option of the line break before it.
    "[": "{[}",
    "]": "{]}",
    SUBSTITUTE: "?",
}


def plain(text: str, *, lines: bool = False) -> str:
    """One line that shows what it says and does nothing; with `lines`, its line feeds stay."""
    shown = "".join(c if c.isprintable() or (lines and c == "\n") else SUBSTITUTE for c in text)
    return _COMMAND.sub(r"\g<0> ", shown)


def csv_cell(value: Any) -> Any:
    """What a spreadsheet shows as it is: a text that it would compute is quoted by an apostrophe; numbers stay so."""
    if not isinstance(value, str):
        return value
    # Where a semicolon separates cells, as in some countries, one begins behind it.
    shown = re.sub(r"(;\s*)(?=[=+@-])", r"\1'", plain(value))
    return f"'{shown}" if value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA) else shown


def markdown(text: str) -> str:
    """What Markdown shows as it is: no table cell, link, emphasis, mention or HTML can come out of a name."""
    shown = re.sub(r"[\\`*|~$\[\]]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", plain(text))
    shown = shown.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(?<!\w)@(?=\w)", "@<!-- -->", shown)


def latex(text: str) -> str:
    """What LaTeX sets as it is: no command can come out of a name."""
    return "".join(_LATEX.get(letter, letter) for letter in plain(text))


def html(text: str) -> str:
    """What a browser shows as it is, in an element or an attribute."""
    return standard.escape(plain(text))


def json_text(content: Any) -> str:
    """JSON, in ASCII: whatever is no letter of it stays readable for programs and does nothing in a terminal or a log.

    Raises ValueError for what JSON has no number for.
    """
    written = json.dumps(content, indent=1, allow_nan=False)
    return _COMMAND.sub(lambda found: "".join(f"\\u{ord(letter):04x}" for letter in found[0]), written)
