"""What all tests share: a tiny task, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run_command
from fetch_lab import RIGHT, Lab
from support import ROOT, Run, write_video
from web_site import serving

from bench.data.digits import ensure_digits
from bench.encoders import catalog

pytest_plugins = ["made_records", "s3_server"]

WORKER = "PYTEST_XDIST_WORKER"


def pytest_configure() -> None:
    """One thread a worker, as there are as many workers as cores: more would wait for each other."""
    if WORKER in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digit_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `digits` of a cache with the clips, made once for all workers; none may change it."""
    own = tmp_path_factory.getbasetemp()
    cache = own.parent if WORKER in os.environ else own
    ensure_digits(cache)
    return cache / "digits"


@pytest.fixture
def bright_and_dark(tmp_path: Path) -> Path:
    """A tiny task that any probe learns: `train.csv` and `val.csv` of dark (0) and bright (1) clips, 16 px."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    for split, count in (("train", 24), ("val", 12)):
        rows = []
        for i in range(count):
            level = 60 if i % 2 == 0 else 190
            frames = np.clip(rng.normal(level, 20, (9, 16, 16, 3)), 0, 255).astype(np.uint8)
            write_video(folder / "clips" / f"{split}_{i}.mp4", frames)
            rows.append(f"clips/{split}_{i}.mp4 {i % 2}")
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def bench_command(tmp_path: Path) -> Run:
    """Run the command line in an empty folder with its own cache, in a process where torch is loaded already."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        folder = cwd or tmp_path / "work"
        folder.mkdir(exist_ok=True)
        return run_command(arguments, folder, {"BENCH_CACHE": str(tmp_path / "cache"), "COLUMNS": "100"})

    return run


@pytest.fixture
def bench_process(tmp_path: Path) -> Run:
    """The same as a user starts it, for what depends on that: what is imported, what is read of the environment."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "BENCH_CACHE": str(tmp_path / "cache"), "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "bench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)

    return run


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A catalog of the one encoder `far`; nobody waits."""
    for name, constant in (("cards", "_CARDS"), ("weights", "_PACKAGED")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(catalog, constant, tmp_path / name)
    from bench.encoders import vjepa

    monkeypatch.setitem(vjepa.SIZES, "small", vjepa.VitConfig(embed_dim=48, depth=2, num_heads=2, mlp_dim=192))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(RIGHT) as site:
        yield Lab(tmp_path, site)
