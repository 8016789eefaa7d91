"""Image encoders of timm: what their tokens are, in which order, of which weights, and what is refused."""

from __future__ import annotations

import functools
import socket
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench import BenchError
from bench.encoders import Encoder, describe_encoder, hf_files, known_clips, load_encoder
from bench.encoders.timm_images import SHARE, add_frame_times, frame_code

VIT, CONV = "timm:test_vit+untrained", "timm:test_convnext+untrained"
FILE = "model.safetensors"
SPECS = [VIT, f"{VIT}+special", f"{VIT}+time", CONV]


@functools.cache
def load(spec: str) -> Encoder:
    """An encoder that no test changes."""
    return load_encoder(spec)


def short_clips(encoder: Encoder, num_frames: int = 2) -> Tensor:
    return known_clips(encoder.input_spec)[:, :, :num_frames]


@pytest.mark.parametrize("spec", SPECS)
def test_the_contract(spec: str) -> None:
    encoder = load(spec)
    clips = short_clips(encoder)
    tokens = encoder(clips)
    t, h, w = encoder.grid(2, 160, 160)
    assert tokens.shape == (2, t * (encoder.facts.special_tokens + h * w), encoder.embed_dim)
    assert torch.allclose(encoder(clips[1:]), tokens[1:], atol=1e-5)
    assert describe_encoder(spec) == encoder.facts
    assert encoder.digest not in {load(other).digest for other in SPECS if other != spec}


def test_random_weights_are_always_the_same() -> None:
    assert load_encoder(VIT).digest == load(VIT).digest


def test_tokens_are_timms_own_features_frame_after_frame() -> None:
    vit, conv = load(VIT), load(CONV)
    clips = short_clips(vit)
    for frame in (0, 1):
        image = clips[:, :, frame]
        patches = vit.module.model.forward_features(image)[:, 1:]  # type: ignore[union-attr, operator]
        assert torch.allclose(vit(clips)[:, frame * 100 : (frame + 1) * 100], patches, atol=1e-5)
        features = conv.module.model.forward_features(image)  # type: ignore[union-attr, operator]
        assert torch.allclose(conv(clips)[:, frame * 25 + 5 * 3 + 2], features[:, :, 3, 2], atol=1e-4)


@pytest.mark.parametrize("options", ["", "+special", "+time", "+special+time"])
def test_layers_are_timms_own_with_the_final_norm(options: str) -> None:
    encoder = load(VIT + options)
    assert encoder.facts.layer_indices == (0, 1, 2, 3, 4, 5)
    clips = short_clips(encoder)
    last, third, again = encoder.layers(clips, [5, 2, 2])
    assert torch.equal(last, encoder(clips)) and torch.equal(third, again) and third.shape == last.shape
    if options:
        return
    model = encoder.module.model
    with torch.inference_mode():
        theirs = model.get_intermediate_layers(clips[:, :, 1], n=[2], norm=True)[0]  # type: ignore[union-attr, operator]
    assert torch.allclose(third[:, 100:], theirs, atol=1e-5)


def test_layers_of_other_widths_cannot_be_asked_for() -> None:
    with pytest.raises(BenchError, match=r"timm:test_convnext\+untrained: has no layers to choose from"):
        load(CONV).layers(short_clips(load(CONV)), [0])
    with pytest.raises(BenchError, match="has no layer 6 - its layers are 0, 1, 2, 3, 4, 5"):
        load(VIT).layers(short_clips(load(VIT)), [6])


def test_special_tokens_come_before_the_patches_of_their_frame() -> None:
    plain, special = load(VIT), load(f"{VIT}+special")
    assert special.facts.special_tokens == 1 and plain.facts.special_tokens == 0
    clips = short_clips(plain)
    frames = special(clips).unflatten(1, (2, 101))
    class_tokens = special.module.model.forward_features(clips[:, :, 1])[:, 0]  # type: ignore[union-attr, operator]
    assert torch.allclose(frames[:, 1, 0], class_tokens, atol=1e-5)
    assert torch.equal(frames[:, :, 1:].flatten(1, 2), plain(clips))


def pooled(tokens: Tensor) -> Tensor:
    """What a probe that attends to tokens sees of them: a function of their set, not a linear one."""
    queries = torch.randn(tokens.shape[2], 8, generator=torch.Generator().manual_seed(0))
    return (tokens @ queries).logsumexp(dim=1)


@pytest.mark.parametrize("spec", [VIT, CONV])
def test_the_order_of_frames_shows_with_times_only(spec: str) -> None:
    clips = short_clips(load(spec), num_frames=4)
    plain, timed = load(spec), load(f"{spec}+time")
    assert torch.allclose(pooled(plain(clips)), pooled(plain(clips.flip(2))), atol=1e-3)
    difference = (pooled(timed(clips)) - pooled(timed(clips.flip(2)))).abs().mean()
    assert difference > 0.05 * pooled(timed(clips)).std()


def test_times_leave_the_mean_token_as_it_is() -> None:
    clips = short_clips(load(VIT), num_frames=4)
    plain, timed = load(VIT)(clips), load(f"{VIT}+time")(clips)
    assert torch.allclose(plain.mean(1), timed.mean(1), atol=1e-5)
    assert not torch.allclose(plain, timed, atol=0.1)


def test_a_still_image_has_no_times() -> None:
    image = short_clips(load(VIT), num_frames=1)
    assert torch.equal(load(VIT)(image), load(f"{VIT}+time")(image))


def test_the_row_says_what_the_tokens_are() -> None:
    assert load("timm:test_vit+untrained+time+special").name == "timm:test_vit+special+time+untrained"
    assert describe_encoder("timm:test_vit+time").name == "timm:test_vit.r160_in1k+time"
    report = load(f"{VIT}+time").report
    assert report["weights"] == "untrained, seed 0" and report["frame_times"] == "sin-cos code added"
    assert report["special_tokens"] == "dropped" and report["preprocessing_of"] == "timm test_vit.r160_in1k"


def test_preprocessing_is_that_of_the_weights() -> None:
    dino = describe_encoder("timm:vit_small_patch14_dinov2.lvd142m").input_spec
    assert (dino.resolution, dino.interpolation, dino.crop, dino.squash) == (518, "bicubic", 1.0, False)
    siglip = describe_encoder("timm:vit_base_patch16_siglip_224").input_spec
    assert (siglip.resolution, siglip.mean, siglip.std) == (224, (0.5,) * 3, (0.5,) * 3)
    resnet = describe_encoder("timm:resnet18.tv_in1k").input_spec
    assert (resnet.interpolation, resnet.crop) == ("bilinear", 0.875)
    assert describe_encoder("timm:convnext_tiny.fb_in22k_ft_in1k_384").input_spec.squash


def test_other_resolutions_where_timm_can_interpolate_positions() -> None:
    encoder = load(VIT)
    assert encoder(short_clips(encoder)[..., :96, :64]).shape == (2, 2 * 6 * 4, 64)
    bound = describe_encoder("timm:beit_base_patch16_224+untrained")
    assert bound.grid(16, 224, 224) == (16, 14, 14)
    with pytest.raises(BenchError, match=r"takes 224x224 pixels, not 112x112 - leave clip\.resolution out"):
        bound.grid(16, 112, 112)


def test_operations_are_counted() -> None:
    """Of 306 thousand weights, each is used once in a token; attention comes on top."""
    facts = describe_encoder(VIT)
    assert 2 * 290e3 < facts.flops(1) < 3 * 306e3
    assert facts.flops(1000) == pytest.approx(1000 * facts.flops(1))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """Tensors of the untrained model, with a classifier of five classes."""
    tensors = {n: t.clone() for n, t in load(VIT).module.model.state_dict().items()}  # type: ignore[union-attr]
    return {**tensors, "head.weight": torch.zeros(5, 64), "head.bias": torch.zeros(5)}


def test_weights_from_a_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, tmp_path / "mine.safetensors")
    torch.save({"model": {f"module.{n}": t for n, t in weights.items()}, "epoch": 3}, tmp_path / "mine.pt")
    for name in ("mine.safetensors", "mine.pt"):
        encoder = load_encoder(f"timm:test_vit+time@{tmp_path / name}")
        assert encoder.name == f"timm:test_vit+time@{name}"
        assert encoder.digest == load(f"{VIT}+time").digest, "a classifier is no part of the encoder"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("blocks.0.norm1.weight"), "blocks.0.norm1.weight"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra"),
        (lambda w: w.update({"norm.weight": torch.zeros(7)}), "size mismatch for norm.weight"),
    ],
)
def test_files_load_strictly(tmp_path: Path, weights: dict[str, Tensor], change: object, words: str) -> None:
    change(weights)  # type: ignore[operator]
    save_file(weights, tmp_path / "mine.safetensors")
    with pytest.raises(BenchError, match=r"mine\.safetensors: its tensors are not those of test_vit") as refusal:
        load_encoder(f"timm:test_vit@{tmp_path / 'mine.safetensors'}")
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("timm:tst_vit", "no model 'tst_vit' - nearest: test_vit"),
        ("timm:test_vit.r160_in2k", "no weights 'test_vit.r160_in2k' - nearest: test_vit.r160_in1k"),
        ("timm:test_vit+tme", "unknown option '+tme' - did you mean 'time'?"),
        ("timm:test_vit+time+time", "given twice"),
        ("timm:test_vit@", "no file after the @"),
        ("timm:test_vit@missing.pt", "missing.pt: no such checkpoint file"),
        ("timm:test_vit+untrained@mine.pt", "contradict"),
        ("timm:test_convnext+special+untrained", "gives no special tokens"),
        ("timm:inception_v3+untrained", "no regular grid"),
        ("timm:deepseek_vit_412m+untrained", "crop mode border"),
        ("timm:gemma4_vit_167m+untrained", "take another model"),
    ],
)
def test_bad_specs_say_what_to_do(spec: str, words: str) -> None:
    with pytest.raises(BenchError) as refusal:
        load_encoder(spec)
    assert words in str(refusal.value)


def test_without_timm_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BenchError, match=r"model timm:test_vit: timm cannot be imported .* - pip install timm"):
        describe_encoder("timm:test_vit")


def test_the_hubs_weights_come_from_its_cache_and_without_network_nor_cache_say_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    weights: dict[str, Tensor],
) -> None:
    from huggingface_hub import constants

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(hf_files, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BenchError, match=r"no weights: none in the hub's cache, .* say timm:test_vit@FILE"):
        load_encoder("timm:test_vit")
    assert capfd.readouterr() == ("", ""), "one line is enough"
    assert not constants.HF_HUB_OFFLINE

    repository = tmp_path / "models--timm--test_vit.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    save_file(weights | {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}, snapshot / FILE)
    encoder = load_encoder("timm:test_vit")
    assert encoder.name == "timm:test_vit.r160_in1k" and encoder.report["weights"] == "timm/test_vit.r160_in1k"
    assert encoder.digest == load(VIT).digest, "a classifier is no part of the encoder"

    save_file({name: tensor for name, tensor in weights.items() if name != "norm.bias"}, snapshot / FILE)
    with pytest.raises(BenchError, match="no weights: Error"):
        load_encoder("timm:test_vit")


@pytest.mark.parametrize(("num_frames", "embed_dim"), [(2, 8), (8, 64), (16, 768), (64, 385)])
def test_frames_have_codes_of_their_own_around_zero(num_frames: int, embed_dim: int) -> None:
    code = frame_code(num_frames, embed_dim)
    assert code.shape == (num_frames, embed_dim)
    assert code.mean(0).abs().max() < 1e-6 and code.square().mean() == pytest.approx(1, abs=1e-5)
    distances = torch.cdist(code[None], code[None])[0] + 1e9 * torch.eye(num_frames)
    assert distances.min() > 0.1 * code.norm(dim=1).mean(), "neighbours are told apart"


def test_a_single_frame_has_no_code() -> None:
    assert torch.equal(frame_code(1, 8), torch.zeros(1, 8))


def test_the_code_follows_the_scale_of_each_clip() -> None:
    tokens = torch.randn(3, 8, 5, 16, generator=torch.Generator().manual_seed(0))
    added = add_frame_times(tokens) - tokens
    spread = (tokens - tokens.mean(dim=(1, 2), keepdim=True)).square().mean(dim=(1, 2, 3)).sqrt()
    assert torch.allclose(added.square().mean(dim=(1, 2, 3)).sqrt(), SHARE * spread, rtol=1e-4)
    assert torch.allclose(added[:, :, :1].expand_as(added), added, atol=1e-6), "equal for all tokens of a frame"
    scaled = add_frame_times(100 * tokens + 7)
    assert torch.allclose(scaled, 100 * (tokens + added) + 7, rtol=1e-4, atol=1e-3)
    assert torch.allclose(add_frame_times(tokens[:1]), add_frame_times(tokens)[:1], atol=1e-6), "whatever the batch"
