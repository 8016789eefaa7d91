"""Texts of strangers, printed or exported: they are read, and do nothing."""

from __future__ import annotations

import json
import re

import pytest

from bench.core import console

CONTROLS = {
    "escape": "\x1b[2J",
    "bell": "\x07",
    "C1": "\x9b31m",
    "delete": "\x7f",
    "carriage return": "a\rb",
    "line feed": "a\nb",
    "next line": "\x85",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right to left": "\u202egnp.exe",
    "isolate": "\u2066",
    "zero width": "a\u200bb",
    "byte order": "\ufeff",
    "half a pair": "\udcff",
    "private use": "\ue000",
}
COMMANDS = [
    "::error::forged",
    "a ::set-output name=x::y",
    "::add-mask::0",
    "##[error]x",
    "##vso[task.x]y",
    "##teamcity[a]",
]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "\u00a0=1"]


@pytest.mark.parametrize("text", CONTROLS.values(), ids=CONTROLS)
def test_no_control_character_is_left(text: str) -> None:
    shown = [make(text) for make in (console.plain, console.csv_cell, console.markdown, console.latex, console.html)]
    assert all(line.isprintable() for line in [*shown, json.dumps(console.json_text(text))])
    assert json.loads(console.json_text(text)) == text


@pytest.mark.parametrize("text", COMMANDS)
def test_no_line_is_a_command_of_continuous_integration_wherever_it_is_broken(text: str) -> None:
    shown = [make(text) for make in (console.plain, console.csv_cell, console.markdown, console.latex, console.html)]
    for line in [*shown, console.json_text({text: [text]})]:
        assert not re.search(r"::[a-z]|##\w*\[", line)
    assert json.loads(console.json_text(text)) == text


@pytest.mark.parametrize(
    "text", ["vit_large", "a::1", "http://[::1]:80", "C# ## title", "größer – 5 µs", "日本", "a:b"]
)
def test_usual_names_stay_as_they_are(text: str) -> None:
    assert console.plain(text) == console.csv_cell(text) == text == console.plain(console.plain(text))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_computes_nothing(text: str) -> None:
    assert console.csv_cell(text).startswith("'")
    assert console.csv_cell(f"x;{text}").partition(";")[2].strip().startswith(("'", console.SUBSTITUTE, "＝"))


def test_numbers_of_a_spreadsheet_stay_numbers() -> None:
    assert [console.csv_cell(value) for value in (-1.5, 0, None, True)] == [-1.5, 0, None, True]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("_x_", r"\_x\_"),
        ("__init__", r"\_\_init\_\_"),
        ("a_b", "a_b"),
        ("~~x~~", r"\~\~x\~\~"),
        ("$x$", r"\$x\$"),
        ("see @someone", "see @<!-- -->someone"),
        ("frame-mAP@0.5", "frame-mAP@0.5"),
        ("<!-- x -->", "&lt;!-- x -->"),
    ],
)
def test_markdown_shows_marks_as_letters(text: str, shown: str) -> None:
    assert console.markdown(text) == shown
