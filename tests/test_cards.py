"""Cards: every shipped one is valid, and a mistake in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench import BenchError
from bench.cards import load_probe_card, load_task, override, probe_names, replace, task_names, with_clip
from bench.files import content_folder


@pytest.mark.parametrize("name", task_names())
def test_every_task_card_is_valid(name: str) -> None:
    card = load_task(name)
    assert card.name == name
    assert card.axis in ("motion", "appearance") or name == "custom"
    assert bool(card.axis) == bool(card.axis_source), "an axis names who says so"


@pytest.mark.parametrize("name", probe_names())
def test_every_recipe_is_valid(name: str) -> None:
    card = load_probe_card(name)
    assert card.name == name and card.num_settings >= 1
    assert card.num_settings == 1 or card.selection is not None


@pytest.mark.parametrize("folder", ["datasets", "probes"])
def test_every_card_opens_with_its_command(folder: str) -> None:
    for path in content_folder(folder).glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# bench run --task "), path.name


def test_the_default_sweep_has_twenty_settings() -> None:
    assert load_probe_card("attentive").num_settings == 20


def test_the_paper_recipe_has_the_papers_settings() -> None:
    """protocol.md 5.2: one setting, lr 1e-3, wd 0.01 -> 1e-6, batch 256, 20 epochs, clip 1.0, no selection."""
    card = load_probe_card("vjepa1-paper")
    rules = card.optimisation
    assert rules is not None and card.selection is None
    assert rules.settings == [(1e-3, 0.01)]
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
        ({"clip": {"views": 2}}, ["clip.views"]),
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
    assert card.optimisation.settings == [(1e-3, 0.1), (1e-3, 0.2)]
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
