"""Checkpoint files: every layout is read, and whatever is wrong with one is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import GOLDEN

from bench import BenchError
from bench.encoders import vjepa
from bench.encoders.checkpoints import identify_positions, load_vjepa, plain_names

OFFICIAL = GOLDEN / "vjepa1.pth.tar"


def official() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(OFFICIAL, weights_only=True)
    return content


def plain() -> dict[str, torch.Tensor]:
    return plain_names(official()["target_encoder"], OFFICIAL)


def test_the_report_says_what_was_read() -> None:
    model, report = load_vjepa(OFFICIAL)
    assert report["key"] == "target_encoder" and report["epoch"] == 300
    assert report["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert any("num_heads 2 assumed" in note for note in report["notes"])
    assert not any("moving average" in note for note in report["notes"])
    _, online = load_vjepa(OFFICIAL, key="encoder")
    assert any("not the moving average" in note for note in online["notes"])
    assert (model.config.num_frames, model.config.resolution) == (8, 64)


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone.", "backbone."])
@pytest.mark.parametrize("layout", ["target_encoder", "encoder", "bare", "safetensors"])
def test_every_layout_gives_the_same_weights(tmp_path: Path, prefix: str, layout: str) -> None:
    tensors = {prefix + name: tensor.contiguous() for name, tensor in plain().items()}
    path = tmp_path / ("model.safetensors" if layout == "safetensors" else "model.pt")
    if layout == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors if layout == "bare" else {layout: tensors, "epoch": 1}, path)
    model, _ = load_vjepa(path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, plain()[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"target_encoder": {n: t.to(dtype) for n, t in plain().items()}}, tmp_path / "half.pt")
    model, _ = load_vjepa(tmp_path / "half.pt")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("grid", "uniform_power"), [((4, 4, 4), True), ((1, 8, 8), True), ((8, 2, 2), False)])
def test_positions_tell_frames_from_space(grid: tuple[int, int, int], uniform_power: bool) -> None:
    table = vjepa.sincos_positions(48, grid, uniform_power=uniform_power)
    assert identify_positions(OFFICIAL, table) == (grid, uniform_power)


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.pop(name)


def _with(name: str, tensor: torch.Tensor) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without("blocks.1.attn.proj.bias"), "'blocks.1.attn.proj.bias' is missing"),
        (_with("blocks.0.extra", torch.zeros(2)), "'blocks.0.extra' is unexpected"),
        (_with("norm.weight", torch.zeros(47)), "'norm.weight' has shape [47] instead of [48]"),
        (_with("patch_embed.proj.weight", torch.zeros(48, 3, 16, 16)), "expected 5 dimensions"),
        (_without("pos_embed"), "V-JEPA 2 checkpoint"),
        (_with("img_mod_embed", torch.zeros(1, 1, 48)), "V-JEPA 2.1 checkpoint"),
        (_with("cls_token", torch.zeros(1, 1, 48)), "class token"),
        (_with("pos_embed", torch.zeros(1, 64, 48)), "not the sin-cos code"),
    ],
)
def test_another_architecture_is_refused_by_name(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], words: str
) -> None:
    tensors = plain()
    damage(tensors)
    torch.save({"target_encoder": tensors}, tmp_path / "model.pt")
    with pytest.raises(BenchError) as refusal:
        load_vjepa(tmp_path / "model.pt")
    assert words in str(refusal.value) and "model.pt" in str(refusal.value)


def test_a_v_jepa_2_file_with_positions_is_not_taken_for_v_jepa_1(tmp_path: Path) -> None:
    predictor = {f"mask_tokens.{i}": torch.zeros(1, 1, 24) for i in range(10)}
    torch.save({"target_encoder": plain(), "predictor": predictor}, tmp_path / "model.pt")
    with pytest.raises(BenchError, match="V-JEPA 2 checkpoint"):
        load_vjepa(tmp_path / "model.pt")


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/vjepa-bench-was-attacked",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, zipped: bool) -> None:
    marker = Path("/tmp/vjepa-bench-was-attacked")  # noqa: S108 - what the attack would leave
    marker.unlink(missing_ok=True)
    torch.save({"target_encoder": _Hostile()}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BenchError, match="would run code"):
        load_vjepa(tmp_path / "model.pt")
    assert not marker.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    content = OFFICIAL.read_bytes()
    path = tmp_path / "cut.pth.tar"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BenchError, match=r"cut\.pth\.tar: .*(empty|not a)"):
        load_vjepa(path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("content", [b"hello, I am a text file\n" * 50, os.urandom(2000), b"\x80\x04garbage"])
def test_files_that_are_no_checkpoints(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchError):
        load_vjepa(tmp_path / name)


def test_a_probe_is_not_an_encoder() -> None:
    with pytest.raises(BenchError, match="no encoder under the key"):
        load_vjepa(GOLDEN / "vjepa1_probe.pth.tar")
