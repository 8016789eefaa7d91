"""What a run would refuse late is refused before a clip is encoded, by the run and the dry run alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from data.trees import pictures, write_frames
from support import write_video

from bench import BenchError
from bench.core.progress import Silent
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import RunPlan, check_all_ready, check_ready, make_plan
from bench.pipeline.run import evaluate
from bench.tasks.options import make_options


def plan(folder: Path, train: str, val: str = "v 0\nw 1\n", **options: Any) -> RunPlan:
    """A plan on lists of videos of these names, all of which are there."""
    for split, text in (("train", train), ("val", val)):
        rows = [row.split() for row in text.splitlines()]
        for number, (name, _) in enumerate(rows):
            if not (folder / f"{name}.mp4").exists():
                write_video(folder / f"{name}.mp4", pictures(number))
        (folder / f"{split}.csv").write_text("".join(f"{name}.mp4 {label}\n" for name, label in rows))
    given = {
        "task": "custom",
        "data": folder,
        "model": "pixels",
        "cache": folder / "cache",
        "results": folder / "results",
    }
    return make_plan(make_options({**given, **options}))


EIGHT = "".join(f"a{k} {k % 2}\n" for k in range(8))


@pytest.mark.parametrize(
    ("train", "options", "words"),
    [
        (EIGHT, {"probe": "knn"}, "only 6 training samples"),
        ("a 0\nb 1\n", {}, "leave none to choose a setting on"),
        ("a 1\nb 1\nc 1\n", {"probe": "linear"}, "of one class, '1'"),
    ],
)
def test_samples_that_are_too_few_are_refused_by_run_and_dry_run(
    tmp_path: Path, train: str, options: dict[str, Any], words: str
) -> None:
    made = plan(tmp_path, train, **options)
    for act in (forecast, check_ready, lambda one: check_all_ready([one])):
        with pytest.raises(BenchError, match=words):
            act(made)
    with pytest.raises(BenchError, match=words):
        evaluate(
            **{name: getattr(made.options, name) for name in ("task", "data", "model", "cache", "results", "probe")}
        )
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_neighbours_that_fit_are_ready(tmp_path: Path) -> None:
    files = check_ready(plan(tmp_path, EIGHT, probe="knn", settings={"probe.neighbours": [1, 6]}))
    assert [part.present for part in files] == [8, 2]


def test_missing_files_are_refused_before_the_others_are_encoded(tmp_path: Path) -> None:
    made = plan(tmp_path, EIGHT, probe="linear")
    (tmp_path / "a3.mp4").unlink()
    for act in (forecast, check_ready):
        with pytest.raises(BenchError, match="1 of 8 training files are missing or empty"):
            act(made)


def test_folders_of_frames_without_a_rate_are_no_clips_by_the_second(tmp_path: Path) -> None:
    made = plan(tmp_path, EIGHT, probe="linear", settings={"clip.fps": 4})
    check_ready(made)
    (tmp_path / "a3.mp4").unlink()
    write_frames(tmp_path / "a3.mp4", pictures(3))
    with pytest.raises(BenchError, match=r"1 of 8 samples are folders of frames without a rate.* 'a3.mp4'"):
        check_ready(made)


def test_the_plans_of_several_tasks_are_all_asked_before_the_first_begins(tmp_path: Path) -> None:
    good = plan(tmp_path, EIGHT, probe="linear")
    bad = plan(tmp_path, EIGHT, probe="knn")
    with pytest.raises(BenchError, match="neighbours"):
        check_all_ready([good, bad])


def test_what_the_lists_lack_is_said_first_and_noted_in_the_record(tmp_path: Path) -> None:
    class Said(Silent):
        lines: list[str] = []  # noqa: RUF012 - of one test

        def say(self, line: str) -> None:
            self.lines.append(line)

    options = plan(tmp_path, EIGHT.replace(" 1", " 2"), val="v 0\nw 2\n").options
    settings = {"probe.lr": 0.03, "probe.weight_decay": 0.01}
    given = {name: getattr(options, name) for name in ("task", "data", "model", "cache", "results")}
    record = evaluate(**given, probe="linear", settings=settings, workers=0, reporter=Said())
    note = "1 of 3 classes has no sample in either split: 1"
    assert note in record.notes and Said.lines[0] == f"custom: {note}"
