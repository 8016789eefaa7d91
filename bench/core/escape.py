"""What becomes of a text that somebody else chose (a name, a note, a library's error) where it is printed or exported.

`plain` is for everything; each format adds what would be markup in it. No control character survives: not those of a
terminal (C0, C1), not those that reorder or hide letters, not other ends of lines. Neither does what a line of a log
is taken for by continuous integration: `::error::` of GitHub, `##[error]` and `##vso[...]` of Azure, `##teamcity[...]`.
"""

from __future__ import annotations

import html as standard
import json
import re
from typing import Any

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
