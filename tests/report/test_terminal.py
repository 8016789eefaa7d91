"""Tables lose no number at any sensible width, and names from records stay plain text."""

from __future__ import annotations

import io
import re
from itertools import product

import pytest
from rich.console import Console

from bench.analysis.board import Leaderboard
from bench.analysis.leaderboard import build
from bench.analysis.published import PublishedScore, Section
from bench.analysis.select import Choice, load_board
from bench.analysis.sheet import duration
from bench.core.types import FrameOrder
from bench.metrics.accuracy import score_of
from bench.metrics.score import Control, FewerLabels, MotionShare, OrderDifference, Score
from bench.records.schema import Cost, Record
from bench.report.terminal import further_tables, published_to_rich, to_rich

MODELS = ["vitl16", "vitg16_384", "timm/vit_large_patch14_dinov2.lvd142m", "videomae", "random", "pixels"]
TASKS = [
    ("ssv2", "motion"),
    ("diving48", "motion"),
    ("k400", "appearance"),
    ("coin", "appearance"),
    ("my-own", None),
]


def printed(renderable: object, width: int = 100) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.fixture
def default_board(make_record) -> Leaderboard:
    """What a new user sees first: two encoders on two tasks."""
    tasks = [("digits-motion", "motion"), ("digits-appearance", "appearance")]
    return build(
        [
            make_record(model=model, task=task, axis=axis, correct=100 * number + 50)
            for number, (model, (task, axis)) in enumerate(product(["random", "pixels"], tasks))
        ]
    )


@pytest.fixture
def large_board(make_record) -> Leaderboard:
    """Six encoders, five tasks, two probes, each score different, some with seeds, one missing."""
    records = [
        make_record(
            model=model,
            task=task,
            axis=axis,
            probe=probe,
            seed=seed,
            correct=5_000 + 123 * number + 11 * seed,
            n=24_777,
            created="2026-01-02T03:04:05Z",
        )
        for number, (model, (task, axis), probe) in enumerate(product(MODELS, TASKS, ["attentive", "knn"]))
        for seed in range(3 if task == "diving48" and model == "vitl16" else 1)
        if (model, task) != ("pixels", "coin")
    ]
    return build(records)


@pytest.mark.parametrize("width", [80, 100])
def test_the_default_board_fits_in_one_table(default_board, width: int) -> None:
    text = printed(to_rich(default_board), width)
    lines = text.splitlines()
    assert sum(line.startswith("pixels") for line in lines) == 1
    assert re.search(r"pixels +50\.0 45\.6–54\.4 +70\.0 65\.8–73\.9 +\S+ +2,468 +6 s", text)
    assert lines[2].split() == ["Motion", "Appearance", "Lead", "Cost"]
    assert lines[3].split() == ["digits-motion", "digits-appearance"]
    assert "all scores: encoder input 8x16px" in text
    assert "attentive/1 1x1 center" in text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_number_is_cut_at_any_width(large_board, width: int) -> None:
    text = printed(to_rich(large_board), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in large_board.rows:
        for cell in row.cells.values():
            assert f"{cell.value:.1f} {cell.low:.1f}–{cell.high:.1f}" in text
            if cell.spread is not None:
                assert f"sd {cell.spread:.1f}, 3 seeds" in text
        for mean in large_board.means:
            assert f"{mean.of(row):.1f}" in text
        assert f"{row.encoder_clips:,}" in text


def test_every_table_of_a_cut_board_names_models_group_and_column(large_board) -> None:
    tables = printed(to_rich(large_board), 80).split("\nmodel ")[1:]
    assert len(tables) > 2
    for name in ("vitl16", "videomae", "pixels"):
        assert all(re.search(rf"^{name}", table, re.MULTILINE) for table in tables)


def test_a_missing_score_is_a_dash(large_board) -> None:
    lines = printed(to_rich(large_board), 300).splitlines()
    assert next(line for line in lines if line.startswith("pixels")).count("—") == 2


def test_protocols_are_told_apart_in_headings_and_legend(make_record) -> None:
    board = build([make_record(protocol="attentive/1 1x1"), make_record(protocol="attentive/2 2x3")])
    text = printed(to_rich(board))
    assert re.search(r"attentive P1 +attentive P2", text)
    assert re.search(r"P1 +attentive/1 1x1\s+P2 +attentive/2 2x3", text)


def test_columns_that_read_alike_say_what_differs(make_record) -> None:
    text = printed(to_rich(build([make_record(), make_record(num_train=50)])))
    assert "2,000 train" in text
    assert "50 train" in text
    lists = [{"encoder": "e", "train_list": "aaaaaaaa", "test_list": name} for name in ("bbbbbbbb", "cccccccc")]
    text = printed(to_rich(build([make_record(digests=digests) for digests in lists])))
    assert "lists aaaaa/bbbbb" in text
    assert "lists aaaaa/ccccc" in text


def test_footnotes_are_numbered_and_superseded_runs_counted(make_record) -> None:
    records = [make_record(model="a"), make_record(model="a"), make_record(model="b", notes=["mind the gap"])]
    text = printed(to_rich(build(records)))
    assert re.search(r"^b ²", text, re.MULTILINE)
    assert re.search(r"^ +2 +mind the gap", text, re.MULTILINE)
    assert "1 older run " in text


@pytest.mark.parametrize("name", ["[red]x", "[/]", "[link=http://x]y", ":smile:", "a|b", "視頻編碼器"])
def test_names_are_plain_text(make_record, name: str) -> None:
    text = printed(to_rich(build([make_record(model=name, task=name, notes=[f"note {name}"])])))
    assert text.count(name) == 3


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\tb", "a\u202eb"])
def test_names_move_no_cursor(make_record, name: str) -> None:
    text = printed(to_rich(build([make_record(model=name, task=name, notes=[name])])))
    assert name not in text
    assert text.count("a�") == 3


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("num_tasks", [1, 3, 5])
def test_ranks_differences_and_coverage_stand_with_the_score(
    make_record, save_run, tmp_path, width: int, num_tasks: int
) -> None:
    for task, axis in TASKS[:num_tasks]:
        for number, model in enumerate(MODELS[:3]):
            for seed in range(2 if number == 0 else 1):
                fields = {"model": model, "task": task, "axis": axis, "seed": seed}
                hardware = {"device": "cpu" if number else "cuda:0"}
                failed = 10 if number == 2 else 0
                record = make_record(
                    correct=400 - 90 * number, n=500 - failed, failed=failed, hardware=hardware, **fields
                )
                save_run(tmp_path, record)
    board, _ = load_board([tmp_path], choice=Choice(reference=MODELS[1]))
    text = printed(to_rich(board), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("80.0 76.5–83.5 #1") == text.count("+18.0 [+14.9, +21.6]") == num_tasks
    assert text.count("sd 0.0, 2 seeds") == text.count("98.0 % read") == num_tasks
    assert len(re.findall(r"62\.0 57\.\d–66\.\d #2", text)) == num_tasks
    assert re.search(rf"below +difference from {re.escape(MODELS[1])}", text)
    assert re.search(r"\d s GPU", text) and re.search(r"\d s CPU", text)


def test_a_row_shows_what_samples_and_what_trainings_move(make_record) -> None:
    several = [make_record(model="several", seed=seed, correct=300 + 10 * seed) for seed in range(3)]
    text = printed(to_rich(build([*several, make_record(model="single")])))
    assert all(
        words in text for words in ("se 2.2", "sd 2.0, 3 seeds", "one probe", "Student's t over samples and seeds")
    )
    alone = printed(to_rich(build([make_record(model="single")])))
    assert "se 2.2" not in alone and alone.count("one probe") == 1


def test_a_board_on_one_kind_of_device_says_it_in_the_heading(make_record) -> None:
    assert "time, GPU" in printed(to_rich(build([make_record(hardware={"device": "cuda:1"})])))


def test_an_empty_board_says_so() -> None:
    assert printed(to_rich(build([]))) == "No scores.\n"


@pytest.mark.parametrize("width", [80, 100])
def test_published_scores_come_with_their_source(width: int) -> None:
    score = PublishedScore("V-JEPA 2", "ViT-g/16", "384 px", "attentive-4block", "64x2x3", 77.3, "2506.09985 [Table 4]")
    text = printed(published_to_rich([Section("ssv2", (score,), 9)]), width)
    assert re.search(r"77\.3 +attentive-4block +64x2x3 at 384 px", text)
    assert "1 of 9" in text
    assert all(word in text for word in ("V-JEPA 2,", "ViT-g/16", "2506.09985", "[Table", "4]"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (99.5, "1.7 min"),
        (3600, "60.0 min"),
        (5970, "1.7 h"),
        (360_000, "100.0 h"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def score(correct: int) -> Score:
    labels = [0] * 200
    return score_of("top1", labels, [[1, 0]] * correct + [[0, 1]] * (200 - correct), failed=0)


def control(frames: FrameOrder, trained_on: FrameOrder, correct: int, lost: OrderDifference | None = None) -> Control:
    return Control(frames=frames, trained_on=trained_on, score=score(correct), difference=lost)


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
            control("shuffled", "shuffled", 100, OrderDifference(value=30.0, low=22.1, high=37.0, n=200)),
            control("shuffled", "ordered", 90),
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


def further(*records: Record, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in further_tables(records):
        console.print(part)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_controls_and_fewer_labels_in_80_columns(record: Record) -> None:
    text = further(record)
    assert "Frame order: digits-motion, chance 12.5" in text
    assert "vjepa-nano 80.0 50.0/45.0 12.5/12.0 79.0/2.0 44 39–51 100 95–106" in text
    assert "lost without lost with" not in text and "owed" not in text
    lost, scores = text.index("Ordered minus other frame orders: digits-motion"), text.index("Frame order: digits")
    assert lost < scores and "vjepa-nano a +30.0 [+22.1, +37.0] +67.5 +1.0" in text
    assert "vjepa-nano b +35.0 +68.0 +78.0" in text
    assert "all 50% 10% 5%" in text and "model 1600 800 160 80" in text
    assert "vjepa-nano 80.0 76.0 ±1.0 (-4.0) 60.0 ±5.0 (-20.0) 45.0 ±15.0 (-35.0)" in text


def test_each_task_has_a_table_and_what_was_not_measured_is_left_out(record: Record) -> None:
    given = record.model_copy(
        update={"task": "mine", "controls": [record.controls[0], record.controls[6]], "motion_shares": []}
    )
    text = further(record, given.model_copy(update={"fewer_labels": []}))
    assert "Frame order: mine\n" in text and "vjepa-nano 80.0 -/2.0\n" in text
    assert text.count("Fewer labels: ") == 1


def test_shares_of_scores_near_chance_are_hidden(record: Record) -> None:
    text = further(record.model_copy(update={"scores": [score(64)]}))
    assert "79.0/2.0 - -" in text and "44 39–51" not in text
    assert "less than 20 points above chance" in " ".join(text.split())


def test_nothing_is_printed_for_a_run_without_them(record: Record) -> None:
    assert further(record.model_copy(update={"controls": [], "motion_shares": [], "fewer_labels": []})) == ""


def test_names_are_plain_text_and_long_ones_wrap(record: Record) -> None:
    name = "[bold]a-very-long-name-of-a-checkpoint-of-nobody[/bold]"
    text = further(record.model_copy(update={"model": name}))
    assert "100 95–106" in text and "[bold]" in text
