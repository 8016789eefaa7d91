"""Claims of speed: ratios with their spread, in the form that programs read."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.ratios import Ratio, ratio_of


def test_a_ratio_is_that_of_the_medians_with_the_spread_of_its_runs() -> None:
    found = ratio_of("ours", "theirs", [4.0, 6.0, 5.0], [1.0, 1.0, 2.0])
    assert (found.ratio, found.low, found.high, found.runs) == (5.0, 2.5, 6.0, 3)


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_gives_ratios(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.{name}").ratios)


def test_ratios_are_written_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    measured = Ratio("sweep", 20.5, 19.0, 22.0, "a loop", "CPU, 2 threads", 5)
    monkeypatch.setattr(command, "measured", lambda name, runs: [measured])
    monkeypatch.setattr("sys.argv", ["benchmarks", "fused_sweep", "--json", str(tmp_path / "out.json")])
    command.main()
    (row,) = json.loads((tmp_path / "out.json").read_text())
    names = ("name", "ratio", "low", "high", "reference", "device")
    assert tuple(row[name] for name in names) == ("sweep", 20.5, 19.0, 22.0, "a loop", "CPU, 2 threads")
    assert "20.50" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "nonsense"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "unknown benchmark 'nonsense'" in capsys.readouterr().err
