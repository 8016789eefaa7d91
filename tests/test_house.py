"""The house: rooms, floors, sizes, and the pages that describe them."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest
from support import ROOT

import bench

MODULES = sorted((ROOT / "bench").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def layers() -> list[list[str]]:
    """The rooms of each floor, the highest first, as the import contract has them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (block,) = re.findall(r"^layers = \[(.*?)^\]", text, flags=re.M | re.S)
    return [re.findall(r"\w+", line) for line in block.splitlines() if line.strip()]


def test_the_rooms_are_the_folders_of_the_package() -> None:
    rooms = [room for floor in layers() for room in floor]
    folders = [path.name for path in (ROOT / "bench").iterdir() if (path / "__init__.py").is_file()]
    assert sorted(rooms) == sorted(folders) and len(rooms) == 15 and len(layers()) <= 8
    assert len(list((ROOT / "bench").glob("*.py"))) <= 3


def test_the_picture_shows_the_rooms_on_their_floors() -> None:
    picture = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    shown = re.findall(r'class="room" x="\d+" y="(\d+)"[^>]*>(\w+)<', picture)
    floors = [[room for height, room in shown if height == y] for y in dict.fromkeys(y for y, _ in shown)]
    assert [sorted(floor) for floor in floors] == [sorted(floor) for floor in layers()]


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_can_be_seen_at_once(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    if path in MODULES:
        nodes = ast.walk(ast.parse(text))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        long = [one.name for one in functions if (one.end_lineno or 0) - one.lineno >= 60]
        assert not long


def test_the_page_of_the_interface_names_what_there_is() -> None:
    rows = re.findall(r"^\| `(\w+)(?:\((.*?)\))?(?: -> \w+)?` \|", (ROOT / "docs" / "api.md").read_text("utf-8"), re.M)
    assert {name for name, _ in rows} == set(bench.__all__) - {"__version__"}
    for name, given in rows:
        if given:
            known = inspect.signature(getattr(bench, name)).parameters
            told = [word.split("=")[0].strip("* ") for word in given.split(",") if word.strip("* ")]
            assert set(told) <= set(known), name


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text("utf-8"), flags=re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/api.md", "exec"), {"print": lambda *words: sys.stdout.write(f"{words}\n")})  # noqa: S102
    assert list(tmp_path.glob("results/*/record.json"))
