"""`Encoder.layers`, and still images: one frame, as each family is shown it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench import BenchError
from bench.encoders import Encoder, load_encoder, vjepa
from bench.encoders.untrained import vjepa_facts

TINY = replace(vjepa.SIZES["vit_nano"], embed_dim=24, depth=4, num_heads=2, mlp_dim=48)
FAMILIES = {
    "V-JEPA": TINY,
    "V-JEPA 2": replace(TINY, use_rope=True),
    "V-JEPA 2.1": replace(TINY, use_rope=True, multilevel=True, depth=12),
}


def tiny(family: str) -> Encoder:
    config = FAMILIES[family]
    assert config.family == family
    model = vjepa.VisionTransformer(config)
    vjepa.init_untrained(model, seed=0, std=0.1)
    return Encoder(vjepa_facts(family, config), model)


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_is_what_the_encoder_gives(family: str, clips: torch.Tensor) -> None:
    encoder = tiny(family)
    known = encoder.facts.layer_indices
    layers = encoder.layers(clips, known)
    assert [layer.shape for layer in layers] == [(2, 64, 24)] * len(known)
    assert torch.equal(layers[-1], encoder(clips))
    # A fresh norm leaves tokens of mean 0 and deviation 1: each layer has passed one.
    assert all(layer.mean(-1).abs().max() < 1e-5 for layer in layers)
    assert not torch.allclose(layers[0], layers[1], atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_come_in_the_order_asked_for(family: str, clips: torch.Tensor) -> None:
    encoder = tiny(family)
    first, *_, last = encoder.facts.layer_indices
    one, two = encoder.layers(clips, [last, first])
    assert torch.equal(one, encoder.layers(clips, [last])[0])
    assert torch.equal(two, encoder.layers(clips, [first])[0])


def test_every_layer_of_v_jepa_1_and_2_has_the_final_norm(clips: torch.Tensor) -> None:
    for family in ("V-JEPA", "V-JEPA 2"):
        encoder = tiny(family)
        model = encoder.module
        with torch.inference_mode():
            outputs = [model.norm(x) for x in model.layer_outputs(clips)]
        for layer, expected in zip(encoder.layers(clips, range(4)), outputs, strict=True):
            assert torch.equal(layer, expected)


@pytest.mark.parametrize(
    ("depth", "levels"),
    [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (40, (9, 19, 29, 39)), (48, (11, 23, 37, 47))],
)
def test_the_levels_of_2_1(depth: int, levels: tuple[int, ...]) -> None:
    assert replace(FAMILIES["V-JEPA 2.1"], depth=depth).layer_indices == levels


@pytest.mark.parametrize(
    ("family", "layer", "words"),
    [
        ("V-JEPA", 4, "has no layer 4 - its layers are 0, 1, 2, 3"),
        ("V-JEPA 2", -1, "has no layer -1"),
        ("V-JEPA 2.1", 3, "has no layer 3 - its layers are 2, 5, 8, 11"),
    ],
)
def test_a_layer_that_does_not_exist_is_refused(family: str, layer: int, words: str, clips: torch.Tensor) -> None:
    encoder = tiny(family)
    with pytest.raises(BenchError) as refusal:
        encoder.layers(clips, [encoder.facts.layer_indices[0], layer])
    assert words in str(refusal.value) and family in str(refusal.value)


def test_pixels_have_no_layers(clips: torch.Tensor) -> None:
    with pytest.raises(BenchError, match="model pixels: has no layers to choose from"):
        load_encoder("pixels").layers(clips, [0])


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({"num_frames": 16}, 16),
        ({"num_frames": 8}, 8),
        ({"num_frames": 64, "use_rope": True}, 16),
        ({"num_frames": 64, "use_rope": True, "embed_dim": 1408, "resolution": 384}, 18),
        ({"num_frames": 64, "use_rope": True, "embed_dim": 1408, "resolution": 256}, 16),
        ({"num_frames": 64, "use_rope": True, "multilevel": True, "embed_dim": 1408, "resolution": 384}, 1),
        ({"num_frames": 24, "tubelet_size": 3}, 15),
    ],
)
def test_still_images_are_shown_as_the_authors_show_them(changes: dict[str, int], frames: int) -> None:
    assert replace(TINY, **changes).still_frames == frames


@pytest.mark.parametrize(
    ("spec", "frames"),
    [("random", 8), ("vjepa-nano", 8), ("random:vit_tiny", 16), ("pixels", 2), ("pixels:8", 2)],
)
def test_a_still_image_is_a_clip_of_its_copies(spec: str, frames: int) -> None:
    encoder = load_encoder(spec)
    side = 2 * encoder.facts.patch_size
    image = torch.randn(2, 3, 1, side, side, generator=torch.Generator().manual_seed(0))
    tokens = encoder(image)
    assert torch.equal(tokens, encoder(image.repeat(1, 1, frames, 1, 1)))
    assert encoder.grid(1, side, side) == (frames // 2, 2, 2)
    assert tokens.shape == (2, frames // 2 * 4, encoder.embed_dim)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_of_a_still_image_have_its_grid(family: str) -> None:
    encoder = tiny(family)
    image = torch.randn(1, 3, 1, 16, 8)
    t, h, w = encoder.grid(1, 16, 8)
    assert (t, h, w) == (1 if family == "V-JEPA 2.1" else 4, 4, 2)
    last = encoder.facts.layer_indices[-1]
    assert torch.equal(encoder.layers(image, [last])[0], encoder(image))
    assert encoder(image).shape == (1, t * h * w, 24)


def test_2_1_sees_images_through_an_embedding_of_their_own() -> None:
    encoder = tiny("V-JEPA 2.1")
    image = torch.randn(1, 3, 1, 16, 16)
    pair = encoder(image.repeat(1, 1, 2, 1, 1))
    assert pair.shape == encoder(image).shape and not torch.allclose(pair, encoder(image), atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_do_not_depend_on_the_batch_or_on_threads(family: str, clips: torch.Tensor) -> None:
    """Within 1e-5: other batches and threads add in another order."""
    encoder = tiny(family)
    tokens, threads = encoder(clips), torch.get_num_threads()
    assert torch.allclose(encoder(clips[1:]), tokens[1:], atol=1e-5)
    assert torch.allclose(encoder(clips.repeat(3, 1, 1, 1, 1))[4:], tokens, atol=1e-5)
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.allclose(encoder(clips), tokens, atol=1e-5)
    finally:
        torch.set_num_threads(threads)
