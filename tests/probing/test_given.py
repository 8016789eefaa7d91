"""A given probe is scored only where it is known which of its classes is which."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import GOLDEN

from bench.core.errors import BenchError
from bench.probing import load_probe, save_probe
from bench.probing.actions import initial_weights as action_weights
from bench.probing.attentive import AttentiveProbe, initial_weights, tensor_shapes
from bench.probing.blocks import BlockProbe
from bench.probing.given import GivenProbe, ReleasedProbe, class_order, describe_given, find_released, released_probes
from bench.probing.loaded import LoadedProbe

V2 = GOLDEN / "vjepa2_probe.pt"
CLIP = {"frames": 8, "step": 4, "segments": 1, "resolution": 64}
NUMBERS = tuple(str(i) for i in range(7))
NAMED = tuple(f"class {i}" for i in range(7))


def describe(
    path: Path, classes: Path | None = None, *, task: str = "mine", names: tuple[str, ...] = NUMBERS
) -> GivenProbe:
    return describe_given(path, classes, task=task, class_names=names, embed_dim=48, encoder_heads=2, clip=CLIP)


def test_the_first_head_is_scored_and_the_notes_say_so() -> None:
    given = describe(V2)
    assert (given.head, given.heads_in_file, given.digest) == (0, 2, load_probe(V2, num_heads=2).digest)
    assert given.name == f"weights#{given.digest[:6]}"
    assert any("2 attention heads of the probe, as its encoder has" in note for note in given.notes)
    assert any("first of 2 heads" in note for note in given.notes)
    tokens = torch.randn(2, 5, 48)
    assert torch.equal(given.load().probe(tokens), load_probe(V2, num_heads=2)(tokens))


def test_widths_and_numbers_of_classes_must_agree() -> None:
    with pytest.raises(BenchError, match=r"vjepa2_probe\.pt: .* tells 7 classes apart, and task mine has 6"):
        describe(V2, names=NUMBERS[:6])
    with pytest.raises(BenchError, match="reads tokens of 48 channels, and the encoder gives 96"):
        describe_given(V2, None, task="mine", class_names=NUMBERS, embed_dim=96, encoder_heads=2, clip=CLIP)


def test_probes_of_verb_noun_and_action_are_for_tasks_of_actions(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    actions = tuple(f"verb {i} noun {i}" for i in range(7))
    save_probe(path, BlockProbe(action_weights(48, (3, 4, 7), 1, seed=0), 2), {"classes": json.dumps(actions[::-1])})
    with pytest.raises(BenchError, match="classifiers of 3x4x7 outputs, and task mine asks for 7"):
        describe(path, names=actions)
    facts = {"task": "ek100", "class_names": actions, "embed_dim": 48, "encoder_heads": 2, "clip": CLIP}
    with pytest.raises(BenchError, match="classifiers of 3x4x7 outputs, and task ek100 asks for 3x5x7"):
        describe_given(path, None, before=(3, 5), **facts)
    given = describe_given(path, None, before=(3, 4), **facts)
    assert given.class_order == (*range(7), *range(13, 6, -1)), "verbs and nouns stay, actions go by their names"


def test_classes_are_put_in_the_tasks_order_by_name() -> None:
    shuffled = tuple(NAMED[i] for i in (3, 0, 6, 1, 2, 5, 4))
    given = describe(GOLDEN / "hf-vjepa2-classifier", names=shuffled)
    assert given.class_order == (3, 0, 6, 1, 2, 5, 4) and given.class_order_source == "by class name"
    probabilities = np.arange(14, dtype=np.float32).reshape(2, 7)
    assert given.in_task_order(probabilities).tolist() == [[3, 0, 6, 1, 2, 5, 4], [10, 7, 13, 8, 9, 12, 11]]


def test_names_on_one_side_alone_are_refused_with_what_to_provide(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"task mine does not.*give a card of the task with `classes"):
        describe(GOLDEN / "hf-vjepa2-classifier")
    with pytest.raises(BenchError, match=r"its file has no names.*with --probe-classes FILE"):
        describe(V2, names=NAMED)
    (tmp_path / "names.txt").write_text("\n".join(reversed(NAMED)))
    assert describe(V2, tmp_path / "names.txt", names=NAMED).class_order == (6, 5, 4, 3, 2, 1, 0)
    (tmp_path / "names.txt").write_text("\n".join(NAMED[:5]))
    with pytest.raises(BenchError, match="5 class names for a probe of 7 classes"):
        describe(V2, tmp_path / "names.txt", names=NAMED)


def test_without_any_names_the_order_is_taken_on_trust_and_said_to_be() -> None:
    assert describe(V2).class_order == tuple(range(7))
    assert any("taken on trust" in note for note in describe(V2).notes)


def test_a_probe_of_our_own_knows_its_task(tmp_path: Path) -> None:
    probe = AttentiveProbe(initial_weights(48, 7, seed=0), num_heads=2)
    path = tmp_path / "probe.safetensors"
    facts = {"protocol": "attentive/1", "task": "mine", "encoder": "abc", "input": "8x64px step 4"}
    save_probe(path, probe, {**facts, "classes": '["0", "1", "2", "3", "4", "5", "6"]'})
    given = describe(path)
    assert given.class_order_source == "that of its training on this task"
    assert (given.encoder, given.input_name) == ("abc", "8x64px step 4")
    assert any("trained on task mine" in note for note in describe(path, task="yours").notes)
    save_probe(path, probe, {**facts, "task": "custom"})
    assert "on trust" in describe(path, task="custom").class_order_source


RELEASED = ReleasedProbe(release="vjepa2", task="ssv2", classes=7, widths=(48,), order="official")


def order(released: ReleasedProbe, *, task: str = "ssv2", names: tuple[str, ...] = NAMED) -> tuple[int, ...]:
    return class_order(task, names, None, released, Path("probe.pt"))[0]


def test_a_released_probe_of_the_task_itself_needs_no_names_where_its_order_is_official() -> None:
    assert order(RELEASED) == order(RELEASED, names=NUMBERS) == tuple(range(7))
    with pytest.raises(BenchError, match="its file has no names"):
        order(RELEASED, task="mine")


def test_a_released_probe_whose_order_nobody_states_is_taken_on_trust_for_its_own_task_alone() -> None:
    unstated = RELEASED.model_copy(update={"order": "unknown"})
    numbers, source = class_order("ssv2", NAMED, None, unstated, Path("probe.pt"))
    assert numbers == tuple(range(7)) and "on trust" in source
    with pytest.raises(BenchError, match="its file has no names"):
        order(unstated, task="mine")


def test_a_private_order_is_refused_even_where_the_task_has_no_names() -> None:
    private = RELEASED.model_copy(update={"order": "private"})
    with pytest.raises(BenchError, match=r"classes is private.*--probe-classes FILE, and a card of the task"):
        order(private, names=NUMBERS)


def zeros(width: int, classes: int) -> dict[str, torch.Tensor]:
    """Weights that take no room."""
    return {name: torch.zeros(()).expand(shape) for name, shape in tensor_shapes(width, classes).items()}


def test_the_table_holds_for_files_of_its_names_widths_and_classes_only(tmp_path: Path) -> None:
    def probe(width: int, classes: int, layout: str = "V-JEPA 1") -> LoadedProbe:
        return LoadedProbe([AttentiveProbe(zeros(width, classes), 16)], layout=layout)

    assert find_released(Path("k400-probe.pth.tar"), probe(1024, 400)) == released_probes()["k400-probe.pth.tar"]
    assert find_released(Path("other.pth.tar"), probe(1024, 400)) is None
    assert find_released(Path("k400-probe.pth.tar"), probe(768, 400)) is None
    assert find_released(Path("k400-probe.pth.tar"), probe(1024, 401)) is None
    assert find_released(Path("k400-probe.pth.tar"), probe(1024, 400, "V-JEPA 2")) is None


def released_file(path: Path, classes: int) -> Path:
    """A file of the V-JEPA 2 layout with one block, of ViT-L's width."""
    weights = zeros(1024, classes)
    torch.save({"classifiers": [{f"module.{name}": weight for name, weight in weights.items()}]}, path)
    return path


def test_a_released_probe_shares_its_column_and_tells_where_the_clips_differ(tmp_path: Path) -> None:
    path = released_file(tmp_path / "ssv2-vitl-16x2x3.pt", 174)
    clip = {"frames": 16, "step": 4, "segments": 2, "resolution": 256}
    facts = {"task": "ssv2", "class_names": tuple(map(str, range(174))), "embed_dim": 1024}
    same = describe_given(path, None, clip=clip, **facts)
    assert same.name == "vjepa2-released" and len(same.notes) == 1
    other = describe_given(path, None, clip={**clip, "segments": 1}, **facts)
    assert any("segments 1 instead of 2" in note for note in other.notes)


def test_a_released_probe_is_scored_on_the_layers_that_it_was_trained_on_alone(tmp_path: Path) -> None:
    path = released_file(tmp_path / "diving48-vitl-256.pt", 48)
    clip = {"frames": 32, "step": 2, "segments": 4, "resolution": 256}
    facts = {"task": "diving48", "class_names": tuple(map(str, range(48))), "embed_dim": 1024, "clip": clip}
    given = describe_given(path, None, layers=(17, 19, 21, 23), **facts)
    assert given.name == "vjepa2-released" and len(given.notes) == 1
    with pytest.raises(BenchError, match=r"reads layers 17,19,21,23 .* it the last layer alone - .*layers=17,19,21,23"):
        describe_given(path, None, **facts)
    last_alone = released_file(tmp_path / "ssv2-vitl-16x2x3.pt", 174)
    facts |= {"task": "ssv2", "class_names": tuple(map(str, range(174)))}
    with pytest.raises(BenchError, match=r"reads the last layer alone .* it layers 5,23 - say --set clip.layers=null"):
        describe_given(last_alone, None, layers=(5, 23), **facts)
