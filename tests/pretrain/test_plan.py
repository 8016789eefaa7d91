"""Bad input to `bench pretrain` is refused before anything is trained: what, where and what to do, exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import Run, assert_refused, write_video

from bench.core.distributed import World
from bench.core.errors import BenchError
from bench.pretrain.plan import check_batches, check_masks, make_options, make_plan
from bench.pretrain.presets import load_preset, override
from bench.pretrain.state import encoder_config

QUICK = {"epochs": 1, "steps_per_epoch": 1, "global_batch": 4, "micro_batch": 4}


TORCHRUN = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def refused(tmp_path: Path, **options: object) -> str:
    given = {"preset": "demo", "out": tmp_path / "run", "device": "cpu", **options}
    with pytest.raises(BenchError) as caught:
        make_plan(make_options(given))
    return str(caught.value)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Six videos of nine frames, 16 px."""
    rng = np.random.default_rng(0)
    for number in range(6):
        frames = rng.integers(0, 255, (9, 16, 16, 3)).astype(np.uint8)
        write_video(tmp_path / "videos" / f"{number}.mp4", frames)
    return tmp_path / "videos"


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("\n")
    assert "empty.csv" in refused(tmp_path, data=str(tmp_path / "empty.csv"))


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "--data" in refused(tmp_path, data=str(tmp_path / "empty"))


def test_clips_shorter_than_asked_are_refused(tmp_path: Path, videos: Path) -> None:
    message = refused(tmp_path, data=str(videos), settings={**QUICK, "data.frame_step": 2})
    assert "has 9 frames, a clip spans 16 (8 frames, step 2)" in message


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path, videos: Path) -> None:
    message = refused(tmp_path, data=str(videos), settings={"data.frame_step": 1})
    assert "a step takes 32 videos, the data has 6" in message


def test_masks_that_leave_no_context_are_refused(tmp_path: Path) -> None:
    masks = [{"num_blocks": 1, "spatial_scale": [1.0, 1.0]}]
    assert "leave no context on a grid of 4x4x4" in refused(tmp_path, settings={"masks": masks})


def test_processes_that_do_not_divide_the_global_batch_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**TORCHRUN, "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    message = refused(tmp_path, settings={"micro_batch": 8})
    assert "3 processes cannot share the 4 micro-batches of a step equally (global batch 32" in message


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_that_divide_it_are_welcome(size: int) -> None:
    check_batches(override(load_preset("demo"), {"micro_batch": 8}), World(0, size, 0))


def test_objectives_without_masks_take_any(tmp_path: Path) -> None:
    preset = override(load_preset("demo"), {"objective": "slow", "masks": [{"num_blocks": 9, "spatial_scale": [1, 1]}]})
    check_masks(preset, encoder_config(preset))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "vitl16"}, "preset vitl16 needs videos"),
        ({"preset": "vitl16", "data": "digits"}, "the embedded digits are clips of 8 frames, 16 pixels"),
        ({"data": "nowhere"}, "nowhere"),
        ({"settings": {"target_layers": 4}}, "targets from 4 layers, the encoder has 3"),
        ({"settings": {"head.num_heads": 5}}, "5 attention heads do not divide a predictor of width 48"),
        ({"settings": {"encoder.size": "vit_nanoo"}}, "did you mean 'vit_nano'"),
        ({"settings": {"encoder.resolution": 18}}, "do not divide into patches"),
        ({"probe_every": 0}, "--probe-every 0"),
        ({"probe_every": 1, "probe_task": ("digits-emotion",)}, "digits-emotion"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"workers": "many"}, "--workers"),
        ({"wokers": 1}, "unknown option 'wokers'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    assert words in refused(tmp_path, **options)


@pytest.mark.parametrize("name", ["log.csv", "curve.csv", "curve.svg", "epoch10.pth.tar"])
def test_files_of_others_are_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("years of work")
    assert f"holds '{name}', which this run would write" in refused(tmp_path)
    assert "holds no run to resume" in refused(tmp_path, resume=True)


def test_what_is_no_preset_of_a_run_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "preset.yaml").write_text("colour: blue")
    assert "preset.yaml" in refused(tmp_path, resume=True)


def test_on_the_command_line_every_refusal_is_one_line_and_code_2(bench_command: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("pretrain", "--preset", "demo")
    assert_refused(bench_command(*arguments, "--out", tmp_path / "file" / "run"), "--out")
    assert_refused(bench_command(*arguments, "--out", tmp_path / "none", "--resume"), "holds no run to resume")
    assert_refused(bench_command(*arguments, "--out", tmp_path / "a", "--set", "lr=fast"), "optimisation.lr")


def test_resuming_under_other_settings_or_videos_is_refused(bench_command: Run, tmp_path: Path, videos: Path) -> None:
    words = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    arguments = ("pretrain", "--preset", "demo", "--out", tmp_path / "run", "--device", "cpu", *words)
    done = bench_command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 1
    assert_refused(bench_command(*arguments), "holds a run already", "--resume")
    assert_refused(bench_command(*arguments, "--resume", "--set", "lr=1e-4"), "other settings: optimisation.lr")
    assert_refused(bench_command(*arguments, "--resume", "--data", videos), "other videos")


def test_a_forecast_trains_nothing_and_leaves_no_file(bench_command: Run, tmp_path: Path, videos: Path) -> None:
    words = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    done = bench_command("pretrain", "--preset", "demo", "--out", tmp_path / "run", "--dry-run", "--json", *words)
    forecast = json.loads(done.stdout)
    assert (forecast["steps"], forecast["clips"], forecast["tokens_per_clip"]) == (1, 4, 64)
    assert forecast["encoder_parameters_m"] == pytest.approx(0.156, abs=1e-3)
    assert forecast["compute_s"] > 0
    assert forecast["decode_s"] == 0
    assert list((tmp_path / "run").iterdir()) == []
    done = bench_command(
        "pretrain",
        "--preset",
        "demo",
        "--out",
        tmp_path / "run",
        "--dry-run",
        "--json",
        *words,
        "--data",
        videos,
        *("--set", "data.frame_step=1"),
    )
    assert json.loads(done.stdout)["passes"] == pytest.approx(4 / 6)
    assert json.loads(done.stdout)["decode_s"] > 0
