"""First weights of every tensor of a probe are those of the official classes."""

from __future__ import annotations

import json
import math

import pytest
import torch
from support import GOLDEN

from bench import BenchError
from bench.probing import actions, new_probe
from bench.probing.weights import first_weights

OFFICIAL = json.loads((GOLDEN / "probe_init.json").read_text())
ONE, FOUR = "vjepa1_one_block", "vjepa2_four_blocks"
UNUSED = ("xattn.proj.weight", "xattn.proj.bias")
"""Tensors of the official class that take no part in its function."""
CASES = [(probe, width) for probe in (ONE, FOUR) for width in ("64", "384", "1024")]


def drawn(probe: str, width: str, seeds: int = 8) -> dict[str, torch.Tensor]:
    """Every tensor [seeds, ...] of untrained probes."""
    facts = OFFICIAL[probe][width]
    blocks = {ONE: 1, FOUR: 4}[probe]
    made = [new_probe(int(width), facts["num_classes"], blocks, seed=seed).state_dict() for seed in range(seeds)]
    return {name: torch.stack([weights[name] for weights in made]) for name in made[0]}


@pytest.mark.parametrize(("probe", "width"), CASES)
def test_every_tensor_spreads_as_the_official_one(probe: str, width: str) -> None:
    official = {n: facts for n, facts in OFFICIAL[probe][width]["tensors"].items() if not n.endswith(UNUSED)}
    ours = drawn(probe, width, seeds=8 if width == "64" else 1)
    assert ours.keys() == official.keys()
    for name, facts in official.items():
        weights = ours[name]
        if facts["std"] == 0:
            assert (weights == facts["mean"]).all(), name
            continue
        # Standard errors of two deviations, each from so many values: five of them, and the five digits of the file.
        error = 5 * math.sqrt(1 / (2 * weights.numel()) + 1 / (2 * facts["values"])) + 5e-6 / facts["std"]
        if facts["max_abs"] > 10 * facts["std"]:  # a few values at the truncation, see bench.probing.weights
            error += 4 * (facts["max_abs"] / facts["std"]) ** 2 / (2 * facts["values"])
        assert weights.std().item() == pytest.approx(facts["std"], rel=error), name
        assert abs(weights.mean().item()) < 5 * facts["std"] / math.sqrt(weights.numel()), name


@pytest.mark.parametrize(("probe", "width"), CASES)
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_the_classifier_is_uniform_between_the_official_bounds(probe: str, width: str, part: str) -> None:
    shapes = {"linear.weight": (400, int(width)), "linear.bias": (400,)}
    bound = 1 / math.sqrt(int(width))
    values = torch.stack([first_weights(shapes, seed=seed)[f"linear.{part}"] for seed in range(4)])
    assert OFFICIAL[probe][width]["tensors"][f"linear.{part}"]["max_abs"] <= bound
    assert 0.99 * bound < values.abs().max().item() <= bound
    quarters = torch.histc(values / bound, bins=4, min=-1, max=1) / values.numel()
    assert (quarters - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / values.numel())


@pytest.mark.parametrize("head", actions.HEADS)
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_the_three_classifiers_of_actions_start_as_any_linear_layer(head: str, part: str) -> None:
    sizes = {"verb": 97, "noun": 300, "action": 400}
    weights = actions.initial_weights(64, list(sizes.values()), 4, seed=0)[f"{head}_classifier.{part}"]
    assert weights.abs().max().item() <= 1 / 8
    assert weights.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.15)
    assert weights.shape[0] == sizes[head]


def test_queries_of_actions_are_drawn_like_one_query() -> None:
    weights = actions.initial_weights(384, [3, 4, 5], 4, seed=0)
    assert weights["pooler.query_tokens"].shape == (1, 3, 384)
    assert weights["pooler.query_tokens"].std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("num_blocks", "divided_by"), [(1, 2), (2, 2), (3, 4), (4, 6), (7, 12)])
def test_the_cross_attention_takes_the_divisor_of_the_last_block(num_blocks: int, divided_by: int) -> None:
    weights = new_probe(128, 5, num_blocks).state_dict()["pooler.cross_attention_block.mlp.fc2.weight"]
    assert weights.std().item() == pytest.approx(0.02 / math.sqrt(divided_by), rel=0.02)


def test_a_seed_names_the_weights() -> None:
    shapes = {"pooler.query_tokens": (1, 1, 12), "linear.weight": (5, 12), "linear.bias": (5,)}
    one, again, other = (first_weights(shapes, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) and not torch.equal(one[name], other[name]) for name in shapes)


@pytest.mark.parametrize(
    ("width", "asked", "heads"), [(1024, None, 16), (1408, None, 16), (384, None, 6), (48, None, 2), (48, 3, 3)]
)
def test_a_new_probe_has_the_official_heads(width: int, asked: int | None, heads: int) -> None:
    assert new_probe(width, 4, num_heads=asked).num_heads == heads


@pytest.mark.parametrize("wrong", [{"num_heads": 5}, {"num_blocks": 0}, {"num_classes": 0}, {"num_heads": 0}])
def test_numbers_that_make_no_probe_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BenchError):
        new_probe(**{"embed_dim": 48, "num_classes": 4, **wrong})  # type: ignore[arg-type]
