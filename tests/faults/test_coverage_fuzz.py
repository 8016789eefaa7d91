"""The coverage-guided search of tests/faults/coverage_fuzz.py: a few inputs; and what falls, it finds."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

SCRIPT = Path(__file__).with_name("coverage_fuzz.py")
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="needs atheris")


def search(folder: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The search in a process of its own, in `folder`, after some other code."""
    program = f"import runpy, sys\n{before}\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        timeout=120,
    )


def test_nothing_falls_in_a_few_hundred_inputs(tmp_path: Path, long: bool) -> None:
    for target in ("annotations", "cards", "records", "weights", "shards") if long else ("cards",):
        done = search(tmp_path, target, "--runs", "300")
        assert done.returncode == 0 and "Done 300 runs" in done.stderr, done.stderr[-2000:]
        assert not list((tmp_path / "fuzz-findings").iterdir())


def test_a_reader_that_falls_is_found_and_its_file_kept(tmp_path: Path, long: bool) -> None:
    if not long:
        pytest.skip("in the long version")
    done = search(tmp_path, "cards", "--runs", "300", before="import bench.cli.options as o; o.parse_settings = 7")
    assert done.returncode != 0 and "'int' object is not callable" in done.stdout + done.stderr
    assert len(list((tmp_path / "fuzz-findings").iterdir())) == 1
