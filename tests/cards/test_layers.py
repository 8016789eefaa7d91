"""Which encoder layers a probe reads: said by a card or `--set clip.layers`, encoded, streamed, named and refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import standins
import torch
from support import Run

import bench
from bench import BenchError
from bench.analysis.published import _same_protocol
from bench.cards.fields import Layers, layers_name, parse_layers
from bench.cards.load import TaskCard, load_probe_card, load_task, override
from bench.data.dataset import read
from bench.encoders import Encoder, load_encoder, vjepa
from bench.encoders.loading import layers_as_named, reading
from bench.encoders.untrained import vjepa_facts
from bench.features.extract import ExtractOptions, space_fields
from bench.features.spec import ClipTokens, item_key, sample_items
from bench.features.store import space_key
from bench.features.stream import ClipStream
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import make_plan
from bench.pipeline.suite import open_features
from bench.records.schema import Record
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from bench.video.clip_views import ClipPlan
from bench.video.contents import content_ids
from bench.video.loader import load_clips
from bench.video.train_views import TrainViews
from bench.video.views import normalise

pytestmark = pytest.mark.slow

FOUR = (17, 19, 21, 23)
SPEC = ClipTokens()
NANO = replace(vjepa.SIZES["vit_nano"], embed_dim=24, num_heads=2, mlp_dim=48)
PLAN = ClipPlan(
    frames_per_clip=8, frame_step=1, num_segments=2, views=1, size=16, sampling="center", seed=0,
    short_side=16, decoder="auto",
)  # fmt: skip
SHORT = {"probe.min_steps": 1, "probe.epochs": 2, "probe.batch_size": 8, "probe.lr": [1e-2], "probe.weight_decay": 0.01}


def tiny(depth: int, **changes: Any) -> Encoder:
    config = replace(NANO, depth=depth, **changes)
    model = vjepa.VisionTransformer(config)
    vjepa.init_untrained(model, seed=0, std=0.1)
    return Encoder(vjepa_facts(f"tiny{depth}", config, frame_step=1), model)


def tiny_file(path: Path, depth: int) -> str:
    """The same as a checkpoint."""
    weights = {f"module.backbone.{name}": value for name, value in tiny(depth).module.state_dict().items()}
    shapes = {"version": 1, "encoder": asdict(replace(NANO, depth=depth)), "input": {"frame_step": 1}}
    facts = {**shapes, "objective": "features", "samples": 0, "step": 0}
    torch.save({"target_encoder": weights, "epoch": 0, "bench": facts}, path)
    return str(path)


def hooked(encoder: Encoder, clip: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
    """The slow way for one clip: whatever leaves the blocks, each with the final norm, one after another."""
    module: Any = encoder.module
    left: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda block, inputs, output, index=index: left.__setitem__(index, output))
        for index, block in enumerate(module.blocks)
    ]
    with torch.inference_mode():
        module(clip)
        tokens = torch.cat([module.norm(left[index]) for index in layers], dim=1)
    for hook in hooks:
        hook.remove()
    return tokens[0]


def reference(encoder: Encoder, pixels: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
    """Of one sample's pixels [V, K, T, S, S, 3]: tokens [V, K * N, D], a loop over views and clips."""
    spec = encoder.input_spec
    views = [
        torch.cat([hooked(encoder, normalise(clip[None], spec.mean, spec.std), layers) for clip in view])
        for view in pixels
    ]
    return torch.stack(views)


# What may be said


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (None, None),
        (23, (23,)),
        ("23", (23,)),
        ("17,19,21,23", FOUR),
        ("23, 17,21,19", FOUR),
        ([17, 19, 21, 23], FOUR),
        (["17,19,21,23"], FOUR),
        ({24: [17, 19, 21, 23], "40": "24,29,34,39"}, {24: FOUR, 40: (24, 29, 34, 39)}),
    ],
)
def test_layers_are_said_as_numbers_for_all_encoders_or_by_depth(said: Any, meant: Any) -> None:
    assert parse_layers(said) == meant
    assert load_task("ssv2").clip.model_validate({"layers": said}).layers == meant


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("1,1", "a layer is named twice"),
        ([], "no layer is named"),
        ("last", "'last' is no layer"),
        ("-1", "'-1' is no layer"),
        (True, "True is no layer"),
        (1.5, "1.5 is no layer"),
        ({24: [24]}, "an encoder of 24 layers has no layer 24"),
        ({24: [1, 2], 40: [1]}, "as many layers for every depth"),
        ({}, "at least one depth"),
    ],
)
def test_what_names_no_layers_is_refused_with_the_field(said: Any, words: str) -> None:
    with pytest.raises(BenchError, match=f"clip.layers: .*{words}"):
        override(load_task("ssv2"), "clip", {"layers": said})


def test_the_layers_of_a_card_can_be_set_to_others_and_back_to_the_last() -> None:
    card = override(load_task("ssv2"), "clip", {"layers": "1,2"})
    assert card.clip.layers == (1, 2)
    assert override(card, "clip", {"layers": None}).clip.layers is None
    assert override(card, "clip", {"layers": 3}).clip.layers == (3,)
    assert override(card, "clip", {"layers": {3: [1]}}).clip.layers == {3: (1,)}


# What an encoder gives


@pytest.mark.parametrize("use_rope", [False, True])
def test_the_tokens_are_those_that_leave_the_blocks_each_with_the_final_norm(use_rope: bool) -> None:
    encoder = tiny(5, use_rope=use_rope)
    clips = torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens = encoder.reading((1, 3, 4))(clips)
    assert tokens.shape == (2, 3 * 64, 24) and encoder(clips).shape == (2, 64, 24)
    for clip, ours in zip(clips, tokens, strict=True):
        torch.testing.assert_close(ours, hooked(encoder, clip[None], (1, 3, 4)), rtol=0, atol=1e-6)


def test_a_reading_shares_the_weights_and_counts_its_tokens() -> None:
    encoder = tiny(5)
    several = encoder.reading((1, 4))
    assert several.module is encoder.module and several.digest == encoder.digest and encoder.facts.out_layers == ()
    sizes = (8, 16, 16)
    assert several.facts.num_tokens(*sizes) == 2 * encoder.facts.num_tokens(*sizes) == 128
    assert several.facts.grid(*sizes) == encoder.facts.grid(*sizes)
    assert several.facts.flops(128) == encoder.facts.flops(64), "layers on the way cost nothing"


def test_features_have_a_key_of_their_own_where_more_is_read_than_the_last_layer() -> None:
    encoder = tiny(5)
    keys = [space_key(space_fields(encoder.reading(layers), PLAN, SPEC)) for layers in ((), (4,), (3, 4), (3,), (2, 4))]
    assert keys[0] == keys[1] == space_key(space_fields(encoder, PLAN, SPEC)) and len(set(keys)) == 4
    assert "layers" not in space_fields(encoder.reading((4,)), PLAN, SPEC)


def test_layers_by_depth_are_those_of_the_encoder() -> None:
    facts = tiny(5).facts
    assert reading(facts, {3: (0, 1), 5: (2, 4)}).out_layers == (2, 4)
    assert reading(facts, {5: (4,)}).out_layers == reading(facts, None).out_layers == ()
    with pytest.raises(BenchError, match=r"tiny5: .* encoders with 24 and 40 of them, and this one has 5 - .*--set"):
        reading(facts, load_task("diving48").clips["vjepa2"].layers)
    levels = tiny(12, use_rope=True, multilevel=True).facts
    with pytest.raises(BenchError, match="has no layer 3 - its layers are 2, 5, 8, 11"):
        reading(levels, {12: (3, 11)})


def test_one_measurement_has_one_name() -> None:
    by_depth: Layers = {5: (2, 4), 3: (0, 1)}
    assert (layers_name(None), layers_name((2, 4)), layers_name(by_depth)) == ("", "layers 2,4", "2 layers")
    facts = tiny(5).facts
    assert layers_as_named(facts.reading((2, 4)), [None, by_depth]) == by_depth
    assert layers_as_named(facts.reading((0, 1)), [None, by_depth]) == (0, 1)
    assert layers_as_named(facts, [by_depth]) is None


# Runs


def options_of(data: Path, folder: Path, **options: Any) -> dict[str, Any]:
    given = {"task": "custom", "name": "brightness", "axis": "appearance", "workers": 0, "device": "cpu"}
    given |= {"data": data, "cache": folder / "cache", "results": folder / "results", "settings": SHORT}
    return given | options


def evaluate(data: Path, folder: Path, **options: Any) -> Record:
    record: Record = bench.evaluate(**options_of(data, folder, **options))
    return record


@pytest.mark.parametrize("task", ["diving48", "jester"])
def test_four_layers_go_from_the_official_files_to_a_score(tmp_path: Path, task: str) -> None:
    data, file = tmp_path / "data", tiny_file(tmp_path / "tiny24.pth.tar", 24)
    standins.standin(task, data, train=8, test=4)
    settings = {**SHORT, "clip.frames": 4, "probe.epochs": 40}
    options = options_of(data, tmp_path, task=task, model=file, clip="vjepa2", settings=settings)
    del options["name"], options["axis"]
    record: Record = bench.evaluate(**options)
    assert (record.scores[0].n, record.scores[0].value) == (4, 100.0)
    assert " 4x3 random step 2 4 layers " in record.protocol
    assert record.input == "4x16px step 2, layers 17,19,21,23"
    assert record.resolved["encoder"]["out_layers"] == list(FOUR)
    samples = read(task, data, "test")
    plan = make_plan(make_options(options)).test_clips
    ids = content_ids(tmp_path / "cache", [sample.path for sample in samples])
    items = [sample_items(sample, ids, 1)[0] for sample in samples]
    cached = open_features(tmp_path / "cache", record.digests["test_features"], [[item_key(item)] for item in items])
    assert (cached.num_views, cached.num_tokens) == (3, 4 * 4 * 32)
    encoder = load_encoder(file)
    for number, loaded in enumerate(load_clips(items, plan, num_workers=0)):
        assert loaded.pixels is not None
        expected = reference(encoder, loaded.pixels, FOUR)
        ours = torch.stack([cached.read(np.array([number]), view)[0] for view in range(3)])
        torch.testing.assert_close(ours.float(), expected, rtol=0, atol=4e-3)


@pytest.mark.parametrize("recipe", ["vjepa1-paper", "vjepa2-paper", "linear"])
def test_every_recipe_reads_several_layers(bright_and_dark: Path, tmp_path: Path, recipe: str) -> None:
    settings: dict[str, Any] = {"clip.layers": "0,2"}
    settings |= {"probe.lr": [1e-2], "probe.weight_decay": 0.1, "probe.epochs": 1}
    record = evaluate(bright_and_dark, tmp_path, probe=recipe, settings=settings)
    assert " layers 0,2" in record.protocol and record.input.endswith("layers 0,2") and record.scores[0].n == 12


@pytest.mark.parametrize("policy", [None, "official-video"])
def test_streamed_tokens_are_those_that_a_cache_would_hold(bright_and_dark: Path, policy: Any) -> None:
    samples = read("custom", bright_and_dark, "train")[:3]
    ids = content_ids(bright_and_dark, [sample.path for sample in samples])
    items = [sample_items(sample, ids, 1)[0] for sample in samples]
    plan: ClipPlan | TrainViews = PLAN
    if policy:
        plan = TrainViews(frames_per_clip=8, frame_step=1, num_segments=2, size=16, policy=policy, seed=0)
    encoder = tiny(5)
    asked, how = [SPEC.request(item) for item in items], ExtractOptions(num_workers=0)
    stream = ClipStream(encoder.reading((1, 4)), asked, plan, SPEC, how)
    (tokens,) = (chunk.tokens for chunk in stream.chunks([(0, np.arange(3))]))
    assert stream.num_tokens == tokens.shape[1] == 2 * 2 * 64
    if isinstance(plan, ClipPlan):
        for ours, loaded in zip(tokens, load_clips(items, plan, num_workers=0), strict=True):
            assert loaded.pixels is not None
            torch.testing.assert_close(ours, reference(encoder, loaded.pixels, (1, 4))[0], rtol=0, atol=1e-5)
    else:
        last = ClipStream(encoder, asked, plan, SPEC, how)
        (alone,) = (chunk.tokens for chunk in last.chunks([(0, np.arange(3))]))
        clips, layers = tokens.view(3, 2, 2, 64, 24), alone.view(3, 2, 64, 24)
        torch.testing.assert_close(clips[:, :, 1], layers, rtol=0, atol=1e-6)


def test_cached_views_hold_several_layers(bright_and_dark: Path, tmp_path: Path) -> None:
    views = {**SHORT, "probe.train_views": 2, "probe.augmentation": "official"}
    last, several = (
        evaluate(bright_and_dark, tmp_path, settings={**views, "clip.layers": layers}) for layers in ("2", "0,2")
    )
    assert "layer" not in last.protocol + last.input and "layers 0,2" in several.protocol
    assert several.cost.encoder_clips == last.cost.encoder_clips
    assert several.cost.feature_bytes == 2 * last.cost.feature_bytes
    assert several.digests["train_features"] != last.digests["train_features"]


def test_a_probe_of_several_layers_is_given_the_same_ones(bright_and_dark: Path, tmp_path: Path) -> None:
    trained = evaluate(bright_and_dark, tmp_path, seeds=1, settings={**SHORT, "clip.layers": "0,2"})
    probe = tmp_path / "results" / trained.run_id / "probe.safetensors"
    again = evaluate(bright_and_dark, tmp_path, probe_weights=probe, settings={"clip.layers": "0,2"})
    assert again.scores == trained.scores and not any("was trained on 8x" in note for note in again.notes)
    other = evaluate(bright_and_dark, tmp_path, probe_weights=probe, settings={})
    assert any("was trained on 8x16px step 1, layers 0,2" in note for note in other.notes)


def plan_of(data: Path, folder: Path, **settings: Any) -> RunPlan:
    return make_plan(make_options(options_of(data, folder, settings=settings)))


def test_a_forecast_counts_the_tokens_of_all_layers(bright_and_dark: Path, tmp_path: Path) -> None:
    last, several = (plan_of(bright_and_dark, tmp_path, **{"clip.layers": layers}) for layers in (None, "0,1,2"))
    one, three = forecast(last), forecast(several)
    assert (three.clips, three.tokens, three.feature_bytes) == (one.clips, 3 * one.tokens, 3 * one.feature_bytes)
    assert several.protocol == f"{last.protocol} layers 0,1,2"


@pytest.mark.parametrize(
    ("model", "layers", "words"),
    [
        ("pixels", "0,1", "model pixels: has no layers to choose from - .*clip.layers=null"),
        ("timm:test_convnext+untrained", "0,1", "has no layers to choose from"),
        ("random", "0,3", "model random: has no layer 3 - its layers are 0, 1, 2"),
        ("pixels", {24: FOUR}, "has no layers to choose from"),
        ("random", {24: FOUR}, "encoders with 24 of them, and this one has 3"),
    ],
)
def test_layers_that_are_not_there_are_refused_before_anything_is_encoded(
    bright_and_dark: Path, tmp_path: Path, model: str, layers: Any, words: str
) -> None:
    with pytest.raises(BenchError, match=words):
        evaluate(bright_and_dark, tmp_path, model=model, settings={"clip.layers": layers})
    assert not (tmp_path / "cache" / "features").exists()


def test_the_command_line_takes_layers(bench_command: Run, bright_and_dark: Path) -> None:
    command = ["run", "--task", "custom", "--data", bright_and_dark, "--model", "random", "--dry-run", "--json"]
    (told,) = json.loads(bench_command(*command, "--set", "clip.layers=0,2").stdout)
    assert told["protocol"].endswith("layers 0,2") and told["tokens"] == 2 * told["clips"] * 64


def test_published_scores_stand_beside_runs_of_the_same_layers() -> None:
    card: TaskCard = load_task("diving48")
    recipe = f"vjepa2-paper/{load_probe_card('vjepa2-paper').version}"
    column = type("Column", (), {"probe": "vjepa2-paper", "protocol": f"{recipe} 4x3 random step 2 4 layers"})()
    assert _same_protocol(card.references[0], column, card)
    column.protocol = f"{recipe} 4x3 random step 2"
    assert not _same_protocol(card.references[0], column, card)
