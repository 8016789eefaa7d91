"""Cards: every shipped one is valid, and a mistake in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench import BenchError
from bench.cards.load import (
    load_probe_card,
    load_recipe,
    load_task,
    override,
    probe_names,
    replace,
    task_names,
    with_clip,
)
from bench.core.files import content_folder
from bench.core.types import AXES


@pytest.mark.parametrize("name", task_names())
def test_every_task_card_is_valid(name: str) -> None:
    card = load_task(name)
    assert card.name == name
    assert card.axis in AXES or name == "custom"
    assert bool(card.axis) == bool(card.axis_source), "an axis names who says so"


def test_what_is_foreseen_is_a_group_of_its_own() -> None:
    foreseen = {name for name in task_names() if load_task(name).data == "actions"}
    assert {name for name in task_names() if load_task(name).axis == "anticipation"} == foreseen == {"ek100"}


@pytest.mark.parametrize("name", probe_names())
def test_every_recipe_is_valid(name: str) -> None:
    card = load_probe_card(name)
    assert card.name == name and card.num_settings >= 1
    assert card.num_settings == 1 or card.selection is not None


@pytest.mark.parametrize("folder", ["datasets", "probes"])
def test_every_card_opens_with_its_command(folder: str) -> None:
    for path in content_folder(folder).glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# bench run --task "), path.name


def test_the_default_recipe_trains_several_seeds_of_small_sets_alone() -> None:
    card = load_probe_card("attentive")
    assert card.answers_with_mean and (card.num_seeds(1600), card.num_seeds(168_913)) == (5, 1)
    assert not override(card, "probe", {"num_blocks": 2}).answers_with_mean
    assert not override(card, "probe", {"streaming": True}).answers_with_mean


def test_the_sweep_has_twenty_settings() -> None:
    assert load_probe_card("sweep").num_settings == 20


def test_weights_are_forgotten_in_as_many_epochs_at_every_rate_and_width() -> None:
    """1 / (lr * decay) steps are the epochs that the card states; lr falls with the width."""
    rules = load_probe_card("attentive").optimisation
    assert rules is not None
    for width, steps_per_epoch in ((64, 20), (256, 20), (1024, 660)):
        for one, stated in zip(rules.settled(width, steps_per_epoch).settings, rules.lr, strict=True):
            assert one.lr == pytest.approx(stated * 64 / width)
            assert 1 / (one.lr * one.weight_decay) == pytest.approx(rules.forget_epochs[0] * steps_per_epoch)
    plain = load_probe_card("sweep").optimisation
    assert plain is not None and plain.settled(1024, 5) is plain


def test_the_paper_recipe_has_the_papers_settings() -> None:
    """protocol.md 5.2: one setting, lr 1e-3, wd 0.01 -> 1e-6, batch 256, 20 epochs, clip 1.0, no selection."""
    card = load_probe_card("vjepa1-paper")
    rules = card.optimisation
    assert rules is not None and card.selection is None
    assert [(one.lr, one.weight_decay, one.final_weight_decay) for one in rules.settings] == [(1e-3, 0.01, 1e-6)]
    assert (rules.epochs, rules.batch_size, rules.final_lr, rules.warmup_epochs) == (20, 256, 0, 0)
    assert (rules.final_weight_decay, rules.clip_norm, rules.decay_biases) == (1e-6, 1.0, False)


def test_the_second_paper_recipe_has_the_papers_settings() -> None:
    """protocol.md 4.2, 5.1, 5.3: four blocks, 20 settings, constant decay of all parameters, no clipping."""
    card = load_probe_card("vjepa2-paper")
    rules = card.optimisation
    assert rules is not None and card.selection is not None and card.num_blocks == 4
    assert rules.lr == (5e-3, 3e-3, 1e-3, 3e-4, 1e-4) and rules.weight_decay == (0.01, 0.1, 0.4, 0.8)
    assert (rules.epochs, rules.batch_size, rules.final_lr, rules.warmup_epochs) == (20, 256, 0, 0)
    assert (rules.final_weight_decay, rules.clip_norm, rules.decay_biases) == (None, None, True)


def test_the_held_out_choice_has_the_papers_probe_and_settings() -> None:
    paper, ours = load_probe_card("vjepa2-paper"), load_probe_card("vjepa2")
    assert paper.selected_on_test and paper.hold_out is None
    assert not ours.selected_on_test and ours.hold_out is not None
    own = {"name", "title", "version", "caveat", "selection"}
    assert paper.model_dump(exclude=own) == ours.model_dump(exclude=own)


G20 = [(lr, wd) for lr in (5e-3, 3e-3, 1e-3, 3e-4, 1e-4) for wd in (0.01, 0.1, 0.4, 0.8)]
G3 = [(lr, 0.8) for lr in (1e-3, 3e-4, 1e-4)]
GIN = [(1e-3, 1e-3), *((lr, wd) for lr in (5e-4, 1e-3, 1.5e-3, 2e-3) for wd in (8e-3, 4e-3, 2e-3, 1e-3, 5e-4))]
CONFIGURATIONS = {
    # (recipe, task): (epochs, batch, settings) of protocol.md 5.2 and 5.3
    ("vjepa1-paper", "k400"): (20, 256, [(1e-3, 0.01)]),
    ("vjepa1-paper", "ssv2"): (20, 256, [(1e-3, 0.01)]),
    ("vjepa1-paper", "in1k"): (20, 1024, [(1e-3, 0.001)]),
    ("vjepa1-paper", "places205"): (20, 1024, [(1e-3, 0.001)]),
    ("vjepa1-paper", "inat21"): (20, 1024, [(1e-3, 0.001)]),
    ("vjepa2-paper", "ssv2"): (20, 256, G20),
    ("vjepa2-paper", "k400"): (20, 256, G20),
    ("vjepa2-paper", "coin"): (20, 128, G20),
    ("vjepa2-paper", "diving48"): (100, 128, G3),
    ("vjepa2-paper", "jester"): (100, 128, G3),
    ("vjepa2-paper", "in1k"): (20, 1024, GIN),
}


@pytest.mark.parametrize(("recipe", "task"), CONFIGURATIONS)
def test_a_paper_recipe_is_the_papers_on_every_task_that_prints_its_score(recipe: str, task: str) -> None:
    rules = load_recipe(recipe, load_task(task)).optimisation
    assert rules is not None
    found = (rules.epochs, rules.batch_size, [(one.lr, one.weight_decay) for one in rules.settings])
    assert found == CONFIGURATIONS[recipe, task]
    assert (rules.clip_norm, rules.decay_biases) == ((1.0, False) if recipe == "vjepa1-paper" else (None, True))
    for index, one in enumerate(rules.settings):
        warms_up = (recipe, task) == ("vjepa2-paper", "in1k") and index > 0
        decays_to = 1e-6 if recipe == "vjepa1-paper" else 0.0 if task == "in1k" and index == 0 else None
        start = 2e-4 if warms_up else one.lr
        assert (one.start_lr or one.lr, one.warmup_epochs, one.final_lr) == (start, 5 if warms_up else 0, 0)
        assert one.final_weight_decay == decays_to


def test_every_printed_score_has_its_configuration_here() -> None:
    printed = {(reference.probe, name) for name in task_names() for reference in load_task(name).references}
    assert {pair for pair in printed if pair[0] in ("vjepa1-paper", "vjepa2-paper")} == CONFIGURATIONS.keys()


@pytest.mark.parametrize("task", [name for name in task_names() if load_task(name).recipes])
def test_a_task_speaks_of_shipped_recipes_alone_and_alike_of_both_choices(task: str) -> None:
    recipes = load_task(task).recipes
    assert recipes.keys() <= set(probe_names())
    assert recipes.get("vjepa2") == recipes.get("vjepa2-paper")
    assert load_recipe("attentive", load_task(task)) == load_probe_card("attentive")


def test_a_recipe_of_the_users_own_is_the_same_on_every_task(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text((content_folder("probes") / "vjepa2.yaml").read_text())
    own = str(tmp_path / "mine.yaml")
    assert load_recipe(own, load_task("in1k")) == load_probe_card(own)


def test_a_grid_takes_the_place_of_listed_settings() -> None:
    listed = load_recipe("vjepa2", load_task("in1k"))
    grid = override(listed, "probe", {"lr": [1e-3, 2e-3], "weight_decay": 0.1}).optimisation
    assert grid is not None and [(one.lr, one.warmup_epochs) for one in grid.settings] == [(1e-3, 0), (2e-3, 0)]
    with pytest.raises(BenchError, match="lr, weight_decay: give both, or a list of settings"):
        override(listed, "probe", {"lr": 1e-3})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lr": [1e-3]}, "lr, weight_decay: give both"),
        ({"lr": [1e-3], "weight_decay": [0.1], "sweep": [{"lr": 1, "weight_decay": 0}]}, "lr, weight_decay: give both"),
        ({"sweep": [{"lr": 1, "weight_decay": 0}], "warmup_epochs": 2}, "every setting has its own start_lr"),
        ({"sweep": [{"lr": 1}]}, "sweep.0.weight_decay"),
        ({"sweep": [{"lr": 1, "weight_decay": 0, "warmup": 1}]}, "unknown key 'optimisation.sweep.0.warmup'"),
    ],
)
def test_a_sweep_is_a_grid_or_a_list(tmp_path: Path, change: dict[str, object], words: str) -> None:
    card = yaml.safe_load((content_folder("probes") / "vjepa2.yaml").read_text())
    card["optimisation"] = {"epochs": 2, "batch_size": 4, **change}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(BenchError) as refusal:
        load_probe_card(str(tmp_path / "mine.yaml"))
    assert words in str(refusal.value)


def test_fields_that_are_as_usual_leave_no_trace_in_keys() -> None:
    """Cached probes and marks of recipes that do not list settings or choose on the test split stay what they were."""
    content = load_probe_card("linear").model_dump(mode="json")
    assert "sweep" not in content["optimisation"] and content["selection"] == {"held_out": 0.2, "refit": True}


def test_only_attentive_probes_have_blocks(tmp_path: Path) -> None:
    card = yaml.safe_load((content_folder("probes") / "linear.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**card, "num_blocks": 4}))
    with pytest.raises(BenchError, match="num_blocks: only attentive probes"):
        load_probe_card(str(tmp_path / "mine.yaml"))


VALID = {"name": "mine", "title": "Mine", "classes": 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clases": 3}, ["unknown key 'clases'", "did you mean 'classes'"]),
        ({"clip": {"vews": 3}}, ["unknown key 'clip.vews'", "did you mean 'views'"]),
        ({"clip": {"views": 0}}, ["clip.views"]),
        ({"axis": "movement"}, ["axis"]),
        ({"name": "Mine!"}, ["name"]),
        ({"classes": "many"}, ["classes"]),
        ({"classes": []}, ["classes"]),
        ({"classes": 1}, ["classes"]),
        ({"classes": ["a", "a"]}, ["classes", "twice"]),
        ({"label": "motion"}, ["label", "digits"]),
        ({"format": "kinetic"}, ["format"]),
        ({"clips": {"paper": {"vews": 3}}}, ["unknown key 'clips.paper.vews'", "did you mean 'views'"]),
        ({"annotations": {"trian": ["a"]}}, ["unknown key 'annotations.trian'", "did you mean 'train'"]),
        ({"references": [{"modle": "a"}]}, ["references.0"]),
        ({"train": "/etc/passwd"}, ["train", "inside the data folder"]),
        ({"test": "../val.csv"}, ["test", "inside the data folder"]),
        ({"test": "a/../../val.csv"}, ["test", "inside the data folder"]),
        ({"train": "..\\\\train.csv"}, ["train", "inside the data folder"]),
        ({"train": "C:/train.csv"}, ["train", "inside the data folder"]),
        ({"train": ""}, ["train", "inside the data folder"]),
        ({"train": "."}, ["train", "inside the data folder"]),
        ({"annotations": {"train": ["*.csv", "/etc/*"]}}, ["annotations.train.1", "inside the data folder"]),
        ({"annotations": {"test": ["a**"]}}, ["annotations.test.0", "**"]),
        ({"annotations": {"folders": ["../other"]}}, ["annotations.folders.0", "inside the data folder"]),
        (
            {"references": [{"model": "a", "probe": "knn", "clip": "paper", "value": 1.0, "source": "me"}]},
            ["references", "no clip protocol 'paper'"],
        ),
    ],
)
def test_a_mistake_in_a_card_is_named(tmp_path: Path, change: dict[str, object], words: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**VALID, **change}))
    with pytest.raises(BenchError) as refusal:
        load_task(str(path))
    for word in [*words, "mine.yaml"]:
        assert word in str(refusal.value)


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "title: [", "", "\x00", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"mine\.yaml"):
        load_task(str(path))


def test_a_card_of_ones_own_is_read_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**VALID, "axis": "motion", "clip": {"segments": 2}}))
    card = load_task(str(path))
    assert (card.name, card.axis, card.num_classes, card.clip.segments) == ("mine", "motion", 3, 2)


@pytest.mark.parametrize(
    ("load", "name", "words"),
    [
        (load_task, "digit-motion", "did you mean 'digits-motion'"),
        (load_probe_card, "attentiv", "did you mean 'attentive'"),
        (load_task, "nowhere.yaml", "no such card"),
    ],
)
def test_unknown_names_get_the_nearest(load: object, name: str, words: str) -> None:
    with pytest.raises(BenchError) as refusal:
        load(name)  # type: ignore[operator]
    assert words in str(refusal.value)


def test_settings_lie_over_a_card() -> None:
    card = override(load_probe_card("attentive"), "probe", {"lr": 1e-3, "weight_decay": [0.1, 0.2], "held_out": 0.1})
    assert card.optimisation is not None and card.selection is not None
    assert [(one.lr, one.weight_decay) for one in card.optimisation.settings] == [(1e-3, 0.1), (1e-3, 0.2)]
    assert card.selection.held_out == 0.1
    assert override(load_task("ssv2"), "clip", {"segments": 1}).clip.segments == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"lrr": 1}, "did you mean 'lr'"), ({"lr": "fast"}, "lr"), ({"kind": "knn"}, "no setting 'probe.kind'")],
)
def test_impossible_settings_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(BenchError) as refusal:
        override(load_probe_card("attentive"), "probe", settings)
    assert words in str(refusal.value)


def test_a_clip_protocol_is_chosen_by_its_name() -> None:
    card = load_task("ssv2")
    assert with_clip(card, None) == card
    chosen = with_clip(card, "vjepa2-g384").clip
    assert (chosen.frames, chosen.step, chosen.sampling) == (64, 2, "random")
    with pytest.raises(BenchError, match=r"--clip: task ssv2 has no clip protocol 'vjepa-1' - did you mean 'vjepa1'"):
        with_clip(card, "vjepa-1")
    with pytest.raises(BenchError, match="drop --clip"):
        with_clip(load_task("custom"), "vjepa1")


def test_a_replaced_name_is_checked_too() -> None:
    with pytest.raises(BenchError, match="name"):
        replace(load_task("custom"), {"name": "Not A Name"}, "--name")
