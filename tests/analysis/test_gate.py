"""The gate passes what is as before, fails what fell, and says so where it cannot tell."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm
from support import Run, assert_refused

from bench.analysis.gate import Check, Outcomes, check, judge, renew
from bench.core.errors import BenchError
from bench.records.baseline import read_baseline
from bench.records.runs import load_runs
from bench.report.ci import CheckView, summary_line, to_annotations, to_junit, to_markdown

N = 800
BEFORE = np.repeat([1, 0], [500, 300])


def changed(losses: int, wins: int = 0) -> np.ndarray:
    """What was right before, but for so many samples."""
    now = BEFORE.copy()
    now[:losses] = 0
    now[len(now) - wins :] = 1
    return now


@pytest.fixture
def baseline(make_run, tmp_path: Path) -> Path:
    """Of one run with the outcomes BEFORE."""
    make_run(BEFORE, results=tmp_path / "then")
    path = tmp_path / "baseline.json"
    renew(path, load_runs([tmp_path / "then"])[0])
    return path


def checked(baseline: Path, tmp_path: Path, margin: float = 1.0) -> Check:
    return check(read_baseline(baseline), load_runs([tmp_path / "results"])[0], margin=margin)


def test_a_baseline_is_small_and_keeps_every_outcome(baseline: Path) -> None:
    row = read_baseline(baseline).rows[0]
    assert (row.hits() == [BEFORE]).all()
    assert baseline.stat().st_size < 1500


@pytest.mark.parametrize(
    ("losses", "wins", "status"),
    [
        (3, 3, "pass"),
        (0, 30, "pass"),
        (10, 10, "pass"),
        (24, 0, "regression"),
        (60, 30, "regression"),
        (30, 30, "unknown"),
        (25, 15, "unknown"),
    ],
)
def test_status_follows_the_paired_outcomes(baseline: Path, make_run, tmp_path: Path, losses, wins, status) -> None:
    make_run(changed(losses, wins))
    found = checked(baseline, tmp_path)
    assert (found.status, found.tasks[0].status) == (status, status)
    assert (found.tasks[0].losses, found.tasks[0].wins, found.tasks[0].n) == (losses, wins, N)
    assert found.tasks[0].difference == pytest.approx(100 * (wins - losses) / N)


def test_equal_predictions_pass_however_few_samples_there_are(make_run, tmp_path: Path) -> None:
    make_run([1, 0, 1], results=tmp_path / "then")
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    make_run([1, 0, 1])
    assert checked(tmp_path / "baseline.json", tmp_path, margin=0).status == "pass"


def test_too_few_samples_are_told_with_what_would_do(baseline: Path, make_run, tmp_path: Path) -> None:
    make_run(changed(60, 60))
    found = checked(baseline, tmp_path)
    reason = found.tasks[0].reason
    assert found.exit_code == 2 and "n = 800 is too small for a margin of 1" in reason
    margin = float(reason.partition("--margin ")[2].split()[0])
    assert checked(baseline, tmp_path, margin=margin).status == "pass"


def test_a_drop_within_the_margin_passes(baseline: Path, make_run, tmp_path: Path) -> None:
    make_run(changed(24))
    assert checked(baseline, tmp_path).status == "regression"
    assert checked(baseline, tmp_path, margin=5).status == "pass"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "another"}, "no run of random on digits-motion"),
        ({"task": "another"}, "no run of random on digits-motion"),
        ({"seed": 1}, "seed 0"),
        ({"protocol": "attentive/9"}, "another protocol: attentive/9, top1 / attentive/1 1x1 center, top1"),
    ],
    ids=["model", "task", "seed", "protocol"],
)
def test_missing_and_incomparable_runs_cannot_be_told(baseline, make_run, tmp_path, fields, words: str) -> None:
    make_run(BEFORE, **fields)
    found = checked(baseline, tmp_path)
    assert (found.status, found.exit_code) == ("unknown", 2)
    assert words in found.tasks[0].reason


def test_other_samples_cannot_be_told(baseline: Path, make_run, tmp_path: Path) -> None:
    make_run(BEFORE[:-1])
    assert "799 now, 800 in the baseline" in checked(baseline, tmp_path).tasks[0].reason


def test_missing_predictions_cannot_be_told(baseline: Path, make_run, tmp_path: Path) -> None:
    (make_run(BEFORE) / "predictions.parquet").unlink()
    runs, (problem,) = load_runs([tmp_path / "results"])
    (task,) = check(read_baseline(baseline), runs).tasks
    assert runs == [] and "predictions.parquet is missing" in str(problem)
    assert task.status == "unknown" and "no run of" in task.reason


def test_a_regression_outweighs_what_cannot_be_told(make_run, tmp_path: Path) -> None:
    for model in ("a", "b"):
        make_run(BEFORE, model=model, results=tmp_path / "then")
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    make_run(changed(40), model="b")
    found = checked(tmp_path / "baseline.json", tmp_path)
    assert [row.status for row in found.tasks] == ["unknown", "regression"]
    assert found.exit_code == 1


def test_without_outcomes_scores_are_compared_as_independent_samples(baseline, make_run, tmp_path: Path) -> None:
    content = json.loads(baseline.read_text())
    for name in ("samples", "outcomes", "predictions"):
        del content["rows"][0][name]
    baseline.write_text(json.dumps(content))
    make_run(changed(24))
    found = checked(baseline, tmp_path)
    assert (found.status, found.tasks[0].paired) == ("unknown", False)
    assert found.tasks[0].high - found.tasks[0].low > 7
    make_run(changed(100))
    assert checked(baseline, tmp_path).status == "regression"
    assert checked(baseline, tmp_path, margin=20).status == "pass"


def test_seeds_are_judged_together(make_run, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        make_run(BEFORE, seed=seed, results=tmp_path / "then")
        make_run(changed(9), seed=seed)
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    row = checked(tmp_path / "baseline.json", tmp_path).tasks[0]
    assert (row.status, row.seeds, row.n) == ("regression", [0, 1, 2], N)


def retrained(random: np.random.Generator, seeds: int, share: float = 0.7, n: int = 1000) -> np.ndarray:
    """Outcomes of trainings whose accuracy varies by one point, and which disagree on a tenth of the samples."""
    levels = norm.ppf(random.normal(share, 0.01, (seeds, 1)))
    easy = np.random.default_rng(0).normal(size=n)
    noise = 0.23
    scores = (easy + noise * random.normal(size=(seeds, n))) / np.hypot(1, noise)
    return (scores < levels).astype(np.int64)


def test_an_encoder_that_was_retrained_with_other_seeds_is_no_regression(make_run, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    for seed, right in enumerate(retrained(random, 3)):
        make_run(right, seed=seed, results=tmp_path / "then")
    for seed, right in enumerate(retrained(random, 3)):
        make_run(right, seed=10 + seed)
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    (row,) = read_baseline(tmp_path / "baseline.json").rows
    assert row.probe_seeds == [0, 1, 2] and row.hits().shape == (3, 1000)
    found = checked(tmp_path / "baseline.json", tmp_path).tasks[0]
    assert found.status != "regression"
    assert (found.seeds, found.seeds_now, found.one_probe) == ([0, 1, 2], [10, 11, 12], False)
    assert "trainings" in to_markdown(checked(tmp_path / "baseline.json", tmp_path))


def test_one_training_now_cannot_be_held_against_several_then(make_run, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(BEFORE, seed=seed, results=tmp_path / "then")
    make_run(changed(40))
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    found = checked(tmp_path / "baseline.json", tmp_path).tasks[0]
    assert found.status == "unknown" and "one probe now, and 2 in the baseline" in found.reason


def test_a_baseline_of_one_training_says_so(baseline: Path, make_run, tmp_path: Path) -> None:
    make_run(BEFORE)
    found = checked(baseline, tmp_path)
    assert found.tasks[0].one_probe and "one probe: the baseline has one seed" in to_markdown(found)


@pytest.mark.parametrize("seeds", [3, 5])
def test_retrained_encoders_fail_in_at_most_5_percent_and_a_fall_is_found(seeds: int) -> None:
    random = np.random.default_rng(1)
    equal = [judge([Outcomes(retrained(random, seeds), retrained(random, seeds))], 1.0)[0] for _ in range(400)]
    fell = [
        judge([Outcomes(retrained(random, seeds, 0.72), retrained(random, seeds, 0.69))], 1.0)[0] for _ in range(200)
    ]
    assert equal.count("regression") <= 0.07 * 400
    assert fell.count("regression") >= (0.8 if seeds == 5 else 0.6) * 200
    assert fell.count("pass") <= 0.02 * 200


def test_several_rows_share_the_chance_of_a_false_alarm() -> None:
    # Five losses and no win: p = 0.03 alone, and not enough beside five others.
    few, none = Outcomes(BEFORE[None], changed(5)[None]), Outcomes(BEFORE[None], changed(20, 20)[None])
    assert judge([few], 0.0) == ["regression"]
    assert judge([few, *[none] * 5], 0.0)[0] == "unknown"
    assert judge([few, *[Outcomes(BEFORE[None], BEFORE[None])] * 5], 0.0)[0] == "regression"


def test_false_alarms_and_power_are_as_documented() -> None:
    stream = np.random.RandomState(0)

    def outcomes(drop: float, n: int = 1000, discordance: float = 0.1) -> Outcomes:
        only_then, only_now = (discordance + drop) / 2, (discordance - drop) / 2
        counts = stream.multinomial(n, [0.6, only_then, only_now, 0.4 - discordance])
        then, now = np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)
        return Outcomes(then[None], now[None])

    equal = [judge([outcomes(0.0)], 1.0)[0] for _ in range(600)]
    fell = [judge([outcomes(0.03)], 1.0)[0] for _ in range(300)]
    assert equal.count("regression") <= 0.05 * 600
    assert fell.count("regression") == pytest.approx(0.9 * 300, abs=0.05 * 300)
    assert fell.count("pass") == 0


def test_what_else_changed_is_noted(baseline: Path, make_run, tmp_path: Path) -> None:
    make_run(BEFORE, digests={"encoder": "new", "test_list": "re-encoded"})
    make_run(BEFORE, model="new")
    notes = checked(baseline, tmp_path).notes
    assert any("other weights of the encoder, other bytes of the test files" in note for note in notes)
    assert any("not in the baseline: new on digits-motion" in note for note in notes)


def test_update_tells_what_it_changes_and_is_read_back(make_run, baseline: Path, tmp_path: Path) -> None:
    make_run(changed(8))
    make_run(BEFORE, model="new")
    changes = {change.model: change for change in renew(baseline, load_runs([tmp_path / "results"])[0])}
    assert (changes["random"].what, changes["random"].then, changes["random"].now) == ("renewed", 62.5, 61.5)
    assert changes["new"].what == "added"
    assert checked(baseline, tmp_path).status == "pass"
    assert [path.name for path in tmp_path.glob(".*")] == []


HOSTILE = "<script>alert(1)</script> | 100% \x1b[31m"


@pytest.fixture
def fallen(make_run, tmp_path: Path) -> Check:
    """A regression of a model with a hostile name, a pass, and a missing run."""
    for model in (HOSTILE, "fine", "missing"):
        make_run(BEFORE, model=model, results=tmp_path / "then")
    renew(tmp_path / "baseline.json", load_runs([tmp_path / "then"])[0])
    make_run(changed(40), model=HOSTILE)
    make_run(BEFORE, model="fine")
    return checked(tmp_path / "baseline.json", tmp_path)


def test_reports_tell_every_row_and_keep_names_as_text(fallen: Check) -> None:
    markdown = to_markdown(fallen)
    assert "REGRESSION" in markdown and "&lt;script>" in markdown and "<script>" not in markdown
    root = ElementTree.fromstring(to_junit(fallen))  # noqa: S314 - what this test made itself
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    cases = {case.get("name", "").partition(",")[0]: case for case in root.iter("testcase")}
    assert cases["fine"].find("failure") is None and cases["missing"].find("error") is not None
    failure = next(case.find("failure") for name, case in cases.items() if "script" in name)
    assert failure is not None and "62.5 % then, 57.5 % now, −5.0 points" in failure.get("message", "")
    lines = to_annotations(fallen)
    assert sorted(line.partition(" ")[0] for line in lines) == ["::error", "::warning"]
    assert all("\x1b" not in line and "100%25" in line for line in lines if line.startswith("::error"))
    assert "1 pass, 1 REGRESSION, 1 cannot tell" in summary_line(fallen)


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits(fallen: Check, width: int) -> None:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(CheckView(fallen))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= width
    assert "REGRESSION" in text and "cannot tell" in text and "\x1b[31m" not in text


def test_the_command_has_an_exit_code_for_each_status(bench_command: Run, make_run, baseline, tmp_path: Path) -> None:
    options = ["check", "--baseline", baseline, "--results", tmp_path / "results"]
    make_run(BEFORE, model="other")
    done = bench_command(*options, "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (2, "unknown")
    assert done.stderr.count("\n") == 1 and "no run of random" in done.stderr
    make_run(BEFORE)
    assert bench_command(*options).returncode == 0
    make_run(changed(40))
    reports = ["--github", "--junit", tmp_path / "j.xml", "--summary", tmp_path / "s.md"]
    done = bench_command(*options, *reports)
    assert done.returncode == 1 and "::error" in done.stdout and "REGRESSION" in done.stderr
    assert "REGRESSION" in (tmp_path / "s.md").read_text() and "<failure" in (tmp_path / "j.xml").read_text()


def _spoil(path: Path, kind: str) -> None:
    content = json.loads(path.read_text())
    row = content["rows"][0]
    if kind == "missing":
        path.unlink()
        return
    changes = {"newer": (content, "schema_version", 9), "empty": (content, "rows", []), "bits": (row, "correct", 7)}
    changes |= {"other file": (content, "format", "a"), "short": (row, "outcomes", "AAAA"), "field": (row, "modle", 1)}
    where, key, value = changes.get(kind, (content, "x", 1))
    where[key] = value
    path.write_text(json.dumps(content)[: 40 if kind == "truncated" else None])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such baseline"),
        ("truncated", "not a readable baseline"),
        ("other file", "not a baseline"),
        ("newer", "newer version"),
        ("empty", "no rows"),
        ("bits", "value is not"),
        ("short", "not those of 800 samples"),
        ("field", "modle"),
    ],
)
def test_bad_baselines_are_named(baseline: Path, kind: str, words: str) -> None:
    _spoil(baseline, kind)
    with pytest.raises(BenchError, match=words) as caught:
        read_baseline(baseline)
    assert str(baseline) in str(caught.value)


def test_bad_records_are_named_and_their_rows_cannot_be_told(bench_command: Run, make_run, baseline, tmp_path) -> None:
    folder = make_run(BEFORE)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "schema_version": 99}))
    done = bench_command("check", "--baseline", baseline, "--results", tmp_path / "results")
    assert done.returncode == 2 and "skipped" in done.stderr and "schema 99" in done.stderr
    assert_refused(bench_command("check", "--baseline", baseline, "--results", tmp_path / "none"), "no such folder")
    assert_refused(bench_command("check", "--baseline", baseline, "--margin", -1, "--results", tmp_path / "then"), "-1")


def test_update_overwrites_no_other_file(make_run, tmp_path: Path) -> None:
    make_run(BEFORE)
    path = tmp_path / "package.json"
    path.write_text("{}")
    with pytest.raises(BenchError, match="not a baseline"):
        renew(path, load_runs([tmp_path / "results"])[0])
    assert path.read_text() == "{}"
