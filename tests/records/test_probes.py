"""A run of several probes keeps the answers of each; its scores are believed where all of them together give them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_answers import FORMS_MADE, write_made_run
from tampering import Spoil, in_record, in_table, said_of

from bench.analysis.compare import compare
from bench.core.errors import BenchError
from bench.metrics.intervals import wilson_interval
from bench.metrics.motion_share import Reading
from bench.records.index import examine, read_runs
from bench.records.recomputed import read_seeds
from bench.records.schema import read_record
from bench.records.tables import FILES, tables_there

HITS = [1, 0, 1, 1] * 5
FURTHER = ([1, 1, 1, 1] * 5, [1, 0, 0, 1] * 5)
TABLE = "predictions.parquet"


@pytest.fixture
def run(make_run) -> Path:
    """15, 20 and 10 of 20 samples are right."""
    return make_run(HITS, further=FURTHER)


@pytest.fixture(params=FORMS_MADE)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def three(form: str) -> list[Any]:
    return [FORMS_MADE[form](0, model, 1.0, 10) for model in (1, 2, 3)]


@pytest.fixture
def made(form: str, make_record, tmp_path: Path) -> Path:
    """Three probes with controls."""
    first, *further = three(form)
    lost = [FORMS_MADE[form](0, model, -1.0, 10) for model in (1, 2, 3)]
    readings = [
        Reading("ordered", "ordered", first, 0, tuple(further)),
        Reading("shuffled", "shuffled", lost[0], 0, tuple(lost[1:])),
    ]
    return write_made_run(
        make_record, tmp_path / "made", form, answers=first, further=further, readings=readings, seed=7
    )


def test_the_score_is_the_mean_over_the_probes(run: Path) -> None:
    (score,) = read_record(run / "record.json").scores
    assert (score.value, score.correct, score.n, score.seeds) == (75, 45, 20, 3)
    assert score.training_sd == pytest.approx(25) and score.low < 75 < score.high


def test_every_form_reads_back_with_its_controls(made: Path, form: str) -> None:
    record = read_record(made / "record.json")
    found = examine(made / "record.json")
    assert not isinstance(found, BenchError) and not found.doubts and found.seeds == (7, 1007, 2007)
    assert [one.prediction_digest for one in read_seeds(made, record)] == [one.prediction_digest for one in three(form)]
    assert {control.score.seeds for control in record.controls} == {3} and record.motion_shares
    kept = found.outcomes or next(iter(found.resampled.values()))[1]
    assert len(kept) == 3
    there = tables_there(made)
    assert {f"seeds/{number}/{name}" for number in (1, 2) for name in FILES[form]} <= set(there)
    assert read_runs([made.parent]) == read_runs([made.parent]) == [found], "fresh, and from the index"


def of_seed(number: int, column: str, change: Any, table: str = TABLE) -> Spoil:
    return in_table(f"seeds/{number}/{table}", column, change)


def copied(source: str, target: str) -> Spoil:
    return lambda folder: shutil.copytree(folder / source, folder / target)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: shutil.rmtree(run / "seeds"), f"seeds/1/{TABLE} is missing"),
        (lambda run: shutil.rmtree(run / "seeds" / "2"), f"seeds/2/{TABLE} is missing"),
        (lambda run: (run / "seeds" / "1" / TABLE).write_bytes(b"PAR1"), "not readable predictions"),
        (lambda run: shutil.copy(run / TABLE, run / "seeds" / "1" / TABLE), "40 of 60 are right"),
        (copied("seeds/2", "seeds/3"), f"seeds/3/{TABLE} contradicts it (the record is of 3 probes)"),
        (copied("seeds/2", "seeds/02"), "the record is of 3 probes"),
        (
            lambda run: shutil.copy(run / TABLE, run / "seeds" / "1" / "top5.parquet"),
            "seeds/1/top5.parquet contradicts it (it is no table of top1)",
        ),
        (of_seed(1, "sample", lambda rows: rows[::-1]), "other samples, or other labels"),
        (of_seed(2, "sample", lambda rows: ["x", *rows[1:]]), "other samples, or other labels"),
        (of_seed(2, "label", lambda rows: [(row + 1) % 3 for row in rows]), "other samples, or other labels"),
        (of_seed(2, "prediction", lambda rows: rows[::-1]), "are not the most probable class"),
        (in_record(lambda record: record.update(seeds=[0, 1])), "top1 is a mean of 3 probes, and the record of 2"),
        (in_record(lambda record: record.update(seeds=[])), "top1 is a mean of 3 probes, and the record of 1"),
        (in_record(lambda record: record.update(seeds=[0, 5, 5])), "probe seeds are there twice"),
        (in_record(lambda record: record["scores"][0].update(training_sd=1.0)), "the training_sd of top1"),
        (in_record(lambda record: record["scores"][0].update(sampling_se=1.0)), "the sampling_se of top1"),
        (in_record(lambda record: record["scores"][0].update(sampling_se=None)), "and None in the record"),
        (in_record(lambda record: record["scores"][0].update(training_sd=None)), "training_sd is that of several"),
        (in_record(lambda record: record["scores"][0].update(low=70.0)), "the low end of the interval of top1"),
        (in_record(lambda record: record["scores"][0].update(correct=15, value=25.0)), "lies outside"),
        (
            in_record(lambda record: record["scores"][0].update(seeds=1, correct=15, training_sd=None)),
            "a mean of 1 probes",
        ),
    ],
)
def test_what_contradicts_the_record_is_left_out(run: Path, tmp_path: Path, spoil: Spoil, said: str) -> None:
    assert said in said_of(run, spoil, tmp_path)


def test_a_record_of_one_probe_has_no_tables_of_others(make_run, tmp_path: Path) -> None:
    other = make_run(HITS, further=FURTHER)
    said = said_of(make_run(HITS), lambda run: shutil.copytree(other / "seeds", run / "seeds"), tmp_path)
    assert "the record is of 1 probe)" in said


def test_groups_are_the_same_for_every_probe(make_run, tmp_path: Path) -> None:
    run = make_run(HITS, videos=[f"v{row // 2}" for row in range(20)], further=FURTHER)
    said = said_of(run, of_seed(1, "video", lambda rows: [row // 2 for row in rows]), tmp_path)
    assert "samples in other groups than those of the first probe" in said


def test_an_exchanged_table_shows_in_the_controls(made: Path, form: str, tmp_path: Path) -> None:
    def exchange(run: Path) -> None:
        for name in FILES[form]:
            (run / name).rename(run / "away")
            (run / "seeds" / "1" / name).rename(run / name)
            (run / "away").rename(run / "seeds" / "1" / name)

    assert "ordered_by_ordered" in said_of(made, exchange, tmp_path)


def test_a_changed_table_of_any_probe_is_seen_by_the_index(run: Path) -> None:
    assert not isinstance(read_runs([run.parent])[0], BenchError)
    of_seed(2, "prediction", lambda rows: rows[::-1])(run)
    assert isinstance(read_runs([run.parent])[0], BenchError)


def test_runs_in_folders_of_any_name_are_named_by_their_records(make_run, tmp_path: Path) -> None:
    run = make_run(HITS, results=tmp_path / "seeds", further=FURTHER)
    shutil.rmtree(run / "seeds" / "1")
    found = examine(run / "record.json")
    assert isinstance(found, BenchError) and found.where == str(run / "record.json")


def test_older_records_of_samples_in_groups_keep_their_interval(make_run, tmp_path: Path) -> None:
    run = make_run(HITS, videos=[f"v{row // 2}" for row in range(20)])
    content = json.loads((run / "record.json").read_text())
    low, high = wilson_interval(15, 20)
    old = {"low": 100 * low, "high": 100 * high, "interval": "Wilson, 95 %"}
    for name in ("seeds", "sampling_se", "training_sd"):
        del content["scores"][0][name]
    content["scores"][0].update(old)
    content.update(schema_version=4)
    del content["seeds"]
    (run / "record.json").write_text(json.dumps(content))
    assert not isinstance(examine(run / "record.json"), BenchError)


def test_a_run_of_several_probes_is_compared_as_several(make_run, tmp_path: Path) -> None:
    make_run(HITS, further=FURTHER, model="a")
    make_run(FURTHER[1], further=[FURTHER[1], HITS], model="b")
    found = compare("a", "b", [tmp_path / "results"])
    assert found.a.value == 75 and found.seeds == [0, 1000, 2000] and not any("one probe" in n for n in found.notes)
