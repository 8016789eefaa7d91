"""`load_encoder`: every name, the contract of what it returns, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from support import GOLDEN

from bench import BenchError
from bench.encoders import describe_encoder, known_clips, load_encoder
from bench.encoders.catalog import model_cards

BUILT_IN = [card.name for card in model_cards() if card.file is None]
SPECS = [*BUILT_IN, "random:vit_tiny", "pixels:8", str(GOLDEN / "hf-vjepa2")]


@pytest.mark.parametrize("spec", SPECS)
def test_the_contract(spec: str) -> None:
    encoder = load_encoder(spec)
    T, S = encoder.input_spec.num_frames, encoder.input_spec.resolution
    clips = known_clips(encoder.input_spec)
    tokens = encoder(clips)
    t, h, w = encoder.grid(T, S, S)
    assert tokens.shape == (2, t * h * w, encoder.embed_dim)
    assert tokens.dtype == torch.float32 and not tokens.requires_grad
    assert not encoder.module.training
    assert torch.allclose(encoder(clips[:1]), tokens[:1], atol=1e-5), "depends on the rest of the batch"
    assert encoder.embed_dim % encoder.num_heads == 0
    assert describe_encoder(spec) == encoder.facts


@pytest.mark.parametrize("spec", SPECS)
def test_the_digest_names_weights_and_architecture(spec: str) -> None:
    encoder = load_encoder(spec)
    assert encoder.digest == load_encoder(spec).digest
    others = {load_encoder(other).digest for other in SPECS if other != spec}
    assert encoder.digest not in others


def test_the_digest_sees_one_changed_weight() -> None:
    from bench.core.tensors import weights_digest

    encoder = load_encoder("random")
    with torch.no_grad():
        next(iter(encoder.module.parameters())).view(-1)[0] += 1e-3
    assert weights_digest(encoder.module, encoder.facts.architecture) != encoder.digest


def test_a_changed_encoder_fails_the_known_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.encoders import untrained

    monkeypatch.setattr(untrained, "SEED", 1)
    with pytest.raises(BenchError, match="known clips"):
        load_encoder("random")


def test_pixels_are_the_values_of_each_patch() -> None:
    encoder = load_encoder("pixels")
    clips = torch.arange(3 * 8 * 16 * 16, dtype=torch.float32).view(1, 3, 8, 16, 16)
    t, h, w = 2, 1, 3
    expected = clips[0, :, 2 * t : 2 * t + 2, 4 * h : 4 * h + 4, 4 * w : 4 * w + 4].flatten()
    assert torch.equal(encoder(clips)[0, (t * 4 + h) * 4 + w], expected)


@pytest.mark.parametrize(("precision", "bound"), [("bf16", 0.1), ("fp16", 0.02)])
def test_half_precision_stays_near_fp32(precision: str, bound: float) -> None:
    clips = known_clips(load_encoder("random").input_spec)
    exact = load_encoder("random")(clips)
    rounded = load_encoder("random").to("cpu", precision)(clips)
    assert 0 < (exact - rounded).abs().mean() < bound


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("rndom", "did you mean 'random'"),
        ("random:vit_lrge", "vit_large"),
        ("pixels:zero", "patch side"),
        ("missing.pth.tar", "no such checkpoint file"),
        (
            "facebook/vjepa2-vitl-fpc64-256",
            "no such file or folder - check the path; a repository on Hugging Face is hf:",
        ),
        ("vjepa-vitl16", "https://dl.fbaipublicfiles.com/jepa/vitl16/vitl16.pth.tar"),
    ],
)
def test_unknown_models_say_what_to_do(
    spec: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    with pytest.raises(BenchError) as refusal:
        load_encoder(spec)
    assert words in str(refusal.value)


def test_clips_that_do_not_divide_into_patches_are_refused() -> None:
    encoder = load_encoder("random")
    with pytest.raises(BenchError, match="do not divide"):
        encoder(torch.zeros(1, 3, 8, 18, 16))
    with pytest.raises(BenchError, match="takes clips"):
        encoder(torch.zeros(1, 8, 3, 16, 16))


@pytest.mark.parametrize(
    ("size", "heads"), [("vit_base", 12), ("vit_large", 16), ("vit_giant_xformers", 16), ("vit_gigantic_xformers", 16)]
)
def test_probes_of_wide_encoders_get_the_official_sixteen_heads(size: str, heads: int) -> None:
    facts = describe_encoder(f"random:{size}")
    assert facts.num_heads == heads
    assert facts.embed_dim % heads == 0
