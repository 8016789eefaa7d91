"""The command line as a user meets it: what it prints, and one clear line for whatever is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support import GOLDEN, ROOT, Run, assert_refused, write_video

from bench.cards.load import probe_names, task_names
from bench.cli.options import parse_settings

pytestmark = pytest.mark.slow

QUICK = (
    "--set=probe.epochs=8",
    "--set=probe.min_steps=40",
    "--set=probe.lr=1e-2",
    "--workers=1",
    "--name",
    "brightness",
)


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "extract",
        "estimate",
        "pretrain",
        "leaderboard",
        "compare",
        "check",
        "tasks",
        "models",
        "fetch",
        "probes",
        "doctor",
    ],
)
def test_help_has_an_example(bench_command: Run, command: str) -> None:
    done = bench_command(command, "--help")
    assert done.returncode == 0 and f"Example: bench {command}" in done.stdout


def test_lists_for_people_and_programs(bench_command: Run) -> None:
    assert [card["name"] for card in json.loads(bench_command("tasks", "--json").stdout)] == task_names()
    assert [card["name"] for card in json.loads(bench_command("probes", "--json").stdout)] == probe_names()
    models = json.loads(bench_command("models", "vjepa-*", "--json").stdout)
    assert [card["name"] for card in models] == [
        "vjepa-nano",
        "vjepa-vith16",
        "vjepa-vith16-384",
        "vjepa-vitl16",
    ]
    table = bench_command("tasks").stdout
    assert all(name in table for name in task_names())
    assert "1,281,167" in table and "appearance" in table  # words and numbers stay whole, sentences wrap


@pytest.mark.parametrize("command", [["tasks"], ["probes"], ["models"], ["leaderboard", "--help"], ["check", "--help"]])
def test_listing_does_not_import_torch(bench_process: Run, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    done = bench_process(*command)
    assert done.returncode == 0 and " torch\n" not in done.stderr and "typer" in done.stderr


def test_one_task_is_shown_in_full(bench_command: Run) -> None:
    shown = bench_command("tasks", "ssv2").stdout
    for words in (
        "168,913 training, 24,777 test",
        "20bn-something-something-v2",
        "--clip vjepa2-g384",
        "69.5 +- 2.5 %",
    ):
        assert words in shown
    card = json.loads(bench_command("tasks", "ssv2", "--json").stdout)
    assert len(card["classes"]) == 174 and card["references"][0]["model"] == "vjepa-vitl16"


def test_a_run_ends_with_the_leaderboard(
    bench_command: Run, bench_process: Run, bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run", "--task", "custom", "--data", bright_and_dark, "--model", "random,pixels", *QUICK]
    done = bench_command(*arguments)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("brightness", "random", "pixels", "100.0"))
    assert "read from the cache" not in done.stderr
    again = bench_command(*arguments, "--json")
    assert "read from the cache" in again.stderr
    records = json.loads(again.stdout)
    assert [record["model"] for record in records] == ["random", "pixels"]

    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    board = bench_process("leaderboard", "--results", tmp_path / "work" / "results", "--format", "json")
    monkeypatch.delenv("PYTHONPROFILEIMPORTTIME")
    assert " torch\n" not in board.stderr and " bench.analysis.leaderboard\n" in board.stderr
    rows = json.loads(board.stdout)
    assert {row["model"] for row in rows} == {"random", "pixels"}
    needed = {"model", "task", "axis", "probe", "protocol", "metric", "value", "low", "high", "n", "failed", "seed"}
    assert all(needed <= set(row) for row in rows)
    for form in ("table", "markdown", "csv", "latex", "html"):
        shown = bench_command("leaderboard", "--format", form)
        assert shown.returncode == 0 and "brightness" in shown.stdout and "100" in shown.stdout
    options = ["--model", "ran*,pixels", "--probe", "attentive", "--sort", "model", "--reference", "pixels", "--strict"]
    compared = bench_command("leaderboard", "--results", "results", *options, "--format", "json")
    assert compared.returncode == 0, compared.stderr
    pixels, random = json.loads(compared.stdout)
    assert [(row["model"], row["rank"]) for row in (pixels, random)] == [("pixels", 1), ("random", 1)]
    assert pixels["difference"] is None
    assert random["difference"] == pytest.approx(random["value"] - pixels["value"])
    assert random["difference_low"] < random["difference"] < random["difference_high"]
    for option, name, nearest in (("--sort", "brigthness", "brightness"), ("--reference", "pixel", "pixels")):
        assert_refused(bench_command("leaderboard", option, name), option, f"did you mean '{nearest}'")


def test_a_damaged_record_is_named_and_the_others_shown(
    bench_command: Run, bright_and_dark: Path, tmp_path: Path
) -> None:
    bench_command("run", "--task", "custom", "--data", bright_and_dark, "--model", "random", *QUICK)
    (tmp_path / "work" / "results" / "broken").mkdir()
    (tmp_path / "work" / "results" / "broken" / "record.json").write_text("{")
    done = bench_command("leaderboard", "--published")
    assert done.returncode == 0 and "brightness" in done.stdout
    assert "no published numbers of these tasks" in done.stderr
    assert "skipped results/broken/record.json" in done.stderr
    strict = bench_command("leaderboard", "--strict")
    assert strict.returncode == 2 and "brightness" in strict.stdout
    assert "skipped results/broken/record.json" in strict.stderr


def test_extract_fills_the_cache_for_run(bench_command: Run, bright_and_dark: Path) -> None:
    first = bench_command("extract", "--task", "custom", "--data", bright_and_dark, "--model", "random", "--json")
    assert json.loads(first.stdout)[0]["encoded_clips"] == 36, first.stderr
    second = bench_command("extract", "--task", "custom", "--data", bright_and_dark, "--model", "random", "--json")
    assert json.loads(second.stdout)[0]["cached_clips"] == 36


def test_two_processes_with_overlapping_lists_share_one_cache(
    bench_command: Run, bright_and_dark: Path, tmp_path: Path
) -> None:
    rows = (bright_and_dark / "train.csv").read_text().splitlines()
    (bright_and_dark / "reversed.csv").write_text("\n".join(reversed(rows[4:])))
    environment = {**os.environ, "BENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench", "extract", "--task", "custom", "--data", str(bright_and_dark)]
    command += ["--model", "random", "--workers", "1", "--val", str(bright_and_dark / "val.csv"), "--train"]
    both = [
        subprocess.Popen([*command, str(bright_and_dark / name)], env=environment, stderr=subprocess.PIPE, text=True)
        for name in ("train.csv", "reversed.csv")
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and "damaged" not in errors, errors
    after = bench_command("extract", "--task", "custom", "--data", bright_and_dark, "--model", "random", "--json")
    assert json.loads(after.stdout)[0]["cached_clips"] == 36 and "damaged" not in after.stderr


def test_a_dry_run_forecasts_and_writes_nothing(bench_command: Run, bright_and_dark: Path, tmp_path: Path) -> None:
    (bright_and_dark / "clips" / "val_0.mp4").unlink()
    arguments = ["run", "--task", "custom", "--data", bright_and_dark, "--model", "random", "--dry-run"]
    assert_refused(bench_command(*arguments), "1 of 12 test files", "clips/val_0.mp4")
    arguments += ["--max-failed", "0.2"]
    done = bench_command(*arguments, "--json")
    forecast = json.loads(done.stdout)[0]
    assert (forecast["clips"], forecast["tokens"], forecast["feature_bytes"]) == (36, 36 * 64, 36 * 64 * 64 * 2)
    assert forecast["missing_files"] == 1 and forecast["decode_s"] > 0 and forecast["encode_s"] > 0
    assert not (tmp_path / "work" / "results").exists() and not (tmp_path / "cache" / "features").exists()
    assert "1 missing" in bench_command(*arguments).stdout


def test_a_dry_run_of_a_checkpoint_does_not_read_its_weights(bench_command: Run, bright_and_dark: Path) -> None:
    done = bench_command(
        "run",
        "--task",
        "custom",
        "--data",
        bright_and_dark,
        "--model",
        GOLDEN / "vjepa1.pth.tar",
        "--set",
        "encoder.num_heads=2",
        "--dry-run",
        "--json",
    )
    (forecast,) = json.loads(done.stdout)
    assert forecast["tokens"] == 36 * 64, done.stderr
    read = {name: forecast["weights"][name] for name in ("family", "key", "prefix", "num_heads")}
    assert read == {"family": "V-JEPA 1", "key": "target_encoder", "prefix": "module.backbone.", "num_heads": 2}


def test_what_is_read_of_a_checkpoint_is_said_before_it_is_run(bench_command: Run, bright_and_dark: Path) -> None:
    file = ["--model", GOLDEN / "vjepa1.pth.tar", "--set", "encoder.num_heads=2", "--set", "encoder.key=encoder"]
    said = "V-JEPA 1, key encoder, prefix module.backbone., 2 attention heads"
    for command in (["doctor"], ["run", "--task", "custom", "--data", bright_and_dark, "--dry-run"]):
        done = bench_command(*command, *file)
        assert said in " ".join(done.stdout.split()), done.stderr
        assert "not the moving average" in " ".join(done.stdout.split())


def test_settings_of_doctor_are_those_of_encoders(bench_command: Run) -> None:
    assert_refused(bench_command("doctor", "--set", "encoder.num_heads=2"), "--set is for --model")
    assert_refused(bench_command("doctor", "--model", "random", "--set", "probe.lr=1"), "unknown setting 'probe.lr'")
    assert_refused(bench_command("doctor", "--model", "random", "--set", "encoder.heads=1"), "'encoder.heads'")


def test_doctor_finds_a_working_machine(bench_command: Run) -> None:
    done = bench_command("doctor", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == 0 and all(check["ok"] for check in checks)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--task", "digit-motion"], ["unknown task", "did you mean 'digits-motion'"]),
        (["run", "--model", "rndom"], ["unknown model", "did you mean 'random'"]),
        (["run", "--model", "timm:convnext_tinny"], ["timm:convnext_tinny", "nearest: convnext_tiny"]),
        (["run", "--model", "my_encoder:build"], ["no module 'my_encoder'"]),
        (["doctor", "--model", "rndom"], ["unknown model", "did you mean 'random'"]),
        (["run", "--probe", "atentive"], ["unknown probe", "did you mean 'attentive'"]),
        (["run", "--task", "ssv2"], ["needs your data", "--data"]),
        (["run", "--task", "ssv2", "--data", "/nowhere"], ["no such data folder"]),
        (["run", "--task", "ssv2", "--clip", "vjepa3"], ["--clip", "did you mean 'vjepa2' or 'vjepa1'"]),
        (["run", "--task", "ssv2", "--data", "."], ["no annotations of the train split", "bench tasks ssv2"]),
        (["tasks", "sv2"], ["unknown task 'sv2'", "did you mean 'ssv2'"]),
        (["run", "--set", "probe.lrr=1"], ["probe.lrr", "did you mean 'lr'"]),
        (["run", "--set", "probe.lr"], ["key=value"]),
        (["run", "--set", "colour=1"], ["unknown setting"]),
        (["run", "--device", "tpu"], ["no device 'tpu'"]),
        (["run", "--precision", "int4"], ["unknown precision"]),
        (["run", "--decoder", "opencv"], ["--decoder"]),
        (["run", "--limit", "0"], ["--limit"]),
        (["run", "--max-failed", "7"], ["--max-failed"]),
        (["run", "--name", "x"], ["--task custom"]),
        (["run", "--nope"], ["No such option"]),
        (["run", "--seed", "x"], ["--seed"]),
        (["run", "--seed", "99999999999"], ["--seed"]),
        (["run", "--timeout-s", "0"], ["--timeout-s"]),
        (["run", "--set", "probe.lr=-1"], ["lr", "change it"]),
        (["run", "--set", "probe.lr=true"], ["lr"]),
        (["run", "--probe", "knn", "--set", "probe.neighbours=[0]"], ["neighbours"]),
        (["run", "--model", "", "--task", ""], ["no name given"]),
        (["leaderboard", "--published", "--format", "csv", "--results", "."], ["--format"]),
        (["leaderboard", "--results", "nowhere"], ["no such folder"]),
        (["leaderboard", "--results", "."], ["no records"]),
        (["leaderboard", "--format", "markdow", "--results", "."], ["did you mean 'markdown'"]),
        (["frobnicate"], ["No such command"]),
    ],
)
def test_wrong_arguments_are_one_line(bench_command: Run, arguments: list[str], words: list[str]) -> None:
    assert_refused(bench_command(*arguments), *words)


class _Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


def _checkpoint(folder: Path, kind: str) -> Path:
    path = folder / "model.pth.tar"
    if kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "truncated":
        path.write_bytes((GOLDEN / "vjepa1.pth.tar").read_bytes()[:100_000])
    elif kind == "hostile":
        torch.save({"target_encoder": _Hostile()}, path)
    elif kind == "another architecture":
        torch.save({"target_encoder": {"conv1.weight": torch.zeros(64, 3, 7, 7)}}, path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such checkpoint"),
        ("text", "not a checkpoint"),
        ("truncated", "cut off"),
        ("hostile", "would run code"),
        ("another architecture", "patch_embed.proj.weight"),
    ],
)
def test_bad_checkpoints(bench_command: Run, bright_and_dark: Path, tmp_path: Path, kind: str, words: str) -> None:
    path = _checkpoint(tmp_path, kind)
    done = bench_command("run", "--task", "custom", "--data", bright_and_dark, "--model", path)
    assert_refused(done, words, "model.pth.tar")


def _spoil(data: Path, kind: str) -> None:
    video = data / "clips" / "val_1.mp4"
    if kind == "missing":
        video.unlink()
    elif kind == "zero bytes":
        video.write_bytes(b"")
    elif kind == "truncated":
        video.write_bytes(video.read_bytes()[:-300])
    elif kind == "text":
        video.write_text("not a video" * 200)
    elif kind == "audio only":
        import av

        with av.open(str(video), "w") as container:
            stream = container.add_stream("aac", rate=16000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


@pytest.mark.parametrize("kind", ["missing", "zero bytes", "truncated", "text", "audio only"])
def test_bad_videos(bench_command: Run, bright_and_dark: Path, tmp_path: Path, kind: str) -> None:
    _spoil(bright_and_dark, kind)
    done = bench_command("run", "--task", "custom", "--data", bright_and_dark, "--model", "random", *QUICK)
    assert_refused(done, "1 of 12 test ", "clips/val_1.mp4")
    assert not list((tmp_path / "work").rglob("record.json"))


def test_bad_list_rows(bench_command: Run, bright_and_dark: Path) -> None:
    with (bright_and_dark / "train.csv").open("a") as file:
        file.write("clips/train_0\n")
    done = bench_command("run", "--task", "custom", "--data", bright_and_dark, "--model", "random")
    assert_refused(done, "train.csv:25", "not `path label`")


def test_labels_out_of_range(bench_command: Run, bright_and_dark: Path) -> None:
    with (bright_and_dark / "val.csv").open("a") as file:
        file.write("clips/extra.mp4 9\n")
    done = bench_command("run", "--task", "custom", "--data", bright_and_dark, "--model", "random")
    assert_refused(done, "label 9", "clips/extra.mp4", "val.csv")


def test_cards_with_unknown_keys(bench_command: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ntitle: Mine\nclases: 3\n")
    assert_refused(bench_command("run", "--task", tmp_path / "mine.yaml"), "mine.yaml", "clases", "classes")


@pytest.mark.parametrize("option", ["--cache", "--results"])
def test_folders_that_cannot_be_written(bench_command: Run, bright_and_dark: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("in the way")
    done = bench_command(
        "run", "--task", "custom", "--data", bright_and_dark, "--model", "random", option, tmp_path / "file", *QUICK
    )
    assert_refused(done, "cannot write here", option)


def test_a_disk_that_is_too_small(bench_command: Run, bright_and_dark: Path) -> None:
    settings = ["--set", "clip.resolution=2048", "--set", "clip.segments=128", "--set", "clip.layers=0,1,2"]
    done = bench_command("run", "--task", "custom", "--data", bright_and_dark, "--model", "random", *settings, *QUICK)
    assert_refused(done, "TiB", "free", "--cache")


def test_a_custom_card_runs_by_path(bench_command: Run, bright_and_dark: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\ntitle: Mine\naxis: motion\naxis_source: me\nclasses: [dark, bright]\n"
    )
    done = bench_command(
        "run", "--task", tmp_path / "mine.yaml", "--data", bright_and_dark, "--model", "random", *QUICK[:-2], "--json"
    )
    record = json.loads(done.stdout)[0]
    assert (record["task"], record["axis"], record["class_names"]) == ("mine", "motion", ["dark", "bright"])


def test_a_hanging_video_is_a_failed_sample(bench_command: Run, bright_and_dark: Path) -> None:
    """A named pipe that nobody writes to blocks whoever opens it, as some files block their decoder."""
    video = bright_and_dark / "clips" / "val_1.mp4"
    video.unlink()
    os.mkfifo(video)
    done = bench_command(
        "run", "--task", "custom", "--data", bright_and_dark, "--model", "random", *QUICK, "--timeout-s", "3"
    )
    assert_refused(done, "clips/val_1.mp4")


def test_write_video_helper_is_read_back(tmp_path: Path) -> None:
    from bench.video.decode import read_frames

    frames = np.full((9, 16, 16, 3), 100, np.uint8)
    assert abs(int(read_frames(write_video(tmp_path / "v.mp4", frames), [8]).mean()) - 100) < 3


def test_numbers_in_a_list_of_settings_may_be_written_as_powers_of_ten() -> None:
    given = ["probe.lr=[1e-4, 3e-3]", "probe.weight_decay=1e-2", "clip.layers=17,19"]
    assert parse_settings(given) == {"probe.lr": [1e-4, 3e-3], "probe.weight_decay": 0.01, "clip.layers": "17,19"}
