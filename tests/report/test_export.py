"""What other programs read: every score once, names unharmed or escaped."""

from __future__ import annotations

import csv
import io
import json

import pytest

from bench.analysis.leaderboard import build
from bench.analysis.published import PublishedScore, Section
from bench.analysis.select import Choice, load_board
from bench.report.export import published_to_markdown, to_csv, to_json, to_latex, to_markdown, to_rows
from bench.report.html import to_html

KEYS = {"model", "task", "axis", "probe", "protocol", "metric", "value", "low", "high", "n", "failed", "seed"} | {
    "seeds",
    "sampling_se",
    "training_sd",
    "rank",
    "rank_low",
    "rank_high",
}


@pytest.fixture
def board(make_record):
    return build(
        [
            make_record(model='v,"1"', seed=0, correct=310, n=499, failed=1, notes=["one", "two; three"]),
            make_record(model='v,"1"', seed=1, correct=290),
            make_record(model="pixels", axis=None, correct=100),
            make_record(model="pixels", axis=None, correct=200),
        ]
    )


def test_json_has_one_object_for_each_score(board) -> None:
    rows = json.loads(to_json(board))
    assert all(set(row) >= KEYS for row in rows)
    assert [(row["model"], row["seed"], row["failed"]) for row in rows] == [
        ('v,"1"', 0, 1),
        ('v,"1"', 1, 0),
        ("pixels", 0, 0),
    ]
    assert rows[0]["value"] == pytest.approx(100 * 310 / 499)
    assert rows[2]["value"] == 40
    assert rows[2]["axis"] is None
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 100 for row in rows)
    assert rows[0]["notes"] == ["one", "two; three"]


def test_scores_tell_coverage_device_rank_and_what_was_seen_before(make_record, save_run, tmp_path) -> None:
    digits = {"task": {"data": "digits"}}
    save_run(tmp_path, make_record(model="vjepa-nano", correct=400, resolved=digits, hardware={"device": "cuda:0"}))
    save_run(tmp_path, make_record(model="random", correct=200, n=400, failed=100, resolved=digits))
    board, _ = load_board([tmp_path], choice=Choice(reference="random"))
    first, second = to_rows(board)
    assert (first["rank"], first["pretrained_on_task"], first["device"]) == (1, "unlabelled", "cuda:0")
    assert first["difference_low"] < first["difference"] < first["difference_high"]
    assert (first["reference"], first["coverage"]) == ("random", 1)
    assert (second["rank"], second["pretrained_on_task"], second["coverage"]) == (2, None, 0.8)
    assert (second["reference"], second["difference"]) == (None, None)
    shown = to_markdown(board)
    assert [(row["rank_low"], row["rank_high"]) for row in (first, second)] == [(1, 1), (2, 2)]
    assert "rank 1" in shown and "80.0 % read" in shown and "#1" not in shown


def test_ranks_that_overlap_are_shown_as_such_in_every_format(make_record, save_run, tmp_path) -> None:
    for model, correct in (("best", 450), ("twin", 449), ("weak", 200)):
        save_run(tmp_path, make_record(model=model, correct=correct))
    board, _ = load_board([tmp_path])
    # The samples that the twins get right differ in one.
    assert {row["model"]: (row["rank"], row["rank_low"], row["rank_high"]) for row in to_rows(board)} == {
        "best": (1, 1, 2),
        "twin": (1, 1, 2),
        "weak": (3, 3, 3),
    }
    assert "rank 1-2" in to_markdown(board) and "rank 3" in to_markdown(board)
    assert r"\#1-2" in to_latex(board) and "#1-2" in to_html(board)
    for text in (to_markdown(board), to_latex(board), to_html(board)):
        assert "the ranks that a model may have" in text


def test_csv_holds_the_same_fields(board) -> None:
    rows = to_rows(board)
    read = list(csv.DictReader(io.StringIO(to_csv(board))))
    of_lead = {f"motion_lead_{name}" for name in ("low", "high", "reference")}  # beside its value, not within it
    assert [[name for name in row if name not in of_lead] for row in read] == [list(row) for row in rows]
    assert [row["model"] for row in read] == [row["model"] for row in rows]
    assert [float(row["value"]) for row in read] == [row["value"] for row in rows]
    assert read[0]["notes"] == "one; two; three"


def test_an_empty_board_exports_nothing() -> None:
    assert json.loads(to_json(build([]))) == []
    assert to_csv(build([])) == ""
    assert to_markdown(build([])) == "No scores.\n"


def cells(line: str) -> list[str]:
    return line.replace(r"\|", "").strip("|").split("|")


def test_markdown_is_one_table_with_legend_and_footnotes(make_record) -> None:
    records = [make_record(model="a", correct=400, notes=["look"]), make_record(model="b", n=498, failed=2)]
    text = to_markdown(build([*records, make_record(model="b", task="ssv2")]))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(cells(line)) for line in table}) == 1
    assert "Motion<br>digits-motion<br>attentive<br>n = 500" in table[0]
    assert table[2].startswith("| a <sup>2</sup> | **80.0** 76.3–83.3 | — |")
    assert "60.2 55.9–64.4 <sup>3</sup>" in table[3]
    assert "- <sup>2</sup> look" in text
    assert "- <sup>3</sup> 2 of 500 test samples could not be read" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("<b>*x*`", r"&lt;b>\*x\*\`"),
        ("a\\|b", r"a\\\|b"),
        ("a\nb\x1b[0m", r"a�b�\[0m"),
        ("vit_large", "vit_large"),
    ],
)
def test_markdown_shows_names_as_they_are(make_record, name: str, shown: str) -> None:
    text = to_markdown(build([make_record(model=name, task=name, notes=[name])]))
    assert text.count(shown) == 3
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 3


def test_published_scores_have_their_own_markdown_table() -> None:
    score = PublishedScore("V|JEPA", "", "", "attentive", "", 69.5, "2404.08471 Table 6")
    text = published_to_markdown([Section("ssv2", (score,), 3)])
    assert r"| V\|JEPA | 69.5 | attentive | — | 2404.08471 Table 6 |" in text
    assert "Published for ssv2" in text
    assert "1 of 3" in text
