"""Addresses on the command line, where the local part of a remote cache is, and errors of the storage in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import BenchError
from bench.core.files import cache_path
from bench.core.remote import remote_url, told_in_one_line
from bench.tasks.options import make_options


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://bucket/ssv2", "s3://bucket/ssv2"),
        (Path("s3://bucket/ssv2/"), "s3://bucket/ssv2"),
        ("gs://bucket", "gs://bucket"),
        ("/data/ssv2", None),
        ("data/s3/ssv2", None),
        ("C:/data", None),
        ("file:///data", None),
        (None, None),
    ],
)
def test_an_address_is_told_from_a_path(given: str | Path | None, url: str | None) -> None:
    assert remote_url(given) == url


def test_the_local_part_of_a_remote_cache_is_in_the_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    assert cache_path() == tmp_path
    one, other = cache_path("s3://bucket/one"), cache_path(Path("s3://bucket/other"))
    assert one.parent == other.parent == tmp_path / "remote" and one != other
    monkeypatch.setenv("BENCH_CACHE", "s3://bucket/one")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_path().name == one.name and cache_path().parent.name == "remote"
    assert cache_path(tmp_path / "mine") == tmp_path / "mine"


def test_records_stay_on_a_local_disk() -> None:
    with pytest.raises(BenchError, match=r"--results s3://bucket/results: records are kept on a local disk"):
        make_options({"results": "s3://bucket/results"})


def test_a_protocol_that_nobody_speaks_is_told() -> None:
    from bench.core.remote import filesystem

    with pytest.raises(BenchError, match="unknown storage"), told_in_one_line("nope://x"):
        filesystem("nope://x")


def test_a_package_that_is_missing_is_told() -> None:
    with pytest.raises(BenchError, match=r"pip install 'vjepa-bench\[remote\]'"), told_in_one_line("s3://x"):
        raise ImportError("Install s3fs to access S3")


def test_errors_of_the_local_disk_and_of_the_program_are_not_the_storages(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"), told_in_one_line("s3://x"):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), told_in_one_line("s3://x"):
        (tmp_path / "none").read_text()
    with pytest.raises(KeyError), told_in_one_line("s3://x"):
        raise KeyError("a fault")
