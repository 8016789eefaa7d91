"""A name is no identity: two weights of one file name are two rows that a person can tell apart, everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.compare import compare
from bench.analysis.gate import check, other_encoders, renew
from bench.analysis.select import Choice, load_board
from bench.core.errors import BenchError
from bench.records.baseline import read_baseline
from bench.records.runs import load_runs
from bench.records.summary import names, weights_place
from bench.report.export import to_csv, to_json, to_latex, to_markdown
from bench.report.html import to_html

HITS = np.repeat([1, 0], [40, 20])


@pytest.fixture
def two(make_run, tmp_path: Path) -> Path:
    """Results of runA/e100.pt and runB/e100.pt, whose official names are alike."""
    for folder, hits in (("runA", HITS), ("runB", HITS[::-1])):
        make_run(
            hits,
            model="e100",
            arguments={"model": f"/data/{folder}/e100.pt"},
            digests={"encoder": folder},
        )
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("places", "shown"),
    [
        ({"a": "runA/e100", "b": "runB/e100"}, ["runA/e100", "runB/e100"]),
        ({"a": "/x/one/run/e100", "b": "/x/two/run/e100"}, ["one/run/e100", "two/run/e100"]),
        ({"a": "e100", "b": "runB/e100"}, ["e100", "runB/e100"]),
        ({"a": "run/e100", "b": "run/e100"}, ["e100", "e100"]),
        ({"a": "run/e100", "b": "run/e100", "c": "other/e100"}, ["run/e100", "run/e100", "other/e100"]),
        ({"a": "", "b": ""}, ["e100", "e100"]),
        ({"a": "deep/runA/e100"}, ["e100"]),
        ({"a": "hf:runA/e100", "b": "hf:runB/e100"}, ["hf:runA/e100", "hf:runB/e100"]),
    ],
)
def test_a_name_has_as_many_folders_as_tell_it_apart(places: dict[str, str], shown: list[str]) -> None:
    assert list(names(("e100", digest, place) for digest, place in places.items()).values()) == shown


@pytest.mark.parametrize(
    ("model", "given", "place"),
    [
        ("e100", "runA/e100.pth.tar", "runA/e100"),
        ("e100", "./runA/../runB/e100.safetensors", "runB/e100"),
        ("runA/latest", "runs/runA/jepa-latest.pt", ""),
        ("runA/jepa-latest", "runs/runA/jepa-latest.pt", "runs/runA/jepa-latest"),
        ("v1.0", "runs/v1.0", "runs/v1.0"),
        ("hf:vm", "hf:runs/vm", "hf:runs/vm"),
        ("vjepa-nano", "vjepa-nano", "vjepa-nano"),
        ("ours", "ours=runA/e100.pt", ""),
        ("random", None, ""),
    ],
)
def test_the_place_of_weights_is_their_path_without_suffix(make_record, model: str, given: Any, place: str) -> None:
    assert weights_place(make_record(model=model, arguments={"model": given} if given else {})) == place


def test_the_leaderboard_shows_the_folders_in_every_format(two: Path) -> None:
    board, _ = load_board([two])
    assert sorted(row.label for row in board.rows) == ["runA/e100", "runB/e100"]
    for text in (to_markdown(board), to_csv(board), to_html(board), to_latex(board)):
        assert "runA/e100" in text and "runB/e100" in text
    assert {row["label"] for row in json.loads(to_json(board))} == {"runA/e100", "runB/e100"}
    for one in ("runA/e100", "runA/*", "data/runA/e100"):
        (row,) = load_board([two], choice=Choice(models=[one]))[0].rows
        assert row.records[0].digests["encoder"] == "runA"


def test_compare_takes_the_names_of_rows(two: Path) -> None:
    found = compare("runA/e100", "runB/e100@digits-motion", [two])
    assert (found.a.model, found.b.model) == ("runA/e100", "runB/e100")
    assert found.wins and len(found.notes) == 1 and found.a.value == found.b.value
    with pytest.raises(BenchError, match="'e100@digits-motion' has 2 weights of one name - say runA/e100 or runB"):
        compare("e100@digits-motion", "runA/e100", [two])


def test_compare_says_that_runs_left_out_have_other_weights(make_run, tmp_path: Path) -> None:
    for digest in ("older", "newer"):
        make_run(HITS, model="ours", digests={"encoder": digest}, arguments={"model": "ours=runs/e1.pt"})
    make_run(HITS, model="theirs")
    found = compare("ours", "theirs", [tmp_path / "results"])
    assert found.notes[0] == "1 run of ours with other weights left out" and found.a.model == "ours (weights newer)"
    assert compare("ours (weights older)", "theirs", [tmp_path / "results"]).a.model == "ours (weights older)"


def test_a_baseline_keeps_both_and_holds_each_against_its_own(two: Path, make_run, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    renew(path, load_runs([two])[0])
    assert [row.model for row in read_baseline(path).rows] == ["runA/e100", "runB/e100"]
    assert not other_encoders(load_runs([two])[0])
    worse = 1 - HITS
    make_run(worse, model="e100", arguments={"model": "/data/runB/e100.pt"}, digests={"encoder": "trained on"})
    found = check(read_baseline(path), load_runs([two])[0])
    assert {row.model: row.status for row in found.tasks} == {"runA/e100": "pass", "runB/e100": "regression"}
    assert [note for note in found.notes if "other weights" in note] == [
        "runB/e100 on digits-motion: other weights of the encoder than in the baseline"
    ]


def test_a_baseline_of_the_bare_name_goes_on_with_the_folder_of_its_weights(two: Path, tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    runs = load_runs([two])[0]
    renew(path, runs[:1])
    assert [row.model for row in read_baseline(path).rows] == ["e100"]
    found = check(read_baseline(path), runs)
    assert found.status == "pass"
    assert any("not in the baseline: runB/e100" in note for note in found.notes)


def test_an_update_says_which_weights_of_one_name_it_left_out(make_run, tmp_path: Path) -> None:
    for digest in ("1111111aaa", "2222222bbb"):
        make_run(HITS, model="ours", digests={"encoder": digest})
    runs = load_runs([tmp_path / "results"])[0]
    renew(tmp_path / "b.json", runs)
    assert [row.encoder for row in read_baseline(tmp_path / "b.json").rows] == ["2222222bbb"]
    (line,) = other_encoders(runs)
    assert "kept weights 2222222 (8x16px), left out older runs of weights 1111111 (8x16px)" in line
