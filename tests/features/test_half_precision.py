"""What half precision cannot hold is refused by its name and the clip's; what it can hold passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench import BenchError
from bench.core.tensors import token_scale
from bench.encoders import Encoder, EncoderFacts, InputSpec, Precision
from bench.features.half_precision import HalfPrecision, check_finite

SEEN = InputSpec(num_frames=2, resolution=16)
FACTS = EncoderFacts(
    name="hers", embed_dim=16, num_heads=1, patch_size=4, tubelet_size=2, input_spec=SEEN, architecture={}
)


def ordinary(clips: int = 10) -> Tensor:
    """Tokens [clips, 16, 16] as a norm leaves them."""
    return torch.randn(clips, 16, 16, generator=torch.Generator().manual_seed(0))


def name(row: int) -> str:
    return f"clips/{row}.mp4"


def stored(tokens: Tensor, *, bits: int = 16, precision: Precision = "fp32") -> Tensor:
    half = HalfPrecision(Encoder(FACTS, nn.Identity()).to("cpu", precision), bits)
    rounded = half.rounded(tokens, name)
    half.check()
    return rounded


def spoiled(value: float) -> Tensor:
    tokens = ordinary()
    tokens[3, 5, :2] = value
    return tokens


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "tokens",
    [
        ordinary(),
        ordinary() * 100 + 200,
        ordinary().relu(),
        torch.zeros(10, 16, 16),
        torch.ones(10, 16, 16) * 0.1,
        nn.functional.one_hot(torch.arange(160).view(10, 16) % 16).float(),
        ordinary() + 5,
    ],
    ids=["normed", "offset", "sparse", "zero", "constant", "one hot", "shifted"],
)
def test_ordinary_tokens_pass_and_are_rounded_to_half_precision(tokens: Tensor, bits: int) -> None:
    assert torch.equal(stored(tokens, bits=bits), tokens.half())


def test_one_channel_that_is_hundreds_of_times_as_large_is_held() -> None:
    tokens = ordinary()
    tokens[..., 0] = 1500 + tokens[..., 0]
    assert torch.equal(stored(tokens), tokens.half())


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (spoiled(torch.nan), r"NaN \(not a number\) for clips/3.mp4, in 2 of 256 values"),
        (spoiled(-torch.inf), "infinite values for clips/3.mp4"),
        (spoiled(1.2e5), r"clips/3.mp4 are not finite in half precision.*reach 1.2e\+05.*ends at 65504"),
        (2000 + 0.001 * ordinary(), r"rounds away what tells them apart: channels lie at 2e\+03 and vary by 0.001"),
        (20 + 0.001 * ordinary(), "rounds away"),
        (3e4 + 0.001 * ordinary(), "rounds away"),
        (1e-3 * ordinary(), "vary by 0.001 only, which the epsilon"),
        (1e-8 * ordinary(), "rounds away"),
    ],
)
def test_what_it_cannot_hold_is_refused_by_name(tokens: Tensor, words: str) -> None:
    with pytest.raises(BenchError, match=words) as refusal:
        stored(tokens)
    assert "--precision fp32" not in str(refusal.value)


def test_a_lower_precision_is_blamed_where_it_was_asked_for() -> None:
    for precision in ("bf16", "fp16"):
        with pytest.raises(BenchError, match="--precision fp32"):
            stored(spoiled(torch.nan), precision=precision)


def test_in_8_bits_a_common_offset_counts_with_the_channels() -> None:
    tokens = 100 + 0.1 * ordinary()
    stored(tokens)
    with pytest.raises(BenchError, match=r"8 bits, .* --token-bits 16"):
        stored(tokens, bits=8)


def test_differences_between_clips_count_where_a_clip_has_one_token() -> None:
    with pytest.raises(BenchError, match="rounds away"):
        stored(2000 + 0.001 * ordinary(12)[:, :1])


def test_few_clips_which_may_all_be_of_one_colour_are_not_judged() -> None:
    tokens = 5 + 1e-4 * ordinary(3)
    assert torch.equal(stored(tokens), tokens.half())


def test_streamed_tokens_have_no_range_but_must_be_finite() -> None:
    encoder = Encoder(FACTS, nn.Identity())
    check_finite(encoder, spoiled(1e30), name)
    with pytest.raises(BenchError, match=r"NaN .* clips/3.mp4"):
        check_finite(encoder, spoiled(torch.nan), name)


@pytest.mark.parametrize("factor", [1e-30, 1e-8, 1e-6, 1e-4, 1e-2, 1e3, 1e4, 1e6, 1e30])
def test_the_scale_is_a_power_of_two_that_brings_the_spread_near_one(factor: float) -> None:
    tokens = ordinary() * factor
    scale = token_scale(tokens)
    assert torch.frexp(torch.tensor(scale, dtype=torch.float64))[0] == 0.5
    assert 0.5 < (tokens * scale).std() < 2


def test_ordinary_tokens_have_the_scale_one() -> None:
    for factor in (0.1, 1.0, 7.0, 200.0):
        assert token_scale(ordinary() * factor) == 1


def test_the_scale_leaves_room_above_large_values() -> None:
    tokens = 0.001 * ordinary()
    tokens[..., 0] = 50.0
    assert (tokens * token_scale(tokens)).abs().max() <= 4096
