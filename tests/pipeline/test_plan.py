"""From options to a plan: what the encoder sees, and what the measurement is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench import BenchError
from bench.cards.load import flat, load_probe_card, override, own_recipe_mark
from bench.pipeline.plan import RunPlan, make_plan
from bench.tasks.options import make_options


@pytest.fixture
def plan_of(tmp_path: Path) -> Any:
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "val.csv").write_text("c.mp4 0\n")

    def make(**options: Any) -> RunPlan:
        given = {"task": "custom", "data": tmp_path, "cache": tmp_path / "cache"} | options
        return make_plan(make_options(given))

    return make


def test_the_clip_is_the_encoders_own_unless_the_card_says_more(plan_of: Any) -> None:
    plan = plan_of(model="random:vit_tiny")
    assert (plan.input_name, plan.test_clips.frame_step, plan.clip_tokens) == ("16x224px step 4", 4, 1568)
    changed = plan_of(model="random:vit_tiny", settings={"clip.frames": 8, "clip.resolution": 112, "clip.step": 2})
    assert (changed.input_name, changed.test_clips.frame_step, changed.clip_tokens) == ("8x112px step 2", 2, 4 * 7 * 7)


def test_preprocessing_is_the_weights_own(plan_of: Any) -> None:
    plan = plan_of(model="timm:test_vit+untrained")
    clips = plan.test_clips
    assert (clips.interpolation, clips.short_side, clips.squash) == ("bicubic", 168, False)
    assert plan.input_name == "16x160px step 4, bicubic, short side 168px"
    assert plan.train_clips.interpolation == "bicubic" and plan.clip_tokens == 16 * 100
    full = plan_of(model="timm:test_vit+untrained", settings={"clip.crop": "full", "clip.resolution": 64})
    assert (full.test_clips.short_side, full.input_name) == (64, "16x64px step 4, bicubic")
    assert plan_of(model="timm:test_vit+untrained+special").clip_tokens == 16 * 101


def test_squashed_frames_have_one_view(plan_of: Any) -> None:
    one, three = (
        plan_of(model="timm:convnext_tiny.fb_in22k_ft_in1k_384+untrained", settings={"clip.views": views})
        for views in (1, 3)
    )
    assert one.test_clips.squash and one.input_name == "16x384px step 4, bicubic, squashed"
    assert (one.test_clips.short_side, three.test_clips.short_side) == (384, None)
    assert not three.test_clips.squash and three.train_clips.squash


def test_ssv2_is_measured_as_16x2x3(plan_of: Any) -> None:
    plan = plan_of(task="ssv2", model="random:vit_large")
    clips = plan.test_clips
    assert (clips.frames_per_clip, clips.num_segments, clips.views, clips.frame_step) == (16, 2, 3, 4)
    assert plan.train_clips.views == 1 and plan.train_clips.num_segments == 2
    assert len(plan.splits.class_names) == 174


def test_the_clip_protocol_of_a_paper_shows_in_names_and_gives_way_to_settings(plan_of: Any) -> None:
    options = {"task": "ssv2", "model": "random:vit_tiny"}
    plan, own = plan_of(**options, clip="vjepa2-g384"), plan_of(**options)
    assert plan.input_name == "64x224px step 2" and own.input_name == "16x224px step 4"
    assert plan.protocol == "attentive/3 2x3 random step 2" and own.protocol == "attentive/3 2x3 center step 4"
    assert plan_of(**options, clip="vjepa2-g384", settings={"clip.frames": 8}).input_name == "8x224px step 2"


def test_several_train_views_are_drawn_at_random(plan_of: Any) -> None:
    assert plan_of().train_clips.sampling == "center" and plan_of().draws("train") == 1
    plan = plan_of(settings={"probe.train_views": 3}, seed=7)
    assert (plan.train_clips.sampling, plan.train_clips.seed, plan.draws("train"), plan.draws("test")) == (
        "random",
        7,
        3,
        1,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"settings": {"probe.lr": 1e-3}},
        {"settings": {"clip.segments": 2}},
        {"settings": {"clip.views": 3}},
        {"settings": {"clip.segments": 2, "clip.attend_across_segments": False}},
        {"settings": {"clip.step": 2}},
        {"settings": {"clip.fps": 4}},
        {"settings": {"clip.duration_s": 2.5}},
        {"settings": {"clip.crop": "full"}},
        {"settings": {"probe.num_heads": 8}},
        {"settings": {"probe.num_blocks": 2}},
        {"settings": {"clip.sampling": "random"}},
        {"limit": 2},
        {"probe": "linear"},
    ],
)
def test_every_other_measurement_has_another_name(plan_of: Any, options: dict[str, Any]) -> None:
    assert plan_of(**options).protocol != plan_of().protocol


@pytest.mark.parametrize("options", [{"workers": 3}, {"batch_size": 2}, {"device": "cpu"}, {"seed": 5}])
def test_what_does_not_change_the_measurement_does_not_change_its_name(plan_of: Any, options: dict[str, Any]) -> None:
    assert plan_of(**options).protocol == plan_of().protocol


def test_clips_are_normalised_as_the_encoder_wants_or_as_the_user_says(plan_of: Any) -> None:
    own, plan = plan_of(), plan_of(settings={"clip.mean": [0.5, 0.5, 0.5], "clip.std": [0.5, 0.5, 1]})
    assert own.facts.input_spec.mean == (0.485, 0.456, 0.406)
    assert (plan.facts.input_spec.mean, plan.facts.input_spec.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 1))
    assert plan.protocol == f"{own.protocol} mean 0.5,0.5,0.5 std 0.5,0.5,1"
    assert plan.input_name == f"{own.input_name}, mean 0.5,0.5,0.5, std 0.5,0.5,1"
    mean_alone = plan_of(settings={"clip.mean": [0, 0, 0]})
    assert mean_alone.facts.input_spec.std == own.facts.input_spec.std
    assert mean_alone.protocol == f"{own.protocol} mean 0,0,0"
    assert {"mean", "std"} <= set(plan.task.clip.model_dump()) and not {"mean", "std"} & set(own.task.clip.model_dump())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"clip.mean": [123.7, 116.3, 103.5]}, "mean: pixel values are divided by 255 first.*123.7"),
        ({"clip.std": [58.4, 57.1, 57.4]}, "std: pixel values are divided by 255 first"),
        ({"clip.std": [0, 0.2, 0.2]}, "std.*greater than 0"),
        ({"clip.std": [0.2, float("nan"), 0.2]}, "std"),
        ({"clip.mean": [-0.1, 0.5, 0.5]}, "mean.*greater than or equal to 0"),
        ({"clip.mean": [0.5, 0.5]}, "mean"),
        ({"clip.mean": [0.5, 0.5, 0.5, 0.5]}, "mean.*at most 3"),
        ({"clip.mean": 0.5}, "mean"),
        ({"clip.mean": [True, 0.5, 0.5]}, "mean"),
    ],
)
def test_a_normalisation_that_cannot_be_meant_is_refused(plan_of: Any, setting: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        plan_of(settings=setting)


def test_segments_that_are_classified_one_by_one_are_trained_on_as_one_clip(plan_of: Any) -> None:
    settings = {"clip.segments": 4, "clip.views": 2, "clip.attend_across_segments": False}
    plan = plan_of(settings=settings)
    assert (plan.train_clips.num_segments, plan.test_clips.num_segments, plan.clips_apart) == (1, 4, 4)
    assert plan.held_out_clips is None and plan.protocol.endswith(" 4x2 center clips apart")
    streamed = plan_of(probe="vjepa2", settings=settings)
    assert (streamed.train_clips.num_segments, streamed.held_out_clips.num_segments) == (1, 4)
    jointly = plan_of(settings={**settings, "clip.attend_across_segments": True})
    assert (jointly.train_clips.num_segments, jointly.clips_apart) == (4, 1)
    assert jointly.protocol == plan_of(settings={"clip.segments": 4, "clip.views": 2}).protocol


@pytest.mark.parametrize("value", [{"clip.attend_across_segments": wrong} for wrong in (False, 0)])
def test_one_segment_has_nothing_to_be_apart_from(plan_of: Any, value: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="attend_across_segments"):
        plan_of(settings=value)


def test_steps_by_time_are_named(plan_of: Any) -> None:
    by_rate, by_duration = plan_of(settings={"clip.fps": 4}), plan_of(settings={"clip.duration_s": 2.5})
    assert by_rate.protocol.endswith(" 1x1 center 4 fps") and by_duration.protocol.endswith(" 1x1 center 2.5 s clips")
    assert (by_rate.input_name, by_duration.input_name) == ("8x16px 4 fps", "8x16px 2.5 s")
    assert (by_rate.train_clips.fps, by_rate.test_clips.duration_s, by_duration.test_clips.duration_s) == (4, None, 2.5)


def test_at_most_one_step_is_given(plan_of: Any) -> None:
    with pytest.raises(BenchError, match="step and fps exclude each other"):
        plan_of(task="ssv2", settings={"clip.fps": 4})
    plan = plan_of(task="ssv2", settings={"clip.fps": 4, "clip.step": None}, model="random:vit_tiny")
    assert plan.input_name == "16x224px 4 fps"


def test_lists_of_images_alone_are_an_image_task(plan_of: Any, tmp_path: Path) -> None:
    for split, rows in {"train": "a.jpg 0\nb.PNG 1\n", "val": "c.webp 0\n"}.items():
        (tmp_path / f"{split}.csv").write_text(rows)
    plan = plan_of(model="random:vit_tiny")
    clips = plan.test_clips
    assert (clips.frames_per_clip, clips.num_segments, clips.views, clips.interpolation) == (1, 1, 1, "bilinear")
    assert (clips.short_side, clips.squash, plan.input_name) == (None, False, "224px image")
    assert plan.protocol == "attentive/3 image" and plan.clip_tokens == 1568, "repeated to 16 frames by the encoder"
    assert plan_of(model="timm:test_vit+untrained").input_name == "160px image, bicubic, short side 168px"
    assert plan_of(settings={"clip.frames": 18}, model="random:vit_tiny").input_name == "224px image x18"
    (tmp_path / "val.csv").write_text("c.mp4 0\n")
    assert plan_of(model="random:vit_tiny").input_name == "16x224px step 4", "an image among videos is a still video"


@pytest.mark.parametrize("name", ["c.webp", "c.png", "C.WEBP"])
@pytest.mark.parametrize("moving", [True, False])
def test_an_animation_among_images_makes_a_task_of_videos(
    plan_of: Any, tmp_path: Path, name: str, moving: bool
) -> None:
    pictures = [Image.new("RGB", (20, 20), (80 * number, 0, 0)) for number in range(3 if moving else 1)]
    several = {"save_all": True, "append_images": pictures[1:]} if moving else {}
    pictures[0].save(tmp_path / name, **several)
    for split, rows in {"train": "a.jpg 0\nb.PNG 1\n", "val": f"{name} 0\n"}.items():
        (tmp_path / f"{split}.csv").write_text(rows)
    assert plan_of(model="random:vit_tiny").task.media == ("video" if moving else "image")


@pytest.mark.parametrize("setting", [{"clip.segments": 2}, {"clip.views": 3}, {"clip.fps": 4}, {"clip.step": 4}])
def test_what_means_nothing_for_images_is_refused(plan_of: Any, tmp_path: Path, setting: dict[str, Any]) -> None:
    for split, rows in {"train": "a.jpg 0\nb.jpg 1\n", "val": "c.jpg 0\n"}.items():
        (tmp_path / f"{split}.csv").write_text(rows)
    with pytest.raises(BenchError, match=f"{next(iter(setting))} .* means nothing for images"):
        plan_of(settings=setting)


@pytest.mark.parametrize("lr", [1e-3, [1e-3], [0.001], (1e-3,)])
def test_one_measurement_has_one_name(plan_of: Any, lr: Any) -> None:
    assert plan_of(settings={"probe.lr": lr}).protocol == "attentive/3 1x1 center lr=0.001"
    assert plan_of(settings={"probe.held_out": 0.05}).protocol == plan_of().protocol


def test_recipes_of_ones_own_keep_their_mark() -> None:
    """Records made earlier share a column with new ones; only probes of several blocks say how many."""
    own = override(load_probe_card("attentive"), "probe", {"lr": [0.5]})
    assert own_recipe_mark(own) == "#2537e1"
    assert not {"num_blocks", "num_heads"} & set(flat(own)) and not {"num_heads"} & set(own.model_dump())
    assert "num_blocks" not in flat(own) and flat(load_probe_card("vjepa2-paper"))["num_blocks"] == "4"


def test_the_probe_has_the_heads_of_the_encoders_facts_unless_the_recipe_says_others(plan_of: Any) -> None:
    assert (plan_of().probe_heads, plan_of(model="random:vit_large").probe_heads) == (4, 16)
    plan = plan_of(settings={"probe.num_heads": 8, "probe.num_blocks": 2})
    assert plan.probe_heads == 8 and plan.recipe.num_blocks == 2
    assert plan.protocol == f"{plan_of().protocol} num_blocks=2 num_heads=8"
    one = plan_of(probe="vjepa2-paper", settings={"probe.num_blocks": 1})
    assert one.protocol.endswith(" num_blocks=1") and one.recipe.num_blocks == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"settings": {"probe.num_heads": 5}},
            "^model random: a probe of 64 channels cannot have 5 heads.*divisor of the width",
        ),
        ({"settings": {"probe.num_heads": 128}}, "64 channels cannot have 128 heads"),
        ({"settings": {"probe.num_heads": 0}}, "num_heads.*greater than or equal to 1"),
        ({"settings": {"probe.num_heads": 4.0}}, "num_heads.*integer"),
        ({"settings": {"probe.num_heads": 4}, "probe": "linear"}, "num_heads: only attentive probes"),
        ({"settings": {"probe.num_heads": 4}, "probe": "knn"}, "num_heads: only attentive probes"),
        ({"settings": {"probe.num_blocks": 2}, "probe": "linear"}, "num_blocks: only attentive probes"),
        ({"settings": {"probe.num_blocks": 0}}, "num_blocks"),
    ],
)
def test_heads_and_blocks_that_a_probe_cannot_have_are_refused(plan_of: Any, options: Any, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        plan_of(**options)


def test_frames_that_do_not_divide_are_refused_before_anything_starts(plan_of: Any) -> None:
    with pytest.raises(BenchError, match=r"do not divide into patches.*--set clip\.frames"):
        plan_of(settings={"clip.resolution": 18})
