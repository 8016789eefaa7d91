"""`bench doctor --model`: every promise of an encoder is checked, and a broken one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support import Run, assert_refused
from torch import Tensor, nn

from bench.encoders import Encoder, EncoderFacts, InputSpec, load_encoder
from bench.features.encoder_check import examine_encoder

CHECKS = ["model", "eval mode", "gradients off", "shape", "grid", "determinism", "batch", "unchanged", "known input"]


class Patches(nn.Module):
    """Tokens [B, 16, 8] of clips [B, 3, 4, 16, 16]; the tests break it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, 8, kernel_size=(2, 4, 4), stride=(4, 4, 4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, clips: Tensor) -> Tensor:
        return self.embed(clips).flatten(2).transpose(1, 2)


class Noisy(Patches):
    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips) + 0.1 * torch.randn(1)


class SeesTheBatch(Patches):
    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips - clips.mean(0))


class Counts(Patches):
    def forward(self, clips: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(clips)


class ChannelsFirst(Patches):
    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips).transpose(1, 2)


class Infinite(Patches):
    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips) / 0


class Fails(Patches):
    def forward(self, clips: Tensor) -> Tensor:
        return super().forward(clips[:, :2])


def encoder_of(module: nn.Module, num_heads: int = 2) -> Encoder:
    sizes = {"embed_dim": 8, "num_heads": num_heads, "patch_size": 4, "tubelet_size": 4}
    seen = InputSpec(num_frames=4, resolution=16)
    return Encoder(EncoderFacts(name="hers", input_spec=seen, architecture={}, **sizes), module)


def broken(encoder: Encoder) -> list[str]:
    return [check.name for check in examine_encoder(encoder) if not check.ok]


def test_an_encoder_that_keeps_the_contract_passes() -> None:
    for encoder in (encoder_of(Patches()), load_encoder("random"), load_encoder("timm:test_convnext+untrained")):
        checks = examine_encoder(encoder)
        assert [check.name for check in checks] == CHECKS and all(check.ok for check in checks), checks


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (Noisy, "determinism"),
        (SeesTheBatch, "batch"),
        (Counts, "unchanged"),
        (ChannelsFirst, "shape"),
        (Infinite, "shape"),
        (Fails, "shape"),
    ],
)
def test_a_broken_promise_is_named(module: type[nn.Module], name: str) -> None:
    assert name in broken(encoder_of(module()))


def test_what_was_switched_back_on_is_named() -> None:
    learning, training = encoder_of(Patches()), encoder_of(Patches())
    learning.module.requires_grad_(True)
    training.module.train()
    assert broken(learning) == ["gradients off"] and broken(training) == ["eval mode"]
    assert broken(encoder_of(Patches(), num_heads=3)) == ["model"]


def test_the_command_prints_a_line_for_each_check(bench_command: Run) -> None:
    done = bench_command("doctor", "--model", "random", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == 0 and [check["name"] for check in checks] == CHECKS
    assert "digest " in checks[-1]["found"] and "mean " in checks[-1]["found"]


def test_a_broken_encoder_ends_the_command_with_code_2(bench_command: Run, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "hers.py").write_text(
        "import torch\nfrom bench.encoders import load_encoder\n"
        "def build():\n    encoder = load_encoder('pixels')\n    encoder.module.train()\n    return encoder\n"
    )
    done = bench_command("doctor", "--model", "hers:build")
    assert "BROKEN" in done.stdout
    assert_refused(done, "hers:build", "does not keep the contract")
