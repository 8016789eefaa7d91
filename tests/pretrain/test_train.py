"""The loop: what resuming, several processes, accumulation and accidents do to a run, and what must not change."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import ROOT, write_video

from bench.core.errors import BenchError
from bench.core.progress import Silent
from bench.encoders import load_encoder
from bench.encoders.vjepa import Block
from bench.pretrain import load_state, step
from bench.pretrain.logs import read_log
from bench.pretrain.presets import ObjectiveName
from bench.pretrain.train import pretrain

pytestmark = pytest.mark.slow

TINY = {"epochs": 4, "steps_per_epoch": 3, "global_batch": 8, "micro_batch": 8, "warmup_epochs": 1, "keep_every": 2}
OBJECTIVES: tuple[ObjectiveName, ...] = ("features", "pixels", "contrast", "slow")


def run_tiny(out: Path, *, resume: bool = False, options: dict[str, Any] | None = None, **settings: Any) -> Path:
    """Train the demo preset for a dozen steps of eight clips; the folder of the run."""
    pretrain(preset="demo", out=out, resume=resume, device="cpu", settings={**TINY, **settings}, **(options or {}))
    return out


def weights(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    parts = ("encoder", "predictor", "target_encoder")
    flat = {f"{part}.{name}": tensor for part in parts for name, tensor in content[part].items()}
    for index, moments in content["opt"]["state"].items():
        flat.update({f"opt.{index}.{name}": value for name, value in moments.items()})
    return flat


def assert_identical(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder / "log.csv")]


def timeless_log(folder: Path) -> list[dict[str, float]]:
    """The log without what depends on the machine's mood."""
    return [
        {name: value for name, value in row.items() if name not in ("clips_per_s", "seconds")}
        for row in read_log(folder / "log.csv")
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_tiny(tmp_path_factory.mktemp("runs") / "whole")


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_lowers_its_loss_and_moves_the_averaged_encoder(objective: str, tmp_path: Path) -> None:
    batch = {"global_batch": 16, "micro_batch": 16}  # the variances of `slow` need more than the four videos of TINY
    out = run_tiny(tmp_path / "run", objective=objective, steps_per_epoch=8, ema=0.9, lr=1e-3, **batch)
    assert losses(out)[-1] < losses(out)[0]
    first, last = (load_state(out / name) for name in ("epoch2.pth.tar", "epoch4.pth.tar"))
    moved = (last.target_encoder.norm.weight - first.target_encoder.norm.weight).abs().max()
    assert moved > 0
    assert not torch.equal(last.encoder.norm.weight, last.target_encoder.norm.weight)


def test_the_same_command_gives_the_same_weights(uninterrupted: Path, tmp_path: Path) -> None:
    assert_identical(run_tiny(tmp_path / "again") / "latest.pth.tar", uninterrupted / "latest.pth.tar")


def test_another_seed_gives_other_weights(uninterrupted: Path, tmp_path: Path) -> None:
    other = weights(run_tiny(tmp_path / "other", seed=1) / "latest.pth.tar")
    assert not torch.equal(
        other["encoder.module.backbone.norm.weight"],
        weights(uninterrupted / "latest.pth.tar")["encoder.module.backbone.norm.weight"],
    )


DIES = """
import os, signal, sys
import bench.pretrain.train as loop

last, real = int(sys.argv[1]), loop.take_step
def take_step(run, epoch):
    if run.step == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(run, epoch)
loop.take_step = take_step
loop.pretrain(preset="demo", out=sys.argv[2], device="cpu", settings={settings})
"""


def test_no_two_kinds_of_random_choice_share_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal seeds would tie, say, the hidden frames to the digit that is shown."""
    users: dict[tuple[int, ...], set[str]] = {}

    class Recorded(np.random.RandomState):
        def __init__(self, seed: Any = None) -> None:
            if np.size(seed) > 1:  # drawn from once a step, not once a run
                users.setdefault(tuple(np.atleast_1d(seed)), set()).add(sys._getframe(1).f_code.co_name)
            super().__init__(seed)

    monkeypatch.setattr(np.random, "RandomState", Recorded)
    run_tiny(tmp_path / "run", micro_batch=4)
    assert len(users) > 10
    assert not {seed: names for seed, names in users.items() if len(names) > 1}


def test_a_run_killed_at_a_random_step_resumes_to_the_same_weights_and_log(uninterrupted: Path, tmp_path: Path) -> None:
    step = int(np.random.default_rng().integers(1, TINY["epochs"] * TINY["steps_per_epoch"]))
    out = tmp_path / f"killed-after-step-{step}"
    command = [sys.executable, "-c", DIES.format(settings=TINY), str(step), str(out)]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    run_tiny(out, resume=True)
    assert_identical(out / "latest.pth.tar", uninterrupted / "latest.pth.tar")
    assert timeless_log(out) == timeless_log(uninterrupted)


def test_a_run_killed_at_a_random_moment_resumes_to_the_same_weights_and_log(tmp_path: Path) -> None:
    """The process is killed a random time after its first epoch is on disk: inside a step, a save or a log line."""
    settings = {**TINY, "steps_per_epoch": 20}
    command = [sys.executable, "-m", "bench", "pretrain", "--preset", "demo", "--out", str(tmp_path / "killed")]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, "--device", "cpu"], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "latest.pth.tar").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(np.random.default_rng().uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_tiny(tmp_path / "killed", resume=True, steps_per_epoch=20)
    run_tiny(tmp_path / "whole", steps_per_epoch=20)
    assert_identical(tmp_path / "killed" / "latest.pth.tar", tmp_path / "whole" / "latest.pth.tar")
    assert timeless_log(tmp_path / "killed") == timeless_log(tmp_path / "whole")


def test_a_run_stopped_before_its_first_checkpoint_starts_over(tmp_path: Path, uninterrupted: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "preset.yaml").write_text((uninterrupted / "preset.yaml").read_text())
    run_tiny(out, resume=True)
    assert_identical(out / "latest.pth.tar", uninterrupted / "latest.pth.tar")


@pytest.mark.parametrize("objective", ["features", "contrast"])
def test_two_processes_follow_the_loss_of_one(objective: str, tmp_path: Path) -> None:
    """`features` on the endless digits, and `contrast`, whose negatives must not depend on it either, on videos."""
    settings = {**TINY, "micro_batch": 4, "objective": objective}
    data = None
    if objective == "contrast":
        rng = np.random.default_rng(0)
        for number in range(9):
            write_video(tmp_path / "videos" / f"{number}.mp4", rng.integers(0, 255, (9, 16, 16, 3)).astype(np.uint8))
        data = str(tmp_path / "videos")
        settings["data.frame_step"] = 1
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
            *("-m", "bench", "pretrain", "--preset", "demo", "--out", str(tmp_path / "two"), "--device", "cpu"),
            *(("--data", data, "--workers", "0") if data else ()),
            *words,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    run_tiny(tmp_path / "one", options={"data": data, "workers": 0}, **settings)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert len(losses(tmp_path / "two")) == 4


def test_saving_memory_changes_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    out = run_tiny(tmp_path / "run", options={"save_memory": True})
    assert_identical(out / "latest.pth.tar", uninterrupted / "latest.pth.tar")


def test_compiled_blocks_train_as_others_do(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced by torch.compile and run as traced: the code generator, which takes minutes here, is torch's to test."""
    calls: list[Any] = []

    def as_traced(block: torch.nn.Module, **how: Any) -> None:
        calls.append(how)
        block.forward = torch.compile(block.forward, backend="aot_eager", **how)

    monkeypatch.setattr(Block, "compile", as_traced, raising=False)
    out = run_tiny(tmp_path / "run", options={"compile": True})
    assert calls == [{"dynamic": True}] * (3 + 2)
    assert losses(out) == pytest.approx(losses(uninterrupted), rel=1e-5)
    assert weights(out / "latest.pth.tar").keys() == weights(uninterrupted / "latest.pth.tar").keys()


def test_bfloat16_stays_near_float32(uninterrupted: Path, tmp_path: Path) -> None:
    assert losses(run_tiny(tmp_path / "run", precision="bf16")) == pytest.approx(losses(uninterrupted), rel=0.02)


def test_checkpoints_have_the_official_layout_and_are_read_by_the_suite(uninterrupted: Path) -> None:
    assert sorted(path.name for path in uninterrupted.glob("*.pth.tar")) == [
        "epoch2.pth.tar",
        "epoch4.pth.tar",
        "latest.pth.tar",
    ]
    content = torch.load(uninterrupted / "latest.pth.tar", weights_only=True)
    official = {
        "encoder",
        "predictor",
        "opt",
        "scaler",
        "target_encoder",
        "epoch",
        "loss",
        "batch_size",
        "world_size",
        "lr",
    }
    assert official | {"bench"} == content.keys()
    assert all(name.startswith("module.backbone.") for name in content["encoder"])
    assert (content["epoch"], content["batch_size"], content["world_size"]) == (4, 8, 1)
    encoder = load_encoder(str(uninterrupted / "latest.pth.tar"))
    clips = torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = load_state(uninterrupted / "latest.pth.tar").target_encoder(clips)
    assert torch.equal(encoder(clips), expected.detach())
    assert encoder.input_spec.frame_step == 2


def test_a_loss_that_is_no_number_stops_with_step_videos_and_the_state_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def explode(state: Any, *arguments: Any) -> dict[str, Any]:
        calls.append(1)
        factor = float("nan") if len(calls) == 5 else 1.0
        return {"loss": next(state.encoder.parameters()).requires_grad_().sum() * factor}

    monkeypatch.setitem(step.OBJECTIVES, "features", explode)
    with pytest.raises(BenchError, match=r"the loss is nan, .* at step 5, videos digits/32, digits/33") as caught:
        run_tiny(tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "stopped-at-step5.state", weights_only=True)
    assert saved["ids"] == [f"digits/{draw}" for draw in range(32, 40)]
    assert saved["bench"]["step"] == 4
    assert str(tmp_path) in str(caught.value)


def test_collapsed_features_end_the_run_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(state: Any, *arguments: Any) -> dict[str, Any]:
        for encoder in (state.encoder, state.target_encoder):
            encoder.patch_embed.proj.weight.data.zero_()
        return {"loss": state.encoder.norm.bias.sum()}

    monkeypatch.setitem(step.OBJECTIVES, "features", blind)
    with pytest.raises(BenchError, match="the features have collapsed"):
        run_tiny(tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "latest.pth.tar").exists()


def test_a_gradient_that_is_no_number_stops_before_it_touches_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def poison(state: Any, *arguments: Any) -> dict[str, Any]:
        calls.append(1)
        weight = state.encoder.norm.weight
        harmful = torch.sqrt(weight.sum() * 0) if len(calls) == 2 else 0.0  # a finite value of infinite slope
        return {"loss": weight.sum() + harmful}

    monkeypatch.setitem(step.OBJECTIVES, "features", poison)
    with pytest.raises(BenchError, match=r"gradient norms are nan and .* at step 2"):
        run_tiny(tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "stopped-at-step2.state", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in saved["encoder"].values())


def test_a_finished_run_that_is_resumed_does_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    summary = pretrain(preset="demo", out=out, resume=True, device="cpu", settings=TINY)
    assert summary.loss == pytest.approx(losses(uninterrupted)[-1])
    assert_identical(out / "latest.pth.tar", uninterrupted / "latest.pth.tar")


def test_a_checkpoint_in_which_one_bit_has_flipped_is_not_gone_on_from(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(uninterrupted, out)
    content = (out / "latest.pth.tar").read_bytes()
    place = content.index(torch.load(out / "latest.pth.tar")["opt"]["state"][0]["exp_avg"].numpy().tobytes()[:32])
    (out / "latest.pth.tar").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(BenchError, match=r"damaged: the checksum of .* differs"):
        run_tiny(out, resume=True)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BenchError, match="another process trains here"):
            run_tiny(tmp_path / "run")


def test_videos_that_fail_are_named_once_and_counted_the_same_after_a_resume(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(11):
        write_video(tmp_path / "videos" / f"{number}.mp4", rng.integers(0, 255, (9, 16, 16, 3)).astype(np.uint8))
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"no video")
    said: list[str] = []

    class Stop(Exception):  # noqa: N818 - not an error
        pass

    class Listener(Silent):
        def say(self, line: str) -> None:
            said.append(line)
            if stop and line.startswith("epoch 3"):
                raise Stop

    settings = {**TINY, "data.frame_step": 1, "data.max_failed": 0.5}
    options = {"preset": "demo", "data": str(tmp_path / "videos"), "device": "cpu", "workers": 1, "settings": settings}
    stop = True
    with pytest.raises(Stop):
        pretrain(**options, out=tmp_path / "stopped", reporter=Listener())
    stop = False
    pretrain(**options, out=tmp_path / "stopped", resume=True, reporter=Listener())
    assert sum("bad.mp4" in line for line in said) == 1
    summary = pretrain(**options, out=tmp_path / "whole")
    assert summary.failures == 1
    assert_identical(tmp_path / "stopped" / "latest.pth.tar", tmp_path / "whole" / "latest.pth.tar")
    counts = [[row["failures"] for row in read_log(tmp_path / name / "log.csv")] for name in ("stopped", "whole")]
    assert counts[0] == counts[1]


def test_scores_missed_by_a_killed_run_are_made_up_for(tmp_path: Path) -> None:
    scored: list[int] = []

    def score(plan: Any, curve: Any, step: int, epoch: int, reporter: Any) -> None:
        scored.append(epoch)
        if len(scored) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path / "run", options={"probe_every": 2, "score": score})
    run_tiny(tmp_path / "run", resume=True, options={"probe_every": 2, "score": score})
    assert scored == [2, 2, 4]
    with pytest.raises(BenchError, match="nothing here scores checkpoints"):
        run_tiny(tmp_path / "alone", options={"probe_every": 2})
