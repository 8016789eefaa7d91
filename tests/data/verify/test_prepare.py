"""`bench data prepare` keeps frames, order, labels and times, never touches a source, and does no work twice."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from data.trees import add_row, pictures, write_frames, write_in, write_tree
from PIL import Image
from standins import standin
from support import Run, assert_refused, left_behind, write_video

from bench.cards.load import load_task
from bench.core.errors import BenchError
from bench.core.hashing import file_digest
from bench.core.progress import Silent
from bench.core.workers import guarded_map
from bench.data.dataset import read
from bench.data.formats.lists import read_rows
from bench.data.sample import ListOptions, Sample
from bench.data.verify import prepare as preparing
from bench.data.verify import reencode as making
from bench.data.verify.manifest import FILE, Encoding, Prepared, Row, notes_on, write_list
from bench.data.verify.prepare import MEMORY, Wishes, prepare
from bench.data.verify.reencode import Made, Task
from bench.video.decode import probe_video, read_frames

CARD = load_task("custom")
SMALL = Wishes(short_side=16, gop=2)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data", train=3, test=2)


def ready(tree: Path, wishes: Wishes = SMALL, out: str = "out", **how: Any) -> tuple[Prepared, pd.DataFrame]:
    """Prepare `tree` in a folder beside it, and read the manifest."""
    folder = tree.parent / out
    prepared, _ = prepare(CARD, ListOptions(tree), folder, wishes, Silent(), **{"workers": 0, **how})
    return prepared, pd.read_parquet(folder / "manifest.parquet")


def digests(folder: Path) -> dict[str, str]:
    return {str(path): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_same_order(made: np.ndarray, source: np.ndarray) -> None:
    """Every frame of `made` is most like the frame of `source` with its number, both [n, H, W, 3]."""
    rows = [frames.astype(float).mean(axis=(2, 3)) for frames in (made, source)]  # the bar's place
    places = np.linspace(0, 1, 128)
    fine = [np.array([np.interp(places, np.linspace(0, 1, len(row)), row) for row in part]) for part in rows]
    distances = ((fine[0][:, None] - fine[1][None]) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == np.arange(len(source))).all()


def test_every_frame_is_kept_in_its_place(tree: Path) -> None:
    source = pictures(50, 23, height=47, width=61)
    write_frames(tree / "frames", source)
    write_in(tree / "clips" / "odd.mkv", source, "ffv1", fps=30)
    write_in(tree / "clips" / "tiny.avi", source[:1, :15, :31], "ffv1")
    for name, label in (("frames", 1), ("clips/odd.mkv", 0), ("clips/tiny.avi", 1)):
        add_row(tree, "train", name, label)
    _, rows = ready(tree, Wishes(short_side=32, gop=4, fps=12))
    rows = rows.set_index("id")
    for name, path, fps in (("frames", "frames.mp4", 12), ("clips/odd.mkv", "clips/odd.mp4", 30)):
        info = probe_video(tree.parent / "out" / path)
        assert (info.num_frames, info.fps, info.height, info.width) == (23, fps, 32, 42)
        row = rows.loc[name]
        assert (row.path, row.frames, row.fps, row.height, row.width) == (path, 23, fps, 32, 42)
        assert row.duration_s == pytest.approx(23 / fps)
        assert_same_order(read_frames(tree.parent / "out" / path, range(23)), source)
    assert tuple(rows.loc["clips/tiny.avi", ["frames", "height", "width"]]) == (1, 14, 30)  # not enlarged, but even
    made = read_frames(tree.parent / "out" / "clips" / "train_0.mp4", range(9)).astype(float)
    original = read_frames(tree / "clips" / "train_0.mp4", range(9)).astype(float)
    assert np.abs(made - original).mean() < 3  # of 255: the source is smaller than the new short side


def test_key_frames_are_close_together(tree: Path) -> None:
    write_video(tree / "clips" / "train_0.mp4", pictures(0, 40))
    ready(tree, Wishes(gop=5))
    with av.open(str(tree.parent / "out" / "clips" / "train_0.mp4")) as container:
        keys = [number for number, packet in enumerate(container.demux(video=0)) if packet.size and packet.is_keyframe]
    assert keys[0] == 0 and max(np.diff([*keys, 40])) <= 5 and len(keys) < 40


def test_labels_and_splits_are_kept_and_the_folder_reads_as_the_task(tree: Path) -> None:
    prepared, rows = ready(tree)
    for split in ("train", "test"):
        before, after = read(CARD, tree, split), read(CARD, tree.parent / "out", split)
        assert [(s.id, s.label) for s in before] == [(s.id, s.label) for s in after]
        assert list(rows[rows.split == split].id) == [s.id for s in before]
    assert prepared.samples == 5 and prepared.failed == 0
    for row in rows.itertuples():
        path = tree.parent / "out" / row.path
        assert row.hash == file_digest(path)[:32] and row.bytes == path.stat().st_size


def test_parts_of_videos_are_cut_out_as_a_run_would(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = pictures(60, 40, height=64)
    path = write_in(tree / "long.mkv", source, "ffv1", fps=8)
    # Times are rounded to the nearest of 8 frames a second: 1.3 s is frame 10.4, 2.56 s frame 20.48.
    wanted = {(None, 1.3): (0, 10), (1.3, 2.56): (10, 20), (4.0, None): (32, 40), (1.0, 99.0): (8, 40)}
    times = list(wanted)
    samples = [Sample(f"long#{n}", str(path), n, start, end) for n, (start, end) in enumerate(times)]
    monkeypatch.setattr(preparing, "read_splits", lambda card, where: {"train": samples, "test": samples[:1]})
    _, rows = ready(tree, Wishes(gop=4))
    assert len(set(rows.path)) == 4 and len(rows) == 5
    for row, (first, last) in zip(rows.itertuples(), wanted.values(), strict=False):
        assert row.frames == last - first
        assert_same_order(read_frames(tree.parent / "out" / row.path, range(row.frames)), source[first:last])
    kept = [
        (None if pd.isna(a) else a, None if pd.isna(b) else b) for a, b in zip(rows.start_s, rows.end_s, strict=True)
    ]
    assert kept == [*times, times[0]] and set(rows.source) == {"long.mkv"}
    plain, _ = ready(tree, Wishes(), "plain")
    assert plain.lists == {} and "parts of videos" in plain.notes[0]


def test_without_re_encoding_the_lists_lead_to_the_sources(tree: Path) -> None:
    write_frames(tree / "a folder, with a comma", pictures(5))
    add_row(tree, "val", "a folder, with a comma", 1)
    before = digests(tree)
    prepared, rows = ready(tree, Wishes())
    assert digests(tree) == before and prepared.encoding is None
    assert not list((tree.parent / "out").rglob("*.mp4"))
    lists = ListOptions(tree, tree.parent / "out" / "train.csv", tree.parent / "out" / "val.csv")
    again, _ = prepare(CARD, lists, tree.parent / "again", Wishes(), Silent(), workers=0)
    assert again.source_digest == prepared.source_digest
    assert rows.set_index("id").loc["a folder, with a comma", "frames"] == 9
    assert notes_on(tree.parent / "out") == [] and notes_on(None) == []


@pytest.mark.parametrize("names", [["a b.mp4"], ["a, b.mp4", "c"], ["a, b\tc", "d::e"]])
def test_lists_read_back_whatever_the_names(tmp_path: Path, names: list[str]) -> None:
    rows = [Row(name, name, label, "train") for label, name in enumerate(names)]
    if len(names) == 2 and "\t" in names[0]:
        with pytest.raises(BenchError, match="every delimiter"):
            write_list(tmp_path / "train.csv", rows)
        return
    write_list(tmp_path / "train.csv", rows)
    assert [(s.id, s.label) for s in read_rows(tmp_path / "train.csv").samples()] == [
        (row.id, row.label) for row in rows
    ]


def test_an_interrupted_preparation_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, done = preparing.make, []

    def counted(task: Task, alive: Callable[[], None], most: float = 2) -> Made:
        if len(done) >= most:
            raise KeyboardInterrupt
        done.append(task.name)
        return make(task, alive)

    monkeypatch.setattr(preparing, "make", counted)
    with pytest.raises(KeyboardInterrupt):
        ready(tree)
    assert not (tree.parent / "out" / "manifest.parquet").exists()
    first = digests(tree.parent / "out" / "clips")
    left_behind(tree.parent / "out" / "clips" / ".train_2.mp4.x.part")
    monkeypatch.setattr(preparing, "make", lambda task, alive: counted(task, alive, 5))
    _, rows = ready(tree)
    assert len(done) == len(set(done)) == 5 and first.items() <= digests(tree.parent / "out" / "clips").items()
    assert not list((tree.parent / "out").rglob("*.part"))
    pd.testing.assert_frame_equal(rows, ready(tree)[1])
    monkeypatch.setattr(preparing, "make", lambda task, alive: counted(task, alive, 9))
    write_video(tree / "clips" / "val_1.mp4", pictures(77))
    (tree.parent / "out" / "clips" / "val_0.mp4").write_bytes(b"someone wrote here")
    ready(tree)
    assert sorted(done[5:]) == ["clips/val_0.mp4", "clips/val_1.mp4"]
    ready(tree, Wishes(short_side=16, gop=3), workers=2)
    assert json.loads((tree.parent / "out" / FILE).read_text())["encoding"]["gop"] == 3


def test_the_content_of_a_source_decides_whether_it_is_prepared_again(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = making._encode
    monkeypatch.setattr(making, "_encode", lambda task, *how: (encoded.append(task.name), encode(task, *how)))
    _, first = ready(tree)
    assert len(encoded) == 5
    (tree / "clips" / "train_0.mp4").touch()
    made = tree.parent / "out" / "clips" / "train_2.mp4"
    made.write_bytes(made.read_bytes()[::-1])
    encoded.clear()
    _, again = ready(tree)
    assert encoded == ["clips/train_2.mp4"], "its file was changed; the sources hold what they held"
    pd.testing.assert_frame_equal(first, again)
    other = tree / "clips" / "train_1.mp4"
    before = other.stat()
    write_video(other, pictures(99))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    encoded.clear()
    assert not ready(tree)[1].equals(first) and encoded == ["clips/train_1.mp4"]


def test_what_an_older_version_remembers_is_compared_by_content(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = ready(tree)
    with sqlite3.connect(tree.parent / "out" / MEMORY) as database:
        for name, stamp, value in list(database.execute("SELECT name, stamp, value FROM kept")):
            source, fps, segment, how = json.loads(stamp)
            older = {**json.loads(value), "source_stamp": [5, 7], "stamp": [5, 7]}
            for field in ("source_state", "state", "bytes"):
                del older[field]
            changed = (json.dumps([source, [5, 7], fps, segment, how]), json.dumps(older), name)
            database.execute("UPDATE kept SET stamp = ?, value = ? WHERE name = ?", changed)
    monkeypatch.setattr(making, "_encode", lambda *_: pytest.fail("it was encoded again"))
    pd.testing.assert_frame_equal(first, ready(tree)[1])


def test_equal_commands_give_equal_files(tree: Path) -> None:
    ready(tree, SMALL, "one")
    ready(tree, SMALL, "two", workers=2)
    one, two = (digests(tree.parent / name) for name in ("one", "two"))
    shown = [{Path(path).name: value for path, value in out.items() if "/." not in path} for out in (one, two)]
    assert shown[0] == shown[1] and len(shown[0]) == 5 + 4


def test_eight_preparations_beside_each_other_write_the_same_bytes(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 40, (70, 90, 118, 3), np.uint8)
    cuts = np.where((np.arange(70) // 25 % 2)[:, None, None, None], 215 - noise, noise)
    source = write_in(tmp_path / "source.mkv", cuts.astype(np.uint8), "ffv1", fps=25)
    encoding = preparing._encoding(Wishes(short_side=64, gop=8), Silent())
    tasks = [Task(f"{n}.mp4", str(source), tmp_path, None, (None, None), encoding) for n in range(8)]
    made = [outcome for _, outcome in guarded_map(preparing.make, tasks, workers=4, timeout_s=60, ahead=1)]
    assert [one.problem for one in made] == [None] * 8 and len({one.hash for one in made}) == 1
    with av.open(str(tmp_path / "0.mp4")) as container:
        assert "creation_time" not in container.metadata


def test_what_was_made_of_half_a_video_before_is_not_kept(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = write_in(tree / "clips" / "half.webm", pictures(4, 60), "libvpx-vp9")
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    add_row(tree, "val", "clips/half.webm")
    with monkeypatch.context() as earlier:
        for module in ("bench.video.decode", "bench.data.verify.prepare"):
            earlier.setattr(f"{module}.is_cut_off", lambda path: False)
        _, rows = ready(tree)
        assert rows.problem.isna().all()
    prepared, rows = ready(tree)
    assert prepared.failed == 1 and rows.set_index("id").problem["clips/half.webm"] == "the file is cut off"
    assert not (tree.parent / "out" / "clips" / "half.mp4").exists()


@pytest.mark.parametrize("name", ["moving.webp", "moving.png", "moving.tif"])
def test_an_animation_is_prepared_as_a_video(tree: Path, name: str) -> None:
    source = pictures(50, 23, height=48, width=64)
    first, *others = [Image.fromarray(picture) for picture in source]
    first.save(tree / name, save_all=True, append_images=others, **({} if "tif" in name else {"duration": 40}))
    add_row(tree, "train", name)
    _, rows = ready(tree, Wishes(short_side=32, gop=4, fps=25))
    row = rows.set_index("id").loc[name]
    assert (row.path, row.frames, row.fps, row.height) == ("moving.mp4", 23, 25, 32)
    assert_same_order(read_frames(tree.parent / "out" / row.path, range(23)), source)


def test_what_cannot_be_read_keeps_its_row_and_the_reason(tree: Path) -> None:
    (tree / "clips" / "train_1.mp4").unlink()
    path = tree / "clips" / "val_0.mp4"
    path.write_bytes(path.read_bytes()[:500])
    write_frames(tree / "frames", pictures(1))
    add_row(tree, "val", "frames")
    prepared, rows = ready(tree)
    problems = rows.set_index("id").problem.dropna().to_dict()
    assert problems == {
        "clips/train_1.mp4": "No such file or directory",
        "clips/val_0.mp4": "the file is cut off",
        "frames": "its frame rate is unknown",
    }
    assert prepared.failed == 3 and len(read(CARD, tree.parent / "out", "train")) == 3
    assert not (tree.parent / "out" / "clips" / "val_0.mp4").exists()


def test_lists_and_sources_in_the_folder_of_prepared_data_are_not_overwritten(tree: Path) -> None:
    ready(tree)
    out = tree.parent / "out"
    with pytest.raises(BenchError, match=r"holds .*train.csv, which this command reads"):
        prepare(CARD, ListOptions(tree, out / "train.csv"), out, SMALL, Silent(), workers=0)
    (tree / "clips" / "val_0.mp4").unlink()
    (tree / "clips" / "val_0.mp4").symlink_to(out / "clips" / "val_0.mp4")
    before = digests(out)
    with pytest.raises(BenchError, match="is a source itself"):
        ready(tree, Wishes(short_side=16, gop=3))
    assert digests(out)[str(out / "clips" / "val_0.mp4")] == before[str(out / "clips" / "val_0.mp4")]


@pytest.mark.parametrize("place", ["data", "data/inside", ".", "full", "alike"])
def test_sources_and_other_files_are_never_overwritten(tree: Path, place: str) -> None:
    for name in ("full/thesis.txt", "alike/prepared.json", "alike/.prepare.lock", "alike/.prepare.sqlite"):
        (tree.parent / name).parent.mkdir(exist_ok=True)
        (tree.parent / name).write_text("years of work")
    (tree.parent / "link").symlink_to(tree)
    before = digests(tree.parent)
    for data in (tree, tree.parent / "link"):
        with pytest.raises(BenchError, match=r"never overwritten|holds other files"):
            prepare(CARD, ListOptions(data), tree.parent / place, SMALL, Silent(), workers=0)
    assert digests(tree.parent) == before


def test_two_sources_of_one_name_stay_apart(tree: Path) -> None:
    write_in(tree / "clips" / "train_0.avi", pictures(90), "mpeg4")
    add_row(tree, "train", "clips/train_0.avi")
    _, rows = ready(tree)
    assert {"clips/train_0.avi.mp4", "clips/train_0.mp4.mp4"} < set(rows.path)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file may become larger than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_work_with_one_line(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (30, 128, 128, 3), np.uint8)
    source = write_video(tmp_path / "noise.mp4", noise)
    how = {"crf": 18, "preset": "fast", "tune": "fastdecode", "b_frames": 0, "resize": "bicubic", "pyav": "-"}
    encoding = Encoding(short_side=None, gop=1, **how)
    task = Task("noise.mp4", str(source), tmp_path / "out", None, (None, None), encoding)
    with at_most(20_000), pytest.raises(BenchError, match="cannot be written"):
        preparing.make(task, lambda: None)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("wishes", "words"),
    [(Wishes(gop=0), "--gop: 0 is below 1"), (Wishes(short_side=-3), "--short-side: -3 is below 1")],
)
def test_impossible_wishes_are_refused(tree: Path, wishes: Wishes, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        ready(tree, wishes)
    assert not (tree.parent / "out").exists()


def test_the_next_command_can_be_copied(bench_command: Run, tmp_path: Path) -> None:
    standin("custom", tmp_path / "my data", train=2, test=2)
    out = tmp_path / "its copy"
    done = bench_command("data", "prepare", "custom", "--data", tmp_path / "my data", "--out", out, "--workers", 0)
    arguments = shlex.split(done.stdout.rpartition("next: bench ")[2])
    lists = ["--train", f"{out}/train.csv", "--val", f"{out}/val.csv"]
    assert arguments == ["run", "--task", "custom", "--data", str(tmp_path / "my data"), *lists]


def test_the_command_lists_what_it_could_not_read_and_ends_with_2(bench_command: Run, tree: Path) -> None:
    (tree / "clips" / "train_1.mp4").unlink()
    done = bench_command("data", "prepare", "custom", "--data", tree, "--out", tree.parent / "out", "--workers", 0)
    assert_refused(done, "1 of 5 samples could not be read", "manifest.parquet")
    assert "clips/train_1.mp4" in done.stdout and "No such file" in done.stdout


def test_still_images_are_not_re_encoded(tree: Path) -> None:
    shutil.copy(write_frames(tree / "frames", pictures(1)) / "00001.jpg", tree / "still.jpg")
    add_row(tree, "train", "still.jpg")
    with pytest.raises(BenchError, match="still images"):
        ready(tree)
    assert ready(tree, Wishes())[1].set_index("id").loc["still.jpg", "frames"] == 1


def test_a_run_on_prepared_videos_says_so(bench_command: Run, bright_and_dark: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    smaller = ["--short-side", 15, "--gop", 3, "--workers", 1]
    done = bench_command("data", "prepare", "custom", "--data", bright_and_dark, "--out", out, *smaller)
    assert done.returncode == 0, done.stderr
    assert "--short-side 16 instead of 15" in done.stderr and f"bench run --task custom --data {out}" in done.stdout
    model = ["--model", "pixels", "--probe", "knn", "--set", "probe.neighbours=1"]
    run = bench_command("run", "--task", "custom", "--data", out, *model, "--workers", "1", "--json")
    assert run.returncode == 0, run.stderr
    (record,) = json.loads(run.stdout)
    assert "videos re-encoded by `bench data prepare`: short side 16, GOP 3, libx264 CRF 18" in record["notes"]
    (out / FILE).write_text("{}")
    assert "cannot be read" in notes_on(out)[0]
