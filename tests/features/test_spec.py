"""Features of boxes lie where the boxes are."""

from __future__ import annotations

import pytest
import torch
from support import GOLDEN

from bench.cards.load import BoxReading, load_probe_card
from bench.encoders import describe_encoder, load_encoder
from bench.features.spec import BoxTokens, box_features, chosen_layers, corners, token_maps

ALL = BoxReading(cells=2, over_time="all", over_cells="all")


def ramp(t: int, h: int, w: int) -> torch.Tensor:
    """Maps [t, 3, h, w] whose channels are the t, y and x of the middle of each cell, as shares of the whole."""
    axes = [(torch.arange(n) + 0.5) / n for n in (t, h, w)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=1)


def test_cells_lie_in_time_row_column_order_where_the_box_is() -> None:
    features = box_features(ramp(2, 8, 16), corners([(0.5, 0.25, 0.75, 0.75)]), ALL)
    times, rows, columns = (0.25, 0.75), (0.375, 0.625), (0.5625, 0.6875)
    expected = torch.tensor([[(t, y, x) for t in times for y in rows for x in columns]])
    torch.testing.assert_close(features, expected)


def test_exchanged_axes_read_another_place() -> None:
    right = box_features(ramp(1, 8, 8), corners([(0.5, 0.0, 1.0, 0.5)]), ALL)
    wrong = box_features(ramp(1, 8, 8), corners([(0.0, 0.5, 0.5, 1.0)]), ALL)
    assert (right - wrong).abs().max() > 0.4


@pytest.mark.parametrize(("over_cells", "expected"), [("mean", [0.5, 0.5, 0.625]), ("max", [0.5, 0.625, 0.6875])])
def test_time_is_averaged_and_cells_become_one_token(over_cells: str, expected: list[float]) -> None:
    reading = BoxReading.model_validate({**ALL.model_dump(), "over_time": "mean", "over_cells": over_cells})
    features = box_features(ramp(2, 8, 16), corners([(0.5, 0.25, 0.75, 0.75)]), reading)
    assert features[0].tolist() == [pytest.approx(expected)]


def test_boxes_do_not_see_each_other() -> None:
    maps, both = torch.randn(2, 5, 6, 7), [(0.1, 0.2, 0.6, 0.7), (0.3, 0.0, 1.0, 0.4)]
    together = box_features(maps, corners(both), ALL)
    torch.testing.assert_close(together, torch.cat([box_features(maps, corners([box]), ALL) for box in both]))


def test_tokens_lie_on_their_grid_without_the_special_ones() -> None:
    t, h, w, special = 2, 3, 4, 2
    patches = torch.arange(t * h * w).float().view(t, h * w, 1)
    tokens = torch.cat([torch.full((t, special, 1), -1.0), patches], dim=1).view(1, -1, 1)
    maps = token_maps([tokens, tokens * 10], (t, h, w), special)
    assert maps.shape == (1, t, 2, h, w)
    torch.testing.assert_close(maps[0, :, 0], patches.view(t, h, w))
    torch.testing.assert_close(maps[0, :, 1], 10 * patches.view(t, h, w))


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("random:vit_large", (17, 19, 21, 23)),  # 18, 20, 22, 24 counted from 1: protocol.md 3.7
        ("random:vit_huge", (25, 27, 29, 31)),
        ("random", (0, 1, 2)),
        (str(GOLDEN / "vjepa2_1.pt"), (2, 5, 8, 11)),
        ("pixels", ()),
    ],
)
def test_layers_are_those_of_the_paper_where_there_are_enough(model: str, layers: tuple[int, ...]) -> None:
    facts = describe_encoder(model, num_heads=2) if model.endswith(".pt") else describe_encoder(model)
    assert chosen_layers(facts, 4) == layers


def test_the_recipes_cache_kilobytes_a_box() -> None:
    """ViT-L, 16 frames of 224 pixels: four layers of one token, and one of 8 x 3 x 3 tokens."""
    facts = describe_encoder("random:vit_large")
    shapes = {}
    for name in ("ava-paper", "ava-attentive"):
        reading = load_probe_card(name).boxes
        assert reading is not None
        spec = BoxTokens(reading, chosen_layers(facts, reading.layers), {})
        shapes[name] = spec.shape(facts, (16, 224, 224))
    assert shapes == {"ava-paper": (1, 4096), "ava-attentive": (72, 1024)}
    assert [2 * tokens * channels for tokens, channels in shapes.values()] == [8192, 147456]


def test_a_bright_square_is_found_in_the_tokens_of_its_box() -> None:
    """Through an encoder, on frames that are no squares."""
    encoder = load_encoder("pixels")
    clip = torch.zeros(1, 3, 2, 16, 32)
    clip[..., 4:8, 20:28] = 1.0
    maps = token_maps([encoder(clip)], encoder.grid(2, 16, 32), 0)
    reading = BoxReading(cells=1, over_time="mean", over_cells="mean")
    inside, mirrored = (20 / 32, 4 / 16, 28 / 32, 8 / 16), (4 / 32, 4 / 16, 12 / 32, 8 / 16)
    features = box_features(maps[0], corners([inside, mirrored]), reading).mean(dim=(1, 2))
    assert features[0] > 0.4 and features[1] == 0
