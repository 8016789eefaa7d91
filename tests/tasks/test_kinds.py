"""Options compose: every option of a run on every kind of task, or a refusal that says why it means nothing there.

The table of docs/kinds.md is the same: a test holds them together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kind_standins import SUBJECTS, Settings, Subject
from support import ROOT, Run
from worlds import run_world

from bench.analysis.compare import compare
from bench.analysis.select import board_of_runs
from bench.core.errors import BenchError
from bench.core.progress import Silent
from bench.metrics.metric import FORMS, form_of
from bench.pipeline import suite
from bench.pipeline.estimate.counts import work_of
from bench.pipeline.estimate.hours import estimate
from bench.pipeline.estimate.measure import measure
from bench.pipeline.estimate.plans import subject_of
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.run import extract_features, prepare_encoder
from bench.pipeline.suite import run_all
from bench.records.runs import open_run
from bench.records.schema import Record
from bench.tasks.kinds import KINDS

pytestmark = pytest.mark.slow

ONE_SETTING: Settings = {"probe.lr": 1e-2}

OPTIONS: dict[str, dict[str, Any]] = {
    "controls": {"controls": "shuffled,static"},
    "labels": {"labels": "50%"},
    "controls and labels": {"controls": "static", "labels": "50%", "settings": ONE_SETTING},
    "another seed": {"seed": 1},
    "several seeds": {"seeds": 3},
    "seeds, controls and labels": {"seeds": 2, "controls": "static", "labels": "50%", "settings": ONE_SETTING},
    "streaming": {"settings": {"probe.streaming": True, "probe.epochs": 1}},
    "streaming and labels": {
        "labels": "80%",
        "settings": {"probe.streaming": True, "probe.held_out": 0.4, **ONE_SETTING},
    },
    "augmented": {"settings": {"probe.augmentation": "official"}},
    "train views": {"settings": {"probe.train_views": 2}},
    "several blocks": {"settings": {"probe.num_blocks": 2, **ONE_SETTING}},
    "layers": {"settings": {"clip.layers": "0,2"}},
    "8-bit tokens": {"token_bits": 8},
    "fastest": {"precision": "fastest"},
    "half precision": {"precision": "bf16"},
    "views": {"settings": {"clip.views": 3}},
    "segments": {"settings": {"clip.segments": 2}},
    "pace": {"settings": {"clip.fps": 4, "clip.duration_s": None, "clip.step": None}},
    "limit": {"limit": 4},
}
"""What a run of any kind can be asked, besides what has a test of its own below."""


@pytest.fixture(scope="module", params=SUBJECTS, ids=lambda subject: subject.kind)
def subject(request: pytest.FixtureRequest) -> Subject:
    return request.param


@pytest.fixture(scope="module")
def folder(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data, and a cache that all runs share."""
    folder = tmp_path_factory.mktemp(subject.kind)
    subject.make(folder / "data")
    return folder


@pytest.fixture(scope="module")
def record(subject: Subject, folder: Path) -> Record:
    return subject.run(folder)


def assert_sound(folder: Path, record: Record) -> None:
    """Every score has an interval, and the tables beside the record give the record again."""
    run = open_run(str(folder / "results" / record.run_id))
    assert run is not None and not run.doubts, run and run.doubts
    assert [score.metric for score in record.scores] == list(FORMS[form_of(record.scores[0].metric) or ""].metrics)
    assert all(score.low <= score.value <= score.high for score in record.scores)


def test_every_kind_is_tried() -> None:
    kinds = {type(kind) for kind in KINDS.values()}
    assert {type(KINDS[load_data(subject)]) for subject in SUBJECTS} == kinds


def load_data(subject: Subject) -> str:
    from bench.cards.load import load_task

    return load_task(subject.task).data


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_works_or_its_refusal_says_why(subject: Subject, folder: Path, record: Record, name: str) -> None:
    given = OPTIONS[name]
    if name in subject.refuses:
        with pytest.raises(BenchError, match=subject.refuses[name]):
            subject.run(folder, **given)
        return
    made = subject.run(folder, **given)
    assert_sound(folder, made)
    orders = [order for order in given.get("controls", "").split(",") if order]
    pairs = [("ordered", "ordered"), *((order, by) for order in orders for by in (order, "ordered"))]
    assert [(one.frames, one.trained_on) for one in made.controls] == (pairs if orders else [])
    assert len(made.fewer_labels) == (3 if "labels" in given else 0)
    assert all(0 < part.num_train < made.num_train * 2 for part in made.fewer_labels)
    assert [score.seeds for score in made.scores] == [given.get("seeds", 1)] * len(made.scores)
    same_features = name in ("labels", "another seed", "several seeds", "several blocks")
    assert (made.digests["test_features"] == record.digests["test_features"]) or not same_features
    assert made.cost.encoder_clips == 0 or not same_features


def test_the_probe_of_a_run_gives_its_scores_again(subject: Subject, folder: Path, record: Record) -> None:
    probe = folder / "results" / record.run_id / "probe.safetensors"
    controls = {} if "controls" in subject.refuses else {"controls": "static"}
    again = subject.run(folder, probe_weights=probe, **controls)
    assert_sound(folder, again)
    assert again.scores == record.scores and again.num_train == 0
    assert any("given, not trained" in note for note in again.notes)
    with pytest.raises(BenchError, match="nothing is trained"):
        subject.run(folder, probe_weights=probe, labels="50%")


def test_a_forecast_counts_what_a_run_encodes(subject: Subject, folder: Path, tmp_path: Path) -> None:
    options = {"controls": "static"} if "controls" not in subject.refuses else {}
    plan = subject.plan(folder, cache=tmp_path / "fresh", **options)
    expected = forecast(plan)
    done = subject.run(folder, cache=tmp_path / "fresh", **options)
    assert expected.clips == done.cost.encoder_clips + done.cost.cached_clips
    assert expected.feature_bytes == done.cost.feature_bytes


def test_an_estimate_is_measured(subject: Subject, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.pipeline.estimate.measure.ENCODE_BUDGET_S", 0.2)
    monkeypatch.setattr("bench.pipeline.estimate.measure.DECODE_BUDGET_S", 0.2)
    with subject_of(subject.plan(folder, labels="50%").options, None, Silent()) as estimated:
        work = work_of(estimated.plan)
        hours = estimate(work, measure(estimated, work, Silent()))
    refit = estimated.plan.recipe.hold_out and estimated.plan.recipe.hold_out.refit
    assert hours.seconds["total"].value > 0 and len(work.trainings) == (2 if refit else 1) * (1 + 3)


def test_extracting_leaves_nothing_to_encode(subject: Subject, folder: Path, tmp_path: Path) -> None:
    plan = subject.plan(folder, cache=tmp_path / "fresh")
    parts = extract_features(plan, prepare_encoder(plan), Silent())
    assert sum(part.extraction.encoded_clips for part in parts) > 0
    assert subject.run(folder, cache=tmp_path / "fresh").cost.encoder_clips == 0


def test_an_interrupted_extraction_goes_on(
    subject: Subject, folder: Path, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.features.extract.items_per_shard", lambda size: 1)
    monkeypatch.setattr("bench.features.extract.items_at_once", lambda *given: 1)
    plan = subject.plan(folder, cache=tmp_path / "fresh")
    encode, calls = torch.nn.Module.__call__, [0]
    encoder = prepare_encoder(plan)

    def stopped(module: torch.nn.Module, *given: Any, **named: Any) -> Any:
        if module is encoder.module:
            calls[0] += 1
            if calls[0] == 4:
                raise KeyboardInterrupt
        return encode(module, *given, **named)

    monkeypatch.setattr(torch.nn.Module, "__call__", stopped)
    with pytest.raises(KeyboardInterrupt):
        extract_features(plan, encoder, Silent())
    monkeypatch.undo()
    done = subject.run(folder, cache=tmp_path / "fresh")
    assert done.cost.cached_clips >= 2 and done.scores == record.scores


def test_other_cores_give_the_same_records(
    subject: Subject, folder: Path, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "num_cores", lambda: 2)
    plans = [subject.plan(folder, cache=tmp_path / "fresh"), subject.plan(folder, model="random")]
    first, other = run_all(plans, Silent())
    assert first.scores == record.scores and other.model == "random"


def test_two_processes_give_the_record_of_one(subject: Subject, folder: Path, record: Record, tmp_path: Path) -> None:
    options = subject.options(folder, cache=tmp_path / "shared", results=tmp_path / "results")
    settings = [
        part for key, value in options.pop("settings").items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]
    words = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
    ended = run_world(tmp_path / "work", *[["run", *words, *settings, "--json"]] * 2)
    assert [process.code for process in ended] == [0, 0], ended[0].err
    (done,) = json.loads(ended[0].out)
    assert done["scores"] == [score.model_dump(mode="json") for score in record.scores]
    assert done["hardware"]["processes"] == 2


def test_two_runs_are_compared_ranked_and_gated(subject: Subject, folder: Path, record: Record, tmp_path: Path) -> None:
    results = tmp_path / "results"
    runs = [subject.run(folder, results=results, **given) for given in ({}, {"model": "random"})]
    comparison = compare(runs[0].run_id, runs[1].run_id, [results])
    assert comparison.difference == pytest.approx(runs[0].scores[0].value - runs[1].scores[0].value)
    assert comparison.low <= comparison.difference <= comparison.high and 0 <= comparison.p_value <= 1
    board = board_of_runs(runs, results)
    assert {row.label for row in board.rows} == {"vjepa-nano", "random"}
    assert all(cell.rank for row in board.rows for cell in row.cells.values())


def test_a_task_is_gated_and_reported(
    subject: Subject, folder: Path, record: Record, tmp_path: Path, bench_command: Run
) -> None:
    results, baseline, page = folder / "results", tmp_path / "baseline.json", tmp_path / "report.html"
    for command in (
        ["check", "--update", "--baseline", baseline, "--results", results],
        ["check", "--baseline", baseline, "--results", results],
        ["report", "--results", results, "--output", page],
        ["leaderboard", "--results", results],
    ):
        done = bench_command(*command)
        assert done.returncode == 0, (command, done.stderr)
    assert record.model in page.read_text() and subject.task in page.read_text()


def test_the_table_of_the_docs_is_what_holds() -> None:
    lines = [line for line in (ROOT / "docs" / "kinds.md").read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    start = next(number for number, row in enumerate(rows) if row[0] == "asked for")
    kinds, told = rows[start][2:], {row[0]: row[2:] for row in rows[start + 1 :]}
    assert kinds == [subject.kind for subject in SUBJECTS] and told.keys() == OPTIONS.keys()
    for number, subject in enumerate(SUBJECTS):
        refused = {name for name, cells in told.items() if cells[number].startswith("no: ")}
        assert refused == subject.refuses.keys(), subject.kind
