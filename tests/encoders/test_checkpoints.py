"""Checkpoint files: every layout is read, and whatever is wrong with one is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import GOLDEN

from bench import BenchError
from bench.encoders import describe_encoder, load_encoder, vjepa
from bench.encoders.checkpoints import describe_vjepa, identify_positions, load_vjepa, plain_names
from bench.encoders.families import Stated

OFFICIAL = GOLDEN / "vjepa1.pth.tar"
TWO_HEADS = Stated(num_heads=2)
V_JEPA_1 = Stated(num_heads=2, family="V-JEPA")


def official() -> dict[str, Any]:
    content: dict[str, Any] = torch.load(OFFICIAL, weights_only=True)
    return content


def plain() -> dict[str, torch.Tensor]:
    return plain_names(official()["target_encoder"], OFFICIAL)


def test_the_report_says_what_was_read() -> None:
    model, report = load_vjepa(OFFICIAL, stated=TWO_HEADS)
    assert report["key"] == "target_encoder" and report["epoch"] == 300
    assert report["parameters"] == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (report["family"], report["prefix"], report["num_heads"]) == ("V-JEPA 1", "module.backbone.", 2)
    assert not any("moving average" in note for note in report["notes"])
    _, online = load_vjepa(OFFICIAL, stated=Stated(num_heads=2, key="encoder"))
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
    model, _ = load_vjepa(path, stated=V_JEPA_1)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, plain()[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"target_encoder": {n: t.to(dtype) for n, t in plain().items()}}, tmp_path / "half.pt")
    model, _ = load_vjepa(tmp_path / "half.pt", stated=V_JEPA_1)
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
        (_with("img_mod_embed", torch.zeros(1, 1, 48)), "four levels of V-JEPA 2.1"),
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
    for use in (load_vjepa, describe_vjepa):  # a plan is to fail before the first clip is decoded
        with pytest.raises(BenchError) as refusal:
            use(tmp_path / "model.pt", stated=TWO_HEADS if "2.1" in words else V_JEPA_1)
        assert words in str(refusal.value) and "model.pt" in str(refusal.value)


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


def test_a_tensor_that_repeats_a_few_values_is_refused(tmp_path: Path) -> None:
    content = official()
    name = "module.backbone.blocks.0.mlp.fc1.weight"
    content["target_encoder"][name] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(content, tmp_path / "c.pth.tar")
    with pytest.raises(BenchError, match=r"fc1\.weight' is of 1,000,000,000,000 values, of which the file holds a few"):
        describe_vjepa(tmp_path / "c.pth.tar", stated=V_JEPA_1)


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


# Eight heads: from its width alone, 2 would be assumed.
OWN = replace(vjepa.SIZES["vit_nano"], embed_dim=48, depth=2, num_heads=8, mlp_dim=80, num_frames=4)


def own(config: vjepa.VitConfig = OWN) -> dict[str, Any]:
    """What this project's pretraining writes: the official layout and the entry `bench`."""
    model = vjepa.VisionTransformer(config)
    vjepa.init_untrained(model, seed=0)
    encoder = {f"module.backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    head = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(head.parameters())
    head(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return {
        "encoder": encoder,
        "predictor": {f"module.backbone.{name}": tensor for name, tensor in head.state_dict().items()},
        "target_encoder": encoder,
        "opt": optimiser.state_dict(),
        "scaler": None,
        "epoch": 3,
        "loss": 0.5,
        "batch_size": 8,
        "world_size": 1,
        "lr": 1e-3,
        "bench": {
            "version": 1,
            "encoder": asdict(config),
            "head": {"kind": "projector", "hidden_dim": 2},
            "objective": "slow",
            "preset": "nano-slow",
            "input": {"frame_step": 2},
            "step": 30,
        },
    }


def saved(path: Path, content: dict[str, Any]) -> Path:
    """`content` in a file; as safetensors, the target encoder without prefix and `bench` in the metadata."""
    if path.suffix == ".safetensors":
        tensors = {name: tensor.clone() for name, tensor in plain_names(content["target_encoder"], path).items()}
        save_file(tensors, path, metadata={"bench": json.dumps(content["bench"])})
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("use_rope", [False, True])
@pytest.mark.parametrize("name", ["own.pth.tar", "own.safetensors"])
def test_files_of_our_own_pretraining_state_their_architecture(tmp_path: Path, name: str, use_rope: bool) -> None:
    config = replace(OWN, num_heads=4, use_rope=use_rope)
    content = own(config)
    path = saved(tmp_path / name, content)
    model, report = load_vjepa(path)
    assert model.config == describe_vjepa(path) == config
    assert report["notes"] == []
    assert report["objective"] == "slow" and report["preset"] == "nano-slow"
    for tensor, expected in zip(model.state_dict().values(), content["target_encoder"].values(), strict=True):
        assert torch.equal(tensor, expected)


@pytest.mark.parametrize("name", ["own.pth.tar", "own.safetensors"])
def test_the_frame_step_of_training_is_that_of_evaluation(tmp_path: Path, name: str) -> None:
    spec = str(saved(tmp_path / name, own()))
    encoder = load_encoder(spec)
    assert encoder.input_spec.frame_step == 2
    assert describe_encoder(spec) == encoder.facts
    assert load_encoder(str(OFFICIAL), num_heads=2).input_spec.frame_step == 4


def test_the_trained_encoder_of_our_own_file_is_noted(tmp_path: Path) -> None:
    _, report = load_vjepa(saved(tmp_path / "own.pth.tar", own()), stated=Stated(key="encoder"))
    assert len(report["notes"]) == 1 and "not the moving average" in report["notes"][0]


def test_positions_that_the_moving_average_rounded_are_recognised(tmp_path: Path) -> None:
    content = own()
    content["target_encoder"] = dict(content["target_encoder"])
    content["target_encoder"]["module.backbone.pos_embed"] = content["encoder"]["module.backbone.pos_embed"] + 2e-4
    assert describe_vjepa(saved(tmp_path / "own.pth.tar", content)) == OWN


def _stating(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda bench: bench["encoder"].update(fields)


def _entry(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda bench: bench.update({name: value})


@pytest.mark.parametrize("name", ["own.pth.tar", "own.safetensors"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_entry("version", 2), "bench.version: Input should be 1"),
        (_entry("encoder", [1, 2]), "bench.encoder:"),
        (_entry("objective", 3), "bench.objective:"),
        (_entry("input", {"frame_step": 0}), "bench.input.frame_step:"),
        (_entry("input", {"frame_step": 2, "colour": 1}), "bench.input.colour: Extra inputs"),
        (lambda bench: bench.pop("input"), "bench.input: Field required"),
        (lambda bench: bench["encoder"].pop("num_heads"), "bench.encoder.num_heads: Field required"),
        (_stating(colour="red"), "bench.encoder.colour: Extra inputs"),
        (_stating(num_heads="8"), "bench.encoder.num_heads: Input should be a valid integer"),
        (_stating(num_heads=True), "bench.encoder.num_heads:"),
        (_stating(num_heads=0), "bench.encoder.num_heads: Input should be greater than"),
        (_stating(use_rope=1), "bench.encoder.use_rope:"),
        (_stating(num_heads=5), "embed_dim 48 does not divide by num_heads 5"),
        (_stating(num_frames=3), "num_frames 3 does not divide by tubelet_size 2"),
        (_stating(resolution=18), "resolution 18 does not divide by patch_size 4"),
        (_stating(embed_dim=64), "embed_dim is 64 but the tensors have 48"),
        (_stating(depth=10**12), "depth is 1000000000000 but the tensors have 2"),
        (_stating(mlp_dim=192), "mlp_dim is 192 but the tensors have 80"),
        (_stating(patch_size=8), "patch_size is 8 but the tensors have 4"),
        (_stating(tubelet_size=4), "tubelet_size is 4 but the tensors have 2"),
        (_stating(num_frames=2 * 10**9), "is not the sin-cos code of the grid [1000000000, 4, 4]"),
        (_stating(num_frames=16, resolution=8), "is not the sin-cos code of the grid [8, 2, 2]"),
        (_stating(uniform_power=False), "is not the sin-cos code"),
        (_stating(use_rope=True, num_heads=16), "no room for rotary positions"),
        (_stating(use_rope=True), "pos_embed' is unexpected"),
    ],
)
def test_what_our_own_file_states_is_checked(
    tmp_path: Path, name: str, damage: Callable[[dict[str, Any]], None], words: str
) -> None:
    content = own()
    damage(content["bench"])
    path = saved(tmp_path / name, content)
    with pytest.raises(BenchError) as refusal:
        load_vjepa(path)
    assert words in str(refusal.value) and name in str(refusal.value)


def test_rotary_positions_cannot_be_stated_away(tmp_path: Path) -> None:
    content = own(replace(OWN, num_heads=4, use_rope=True))
    content["bench"]["encoder"]["use_rope"] = False
    with pytest.raises(BenchError, match="'pos_embed' is missing"):
        load_vjepa(saved(tmp_path / "own.pth.tar", content))


@pytest.mark.parametrize("text", ["not JSON", "[" * 100_000, '"a word"', "[1]"])
def test_an_entry_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    save_file(plain(), tmp_path / "own.safetensors", metadata={"bench": text})
    with pytest.raises(BenchError, match=r"own\.safetensors: bench: "):
        load_vjepa(tmp_path / "own.safetensors")


def test_one_made_up_name_does_not_ask_for_a_billion_blocks(tmp_path: Path) -> None:
    torch.save({"target_encoder": {**plain(), "blocks.999999999.x": torch.zeros(1)}}, tmp_path / "model.pt")
    with pytest.raises(BenchError, match="do not make a V-JEPA encoder"):
        load_vjepa(tmp_path / "model.pt", stated=Stated(num_heads=2, family="V-JEPA 2"))
