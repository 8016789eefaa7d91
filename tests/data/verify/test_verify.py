"""`bench data verify` finds every fault, names its sample, and does no work twice."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.trees import add_row, pictures, write_frames, write_in, write_tree
from PIL import Image
from support import Run, assert_refused, write_video

from bench.cards.load import TaskCard, load_task
from bench.core.progress import Silent
from bench.data.sample import ListOptions, Sample
from bench.data.verify import findings
from bench.data.verify.findings import find_duplicates
from bench.data.verify.verify import Report, verify

CUSTOM = load_task("custom")
CARD = TaskCard(name="bars", title="Bars", classes=("dark", "bright"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data")


def look(folder: Path, card: TaskCard = CARD, **how: object) -> Report:
    cache = folder.parent / "cache"
    cache.mkdir(exist_ok=True)
    return verify(card, ListOptions(folder), cache, Silent(), **{"workers": 0, **how})  # type: ignore[arg-type]


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_sound_data_have_nothing_wrong(tree: Path) -> None:
    write_frames(tree / "frames", pictures(7))
    add_row(tree, "train", "frames", 1)
    Image.fromarray(pictures(8)[0]).save(tree / "still.png")
    add_row(tree, "val", "still.png", 1)
    for full in (False, True):
        report = look(tree, CARD.model_copy(update={"train_size": 7, "test_size": 5}), full=full)
        assert not report.problems and not report.duplicates and not report.misleading
    train, test = report.splits["train"], report.splits["test"]
    assert (train.samples, train.readable, train.class_counts) == (7, 7, [3, 4])
    assert (test.samples, test.readable, test.class_counts) == (5, 5, [2, 3])
    assert train.frames is not None and (train.frames.min, train.frames.max) == (9, 9)
    assert train.short_side is not None and train.short_side.median == 32
    assert train.fps is not None and train.fps.median == 8


def no_end_mark(tree: Path) -> None:
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (64, 64, 3), np.uint8)).save(tree / "odd.jpg")
    halve(tree / "odd.jpg")


def cut(name: str, codec: str) -> Callable[[Path], None]:
    return lambda tree: halve(write_in(tree / name, pictures(3, 60), codec))


def reserved_space(tree: Path) -> None:
    path = write_in(tree / "odd.mkv", np.random.RandomState(0).randint(0, 256, (60, 32, 48, 3), np.uint8), "mpeg4")
    there = path.stat().st_size // 3
    path.write_bytes(path.read_bytes()[:there] + bytes(2 * there))


def moving_frame(tree: Path) -> None:
    frames = [Image.fromarray(picture) for picture in pictures(3)]
    write_frames(tree / "odd", pictures(3))
    frames[0].save(tree / "odd" / "99999.png", save_all=True, append_images=frames[1:])


def cut_animation(tree: Path) -> None:
    frames = [Image.fromarray(picture) for picture in pictures(3)]
    frames[0].save(tree / "odd.webp", save_all=True, append_images=frames[1:])
    halve(tree / "odd.webp")


def empty_frame(tree: Path) -> None:
    (write_frames(tree / "odd", pictures(3)) / "00004.jpg").write_bytes(b"")


FAULTS = {
    "missing": ("odd.mp4", "missing", lambda tree: None),
    "missing folder": ("nowhere/odd.mp4", "missing", lambda tree: None),
    "empty": ("odd.mp4", "empty", lambda tree: (tree / "odd.mp4").touch()),
    "empty folder": ("odd", "empty", lambda tree: (tree / "odd").mkdir()),
    "text": ("odd.mp4", "unreadable", lambda tree: (tree / "odd.mp4").write_text("no video\n" * 900)),
    "cut mp4": ("odd.mp4", "unreadable", cut("odd.mp4", "libx264")),
    "cut mkv": ("odd.mkv", "unreadable", cut("odd.mkv", "libx264")),
    "cut avi": ("odd.avi", "unreadable", cut("odd.avi", "mpeg4")),
    "cut webm": ("odd.webm", "unreadable", cut("odd.webm", "libvpx-vp9")),
    "cut wmv": ("odd.wmv", "unreadable", cut("odd.wmv", "wmv2")),
    "cut flv": ("odd.flv", "unreadable", cut("odd.flv", "flv")),
    "cut animation": ("odd.webp", "unreadable", cut_animation),
    "animation as a frame": ("odd", "unreadable", moving_frame),
    "cut jpg": ("odd.jpg", "unreadable", no_end_mark),
    "zeros": ("odd.mkv", "unreadable", reserved_space),
    "empty frame": ("odd", "unreadable", empty_frame),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_by_its_header_and_named(tree: Path, fault: str) -> None:
    name, kind, make = FAULTS[fault]
    make(tree)
    add_row(tree, "val", name)
    report = look(tree)
    assert [(p.split, p.sample, p.kind) for p in report.problems] == [("test", name, kind)]
    assert getattr(report.splits["test"], kind) == 1 and report.splits["test"].readable == 4
    assert report.misleading == [f"test: 1 {kind}"]


@pytest.mark.parametrize("tail", [b"<!-- added by a proxy -->", bytes(6000)])
@pytest.mark.parametrize("name", ["odd.mp4", "odd.mkv", "odd.avi"])
def test_bytes_behind_the_end_are_no_fault_though_the_sound_outlasts_the_pictures(
    tree: Path, name: str, tail: bytes
) -> None:
    path = write_in(tree / name, pictures(3), "mpeg4", sound_s=4.0)
    path.write_bytes(path.read_bytes() + tail)
    add_row(tree, "val", name)
    assert not look(tree).problems and not look(tree, full=True).problems


def test_an_animation_is_counted_as_a_video(tree: Path) -> None:
    for name in ("moving.webp", "moving.png", "moving.tif"):
        frames = [Image.fromarray(picture) for picture in pictures(3, 20)]
        frames[0].save(tree / name, save_all=True, append_images=frames[1:])
        add_row(tree, "val", name)
        report = look(tree)
        assert not report.problems and report.splits["test"].frames is not None
        if name != "moving.png":  # whose header is read by FFmpeg, which does not tell
            assert report.splits["test"].frames.max == 20
        (tree / "val.csv").write_text((tree / "val.csv").read_text().replace(f"{name} 0\n", ""))


def test_the_same_bytes_are_duplicates_whoever_reads_them(tree: Path) -> None:
    still = write_frames(tree / "frames", pictures(5)) / "00001.jpg"
    for split, name in (("train", "a.jpg"), ("val", "a.mjpg")):
        shutil.copy(still, tree / name)
        add_row(tree, split, name)
    assert look(tree).misleading == ["1 test samples are training samples too"]


def test_only_decoding_finds_a_damaged_frame_in_the_middle(tree: Path) -> None:
    (write_frames(tree / "odd", pictures(3)) / "00004.jpg").write_bytes(b"\xff\xd8 no picture \xff\xd9")
    add_row(tree, "train", "odd")
    assert not look(tree).problems
    assert [(p.sample, p.reason[:9]) for p in look(tree, full=True).problems] == [("odd", "00004.jpg")]


def test_contents_are_compared_within_and_across_splits(tree: Path) -> None:
    clips = tree / "clips"
    shutil.copy(clips / "train_0.mp4", clips / "again.mp4")
    shutil.copy(clips / "train_1.mp4", clips / "leaked.mp4")
    frames = write_frames(tree / "frames", pictures(7))
    shutil.copytree(frames, tree / "copied")
    for split, name in (
        ("train", "clips/again.mp4"),
        ("val", "clips/leaked.mp4"),
        ("train", "frames"),
        ("val", "copied"),
    ):
        add_row(tree, split, name, 1)
    report = look(tree)
    found = {tuple(m.sample for m in twin.members): (twin.across, twin.labels_differ) for twin in report.duplicates}
    assert found == {
        ("clips/train_0.mp4", "clips/again.mp4"): (False, True),
        ("clips/train_1.mp4", "clips/leaked.mp4"): (True, False),
        ("frames", "copied"): (True, False),
    }
    assert report.misleading == ["2 test samples are training samples too"]
    assert "1 with different labels" in report.remarks[0]


def test_equal_ends_alone_make_no_duplicate(tree: Path) -> None:
    data = bytearray(np.random.RandomState(0).bytes(60_000))
    Path(tree / "a.mp4").write_bytes(data)
    data[20_000] ^= 1  # neither at the beginning, nor in the middle, nor at the end
    Path(tree / "b.mp4").write_bytes(data)
    paths = [str(tree / name) for name in ("a.mp4", "b.mp4")]
    rows = np.zeros(2, findings._ROW)
    rows["sample"] = [5, 5]
    found = findings.Findings(paths, rows, {})
    members = [("train", Sample(path, path, 0)) for path in paths]
    assert not find_duplicates(members, np.arange(2), found, tree, lambda done, total: None)  # type: ignore[arg-type]


def test_parts_of_a_video_are_duplicates_only_where_they_overlap_across_splits(tree: Path) -> None:
    path = str(tree / "clips" / "train_0.mp4")
    found = findings.Findings([path], np.zeros(1, findings._ROW), {})
    parts = [("train", 0.0, 2.0), ("train", 1.0, 3.0), ("test", 2.5, 4.0), ("train", 0.0, 2.0), ("test", 4.0, None)]
    members = [(split, Sample(f"{n}", path, 0, start, end)) for n, (split, start, end) in enumerate(parts)]
    twins = find_duplicates(members, np.zeros(5, np.int64), found, tree, lambda done, total: None)  # type: ignore[arg-type]
    assert [[sample.id for _, sample in twin.members] for twin in twins] == [["0", "3"], ["1", "2"]]
    assert [twin.across for twin in twins] == [False, True]


def test_a_file_of_both_lists_is_an_overlap(tree: Path) -> None:
    add_row(tree, "val", "clips/train_2.mp4")
    assert look(tree).misleading == ["1 test samples are training samples too"]


def test_labels_and_counts_that_do_not_fit_the_card(tree: Path) -> None:
    add_row(tree, "val", "clips/extra.mp4", 5)
    write_video(tree / "clips" / "extra.mp4", pictures(55))
    (tree / "train.csv").write_text("clips/train_0.mp4 0\nclips/train_2.mp4 0\n")
    report = look(tree, CARD.model_copy(update={"train_size": 6}))
    assert [(p.sample, p.kind) for p in report.problems] == [("clips/extra.mp4", "label")]
    assert report.misleading == [
        "train: 2 samples listed, the official split has 6",
        "test: 1 with a label outside the classes",
        "1 of 2 classes has no training sample, and 2 test samples are of it: bright",
    ]
    assert "train: 1 classes have no sample: bright" in report.remarks


def relabel(tree: Path, **new: int) -> None:
    """Other numbers for the labels 0 and 1 of both lists."""
    for split in ("train", "val"):
        rows = [row.rsplit(" ", 1) for row in (tree / f"{split}.csv").read_text().splitlines()]
        (tree / f"{split}.csv").write_text("".join(f"{name} {new[f'to_{label}']}\n" for name, label in rows))


@pytest.mark.parametrize(
    ("zero", "one", "words"),
    [
        (
            1,
            2,
            [
                "no sample has label 0: the labels seem to count from 1",
                "1 of 3 classes has no sample in either split: 0",
            ],
        ),
        (0, 3, ["2 of 4 classes have no sample in either split: 1, 2"]),
    ],
)
def test_classes_that_no_sample_has_would_mislead(tree: Path, zero: int, one: int, words: list[str]) -> None:
    relabel(tree, to_0=zero, to_1=one)
    assert look(tree, CUSTOM).misleading == words


def test_files_that_class_folders_leave_out_are_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number, name in enumerate(("train/dark", "train/bright", "val/dark", "val/bright")):
        write_video(data / name / "a.mp4", pictures(number))
    (data / "train" / "dark" / "notes.txt").write_text("x")
    report = look(data, CUSTOM)
    assert report.class_names == ["bright", "dark"] and not report.misleading
    assert report.remarks[0] == "train: 1 files with other endings in class folders are left out: 1 .txt"


@pytest.mark.parametrize(("labels", "wrong"), [((0, 1), False), ((1, 0), True)])
def test_folders_named_after_classes_tell_a_wrong_order(tmp_path: Path, labels: tuple[int, int], wrong: bool) -> None:
    folder = tmp_path / "data"
    for split in ("train", "val"):
        rows = []
        for seed, (name, label) in enumerate(zip(("Dark", "bright_"), labels, strict=True)):
            write_video(folder / split / name / "a.mp4", pictures(seed + 10 * len(split)))
            rows.append(f"{split}/{name}/a.mp4 {label}\n")
        (folder / f"{split}.csv").write_text("".join(rows))
    report = look(folder)
    assert bool(report.misleading) == wrong
    if wrong:
        assert (
            "2 samples have another label" in report.misleading[0]
            and "'Dark': 1, by the card 0" in report.misleading[0]
        )


def test_a_check_that_was_interrupted_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    check = findings.check

    def counted(task: findings.Check, alive: Callable[[], None]) -> findings.Checked:
        if len(looked_at) == 4:
            raise KeyboardInterrupt
        looked_at.append(Path(task.path).name)
        return check(task, alive)

    monkeypatch.setattr(findings, "check", counted)
    with pytest.raises(KeyboardInterrupt):
        look(tree)
    first, looked_at = looked_at, []
    monkeypatch.setattr(
        findings, "check", lambda task, alive: looked_at.append(Path(task.path).name) or check(task, alive)
    )
    halve(tree / "clips" / first[1])
    report = look(tree)
    assert len(first) == 4 and set(first) & set(looked_at) == {first[1]}
    assert len(looked_at) == 7
    looked_at.clear()
    assert look(tree) == report and not looked_at
    assert look(tree, full=True).full and len(looked_at) == 10
    looked_at.clear()
    assert look(tree).problems == report.problems and not looked_at


@pytest.mark.parametrize("full", [False, True])
def test_a_file_replaced_by_one_of_its_size_and_time_is_checked_again(tree: Path, full: bool) -> None:
    path = tree / "clips" / "val_3.mp4"
    assert not look(tree, full=full).problems
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(tree, full=full).problems


def test_a_damaged_memory_starts_anew(tree: Path) -> None:
    first = look(tree)
    (tree.parent / "cache" / findings._MEMORY).write_bytes(b"no database" * 500)
    assert look(tree) == first


def test_processes_find_the_same(tree: Path) -> None:
    (tree / "clips" / "val_3.mp4").write_bytes(b"")
    assert look(tree, workers=2, full=True) == look(tree, full=True)


def test_the_command_prints_a_table_writes_a_report_and_ends_with_2(bench_command: Run, tree: Path) -> None:
    (tree / "clips" / "val_3.mp4").unlink()
    card = tree / "bars.yaml"
    card.write_text("name: bars\ntitle: Bars\nclasses: [dark, bright]\n")
    done = bench_command("data", "verify", card, "--data", tree, "--report", tree / "report.json", "--workers", 1)
    assert_refused(done, "task bars: a score on this data would mislead: test: 1 missing")
    assert "clips/val_3.mp4" in done.stdout and "no such file" in done.stdout
    report = Report.model_validate_json((tree / "report.json").read_text())
    assert report.schema_version == 1 and report.splits["test"].missing == 1
    printed = bench_command("data", "verify", card, "--data", tree, "--json", "--workers", 1)
    assert printed.returncode == 2 and json.loads(printed.stdout) == json.loads((tree / "report.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ssv3", "--data", "."], ["unknown task 'ssv3'", "ssv2"]),
        (["ssv2", "--data", "nowhere"], ["nowhere: no such data folder", "--data"]),
        (["ssv2"], ["ssv2 needs your data"]),
        (["digits-motion"], ["makes its own data"]),
        (["custom", "--data", "."], ["no such list"]),
        (["custom", "--data", ".", "--report", "."], ["--report .: is a folder", "name a file"]),
        (["custom", "--data", ".", "--report", "/dev/null/r.json"], ["cannot write here", "--report"]),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(bench_command: Run, arguments: list[str], words: list[str]) -> None:
    assert_refused(bench_command("data", "verify", *arguments), *words)


def test_neither_command_imports_torch(bench_process: Run, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    done = bench_process("data", "verify", "custom", "--data", tree, "--workers", 0)
    assert done.returncode == 0 and " torch\n" not in done.stderr and "typer" in done.stderr


@pytest.mark.parametrize("command", ["verify", "prepare"])
def test_help_has_an_example(bench_process: Run, command: str) -> None:
    done = bench_process("data", command, "--help")
    assert done.returncode == 0 and f"Example: bench data {command} ssv2" in done.stdout
