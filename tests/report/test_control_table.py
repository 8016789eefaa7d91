"""The tables below the leaderboard: plain text with the numbers of the records, within 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench.core.types import FrameOrder
from bench.metrics.accuracy import score_of
from bench.metrics.score import Control, FewerLabels, MotionShare, Score
from bench.records.schema import Cost, Record
from bench.report.control_table import further_tables


def score(correct: int) -> Score:
    labels = [0] * 200
    return score_of("top1", labels, [[1, 0]] * correct + [[0, 1]] * (200 - correct), failed=0)


def control(frames: FrameOrder, trained_on: FrameOrder, correct: int) -> Control:
    return Control(frames=frames, trained_on=trained_on, score=score(correct))


@pytest.fixture
def record() -> Record:
    cost = Cost(
        encoder_clips=1, cached_clips=0, extract_s=1, probe_s=1, total_s=1, peak_memory_bytes=1, feature_bytes=1
    )
    return Record(
        run_id="r", created="2026-01-02T03:04:05+00:00", task="digits-motion", axis="motion", model="vjepa-nano",
        probe="linear", protocol="linear/1", seed=0, input="8x16px", num_train=1600, num_classes=2,
        class_names=["a", "b"], scores=[score(160)], heads=[], failures=[], notes=[], arguments={}, resolved={},
        digests={}, versions={}, hardware={}, git_revision=None, cost=cost,
        controls=[
            control("ordered", "ordered", 160),
            control("shuffled", "shuffled", 100), control("shuffled", "ordered", 90),
            control("static", "static", 25), control("static", "ordered", 24),
            control("reversed", "reversed", 158), control("reversed", "ordered", 4),
        ],
        motion_shares=[
            MotionShare(without="order", value=0.444, low=0.39, high=0.51, chance=12.5),
            MotionShare(without="motion", value=1.0, low=0.95, high=1.064, chance=12.5),
        ],
        fewer_labels=[
            FewerLabels(share=share, draw=draw, num_train=int(1600 * share), score=score(correct))
            for share, all_correct in ((0.5, (150, 152, 154)), (0.1, (110, 120, 130)), (0.05, (60, 90, 120)))
            for draw, correct in enumerate(all_correct)
        ],
    )  # fmt: skip


def printed(*records: Record, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in further_tables(records):
        console.print(part)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_controls_and_fewer_labels_in_80_columns(record: Record) -> None:
    text = printed(record)
    assert "Frame order: digits-motion, chance 12.5" in text
    assert "vjepa-nano 80.0 50.0/45.0 12.5/12.0 79.0/2.0 44 39–51 100 95–106" in text
    assert "all 50% 10% 5%" in text and "model 1600 800 160 80" in text
    assert "vjepa-nano 80.0 76.0 ±1.0 (-4.0) 60.0 ±5.0 (-20.0) 45.0 ±15.0 (-35.0)" in text


def test_each_task_has_a_table_and_what_was_not_measured_is_left_out(record: Record) -> None:
    given = record.model_copy(
        update={"task": "mine", "controls": [record.controls[0], record.controls[6]], "motion_shares": []}
    )
    text = printed(record, given.model_copy(update={"fewer_labels": []}))
    assert "Frame order: mine\n" in text and "vjepa-nano 80.0 -/2.0\n" in text
    assert text.count("Fewer labels: ") == 1


def test_nothing_is_printed_for_a_run_without_them(record: Record) -> None:
    assert printed(record.model_copy(update={"controls": [], "motion_shares": [], "fewer_labels": []})) == ""


def test_names_are_plain_text_and_long_ones_wrap(record: Record) -> None:
    name = "[bold]a-very-long-name-of-a-checkpoint-of-nobody[/bold]"
    text = printed(record.model_copy(update={"model": name}))
    assert "100 95–106" in text and "[bold]" in text
