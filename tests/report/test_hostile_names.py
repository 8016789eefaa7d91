"""Names, notes and reasons of strangers in boards and reports of the gate: they are read, and do nothing."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import pytest

from bench.analysis.gate import Check, Verdict
from bench.analysis.leaderboard import build
from bench.analysis.select import Choice, arranged
from bench.core.console import show
from bench.report.ci import to_annotations, to_junit
from bench.report.ci import to_markdown as check_to_markdown
from bench.report.export import to_csv, to_json, to_latex, to_markdown
from bench.report.html import to_html
from bench.report.terminal import to_rich

HOSTILE = "=a\x1b[2J\n::error::forged|<b>&`\u202e\\@x"


@pytest.fixture
def board(make_record):
    names = {"task": HOSTILE, "probe": HOSTILE, "protocol": HOSTILE, "input": HOSTILE, "notes": [HOSTILE, "-1"]}
    records = [make_record(model=model, correct=n, **names) for model, n in (("a", 300), (HOSTILE, 200))]
    return arranged(build(records), Choice(reference="a"))


@pytest.mark.parametrize("export", [to_csv, to_json, to_markdown, to_latex, to_html])
def test_exports_hold_nothing_but_what_they_say(board, export) -> None:
    text = export(board)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert not re.search(r"::[a-z]|##\w*\[", text)


def test_cells_of_the_csv_are_no_formulas_and_its_numbers_are_numbers(board) -> None:
    first, second = csv.DictReader(io.StringIO(to_csv(board)))
    assert not [cell for cell in [*first.values(), *second.values()] if cell.startswith(("=", "+", "@"))]
    assert second["model"].startswith("'=a") and second["notes"].endswith("; '-1")
    assert float(second["difference"]) < 0


def test_reports_of_the_gate_hold_nothing_but_what_they_say() -> None:
    row = Verdict(
        task=HOSTILE, axis=None, model=HOSTILE, probe=HOSTILE, protocol=HOSTILE, metric="top1", seeds=[0],
        status="regression", reason=HOSTILE, baseline=60.0, value=50.0, difference=-10.0, low=-12.0, high=-8.0,
    )  # fmt: skip
    found = Check(status="regression", tasks=[row], notes=[HOSTILE], margin=1.0)
    junit = to_junit(found).decode()
    for text in (check_to_markdown(found), junit):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert not re.search(r"::[a-z]", text)
    assert ElementTree.fromstring(junit).get("failures") == "1"  # noqa: S314
    for line in to_annotations(found):
        assert line.isprintable() and re.match("::(error|warning|notice) title=", line)
        assert line.count("::") == 2


@pytest.mark.parametrize("columns", ["40", "100", "1000"])
def test_tables_show_them_and_nothing_of_them_acts(board, capsys, monkeypatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    show(to_rich(board))
    text = capsys.readouterr().out
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "forged" in "".join(text.split()) and not re.search(r"::[a-z]", text)
