"""Checkpoints: our own come back whole, official ones are read, and damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import GOLDEN

import bench.pretrain
from bench.core.errors import BenchError
from bench.encoders import load_encoder
from bench.pretrain.checkpoint import save_state
from bench.pretrain.presets import load_preset, override
from bench.pretrain.state import TrainState, new_state

FACTS: dict[str, Any] = {
    "opt": {},
    "scaler": None,
    "epoch": 1,
    "loss": 0.5,
    "batch_size": 8,
    "world_size": 1,
    "lr": 0.1,
}


def saved(path: Path, **settings: Any) -> TrainState:
    preset = override(load_preset("demo"), settings)
    state = new_state(preset)
    save_state(path, state, facts=FACTS, bench={"objective": preset.objective, "input": {"frame_step": 1}})
    return state


@pytest.mark.parametrize("objective", ["features", "pixels", "contrast", "slow"])
@pytest.mark.parametrize("use_rope", [False, True])
def test_a_saved_state_comes_back_whole(objective: str, use_rope: bool, tmp_path: Path) -> None:
    state = saved(tmp_path / "a.pth.tar", objective=objective, use_rope=use_rope)
    again = bench.pretrain.load_state(tmp_path / "a.pth.tar")
    for part in ("encoder", "predictor", "target_encoder"):
        one, two = getattr(state, part), getattr(again, part)
        assert one.config == two.config
        assert one.state_dict().keys() == two.state_dict().keys()
        assert all(torch.equal(one.state_dict()[name], two.state_dict()[name]) for name in one.state_dict())
    encoder = load_encoder(str(tmp_path / "a.pth.tar"))
    clips = torch.randn(1, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder(clips), state.target_encoder(clips))


def test_an_official_file_is_read() -> None:
    state = bench.pretrain.load_state(GOLDEN / "vjepa1_pretrain.pth.tar", num_heads=2)
    assert (state.encoder.config.embed_dim, state.predictor.config.embed_dim) == (48, 24)
    assert state.predictor.config.num_mask_tokens == 2
    assert not any(parameter.requires_grad for parameter in state.target_encoder.parameters())


def test_training_does_not_go_on_from_another_family(tmp_path: Path) -> None:
    content = torch.load(GOLDEN / "vjepa2.pt", weights_only=True)
    torch.save({**content, "predictor": {"mask_tokens.0": torch.zeros(1, 1, 24)}}, tmp_path / "a.pt")
    with pytest.raises(BenchError, match="this is a V-JEPA 2 checkpoint; pretraining goes on from V-JEPA 1 files"):
        bench.pretrain.load_state(tmp_path / "a.pt", num_heads=2)


def test_a_file_without_a_predictor_is_no_pretraining_checkpoint(tmp_path: Path) -> None:
    torch.save({"encoder": {}, "target_encoder": {}}, tmp_path / "a.pt")
    with pytest.raises(BenchError, match=r"a\.pt: no 'predictor' in the file"):
        bench.pretrain.load_state(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": 3}, "tensors do not fit, first 'predictor_blocks.2"),
        ({"depth": 10**9}, "absurd size"),
        ({"depth": "many"}, "'bench.head' entry is damaged"),
        ({"breadth": 3}, "'bench.head' entry is damaged"),
        ({"kind": "projector"}, "'bench.head' entry is damaged"),
    ],
)
def test_a_head_that_does_not_fit_its_description_is_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    saved(tmp_path / "a.pth.tar")
    content = torch.load(tmp_path / "a.pth.tar", weights_only=True)
    content["bench"]["head"].update(change)
    torch.save(content, tmp_path / "b.pth.tar")
    with pytest.raises(BenchError) as caught:
        bench.pretrain.load_state(tmp_path / "b.pth.tar")
    assert words in str(caught.value)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest.pth.tar"
    saved(path)
    before = path.read_bytes()

    def fail(content: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.pretrain.checkpoint.torch.save", fail)
    with pytest.raises(OSError, match="No space"):
        saved(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["latest.pth.tar"]
