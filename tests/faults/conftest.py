"""The fault suite: `pytest tests/faults` is for CI, `pytest tests/faults --long` takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_lab import Bench, make_clips


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="as many faults as docs/reliability.md says, not a few of them"
    )


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long version was asked for."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 16 training and 8 test clips, which no test changes."""
    return make_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def bench(clips: Path, tmp_path: Path) -> Bench:
    """The command line on `clips`, with a cache and a results folder of its own."""
    return Bench(clips, tmp_path / "bench")
