"""Where outputs go: never over what a command reads, and never over what is no regular file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data.trees import write_tree
from made_results import made_results

from bench.cli.data import verify
from bench.cli.scores import check, plot, report
from bench.core.errors import BenchError
from bench.core.files import atomic_write, check_output


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a command reads, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "read.json"
    path.write_text("read")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path)
    return path


@pytest.mark.parametrize("name", ["read.json", "./read.json", "link", "hard", "folder/read.json", "folder/link"])
def test_an_output_is_no_input_under_any_name(read: Path, name: str) -> None:
    with pytest.raises(BenchError, match=r"-o .*reads or writes that file"):
        check_output(Path(name), option="-o", inputs=[read])


def test_an_output_is_no_file_of_a_run(read: Path) -> None:
    run = read.parent / "results" / "20260101-000000-x"
    (run / "deep").mkdir(parents=True)
    for path in (run / "record.json", run / "deep" / "01.jpg"):
        path.touch()
        with pytest.raises(BenchError, match="reads or writes that file"):
            check_output(path, option="-o", runs=[read.parent / "results"])
    check_output(run.parent / "report.html", option="-o", runs=[read.parent / "results"])


def test_two_outputs_are_two_files(read: Path) -> None:
    with pytest.raises(BenchError, match=r"--summary .*reads or writes that file"):
        check_output(Path("new.md"), option="--summary", inputs=[read.with_name("new.md")])


def test_other_files_are_replaced(read: Path) -> None:
    other = read.with_name("other")
    for _ in range(2):
        check_output(other, option="-o", inputs=[read])
        with atomic_write(other) as temporary:
            temporary.write_text("new")
    assert other.read_text() == "new" and read.read_text() == "read"
    assert {path.name for path in read.parent.iterdir()} == {"read.json", "link", "hard", "folder", "other"}


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop", "nowhere"])
def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/null", "loop": "out", "nowhere": "not/there"}[kind])
    before = path.lstat()
    with pytest.raises(BenchError, match="name a file"):
        check_output(path, option="-o")
    with pytest.raises(BenchError, match="name a file"), atomic_write(path):
        pass
    assert os.path.samestat(before, path.lstat()) and len(list(tmp_path.iterdir())) == 1


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results and a baseline of them."""
    home = tmp_path_factory.mktemp("home")
    check(home / "baseline.json", [made_results(home / "results", models=1, seeds=1)], update=True)
    return home


@pytest.mark.parametrize("option", ["junit", "summary"])
@pytest.mark.parametrize("what", ["baseline.json", "results/*/record.json", "results/*/predictions.parquet"])
def test_reports_of_a_check_never_take_the_place_of_what_is_checked(runs: Path, option: str, what: str) -> None:
    before = state(runs)
    taken = next(runs.glob(what))
    with pytest.raises(BenchError, match=f"--{option} .*reads or writes that file"):
        check(runs / "baseline.json", [runs / "results"], **{option: taken})
    assert state(runs) == before


def test_a_baseline_never_takes_the_place_of_a_record(runs: Path) -> None:
    before = state(runs)
    for update in (True, False):
        with pytest.raises(BenchError, match=r"--baseline .*reads or writes that file"):
            check(next(runs.glob("results/*/record.json")), [runs / "results"], update=update)
    assert state(runs) == before


def test_pages_and_plots_never_take_the_place_of_a_record(runs: Path, tmp_path: Path) -> None:
    before = state(runs)
    for name in ("link.svg", "link-1.svg"):  # as it is called where there are several plots
        (tmp_path / name).symlink_to(next(runs.glob("results/*/record.json")))
    for output in (tmp_path / "link.svg", next(runs.glob("results/*/predictions.parquet"))):
        with pytest.raises(BenchError, match=r"-o .*reads or writes that file"):
            report(output, [runs / "results"])
    with pytest.raises(BenchError, match=r"-o .*reads or writes that file"):
        plot("bars", tmp_path / "link.svg", [runs / "results"])
    assert state(runs) == before


@pytest.mark.parametrize("name", ["train.csv", "val.csv", "clips/train_0.mp4", "thesis.txt"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_report_on_data_takes_the_place_of_an_earlier_report_alone(tmp_path: Path, name: str, stated: bool) -> None:
    tree = write_tree(tmp_path / "tree")
    (tree / "thesis.txt").write_text("years of work")
    before = state(tree)
    lists = (tree / "train.csv", tree / "val.csv") if stated else (None, None)
    with pytest.raises(BenchError, match="--report"):
        verify("custom", tree, *lists, report=tree / name, cache=tmp_path / "cache")
    for _ in range(2):
        verify("custom", tree, *lists, report=tree / "report.json", cache=tmp_path / "cache", workers=0)
    assert state(tree).items() >= before.items()
