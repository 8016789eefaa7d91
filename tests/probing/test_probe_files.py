"""Probe files: official and our own, and everything that is neither."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from probing.sources import learnable
from torch import Tensor

from bench.core.errors import BenchError
from bench.probing import fit, load_probe, save_probe
from bench.probing.actions import initial_weights as action_weights
from bench.probing.attentive import BLOCK, AttentiveProbe, initial_weights
from bench.probing.blocks import BlockProbe, block_logits
from bench.probing.blocks import initial_weights as block_weights
from bench.probing.files import read_metadata
from bench.probing.objectives import OneLabel
from bench.probing.pooled import LinearProbe

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "vjepa1_probe.pth.tar"


def official(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"classifier": {f"module.{name}": tensor for name, tensor in tensors.items()}, "epoch": 20}, path)
    return path


def test_the_caller_says_the_heads_of_another_width_than_the_official_ones() -> None:
    probe = load_probe(GOLDEN, num_heads=2)
    (head,) = probe.heads
    assert isinstance(head, AttentiveProbe)
    assert (head.num_heads, probe.training, probe.layout) == (2, False, "V-JEPA 1")
    assert not any("xattn.proj" in name for name in probe.state_dict())
    assert probe.notes == ()
    other = load_probe(GOLDEN, num_heads=4)
    tokens = torch.randn(2, 5, 48)
    assert probe(tokens).shape == (2, 7)
    assert not torch.equal(probe(tokens), other(tokens))


def test_heads_that_nothing_tells_are_asked_for() -> None:
    with pytest.raises(BenchError, match=r"vjepa1_probe.*48 channels.*load_probe\(FILE, num_heads=N\)"):
        load_probe(GOLDEN)


def test_official_widths_have_sixteen_heads(tmp_path: Path) -> None:
    path = official(tmp_path / "probe.pth.tar", initial_weights(1280, 3, seed=0))
    probe = load_probe(path)
    assert (probe.heads[0].num_heads, probe.notes) == (16, ())


def test_a_probe_without_the_dead_projection_is_the_same(tmp_path: Path) -> None:
    path = official(tmp_path / "probe.pth.tar", load_probe(GOLDEN, num_heads=2).heads[0].state_dict())
    tokens = torch.randn(2, 5, 48)
    assert torch.equal(load_probe(path, num_heads=2)(tokens), load_probe(GOLDEN, num_heads=2)(tokens))


def test_attentive_round_trip(tmp_path: Path) -> None:
    probe = AttentiveProbe(initial_weights(12, 5, seed=0), num_heads=6)
    path = tmp_path / "new" / "probe.safetensors"
    save_probe(path, probe, {"task": "digits-motion"})
    loaded = load_probe(path)
    tokens = torch.randn(2, 5, 12)
    assert loaded.heads[0].num_heads == 6
    assert torch.equal(loaded(tokens), probe(tokens))
    assert read_metadata(path) == {"task": "digits-motion", "num_heads": "6"}
    assert [file.name for file in path.parent.iterdir()] == ["probe.safetensors"]


@pytest.mark.parametrize("num_blocks", [1, 2])
@pytest.mark.parametrize("width", [48, 192])
def test_a_probe_that_was_read_answers_bit_for_bit(tmp_path: Path, width: int, num_blocks: int) -> None:
    """Matrix products round by where their operands start in memory, and a file puts them anywhere."""
    weights = initial_weights(width, 5, seed=0) if num_blocks == 1 else block_weights(width, 5, num_blocks, seed=0)
    weights = {name: torch.randn_like(weight) for name, weight in weights.items()}
    probe = (AttentiveProbe if num_blocks == 1 else BlockProbe)(weights, num_heads=4)
    for remark in ("", "a", "abc"):  # the length of the header decides where tensors start
        save_probe(tmp_path / "probe.safetensors", probe, {"remark": remark * 5})
        tokens = torch.randn(7, 33, width)
        assert torch.equal(load_probe(tmp_path / "probe.safetensors")(tokens), probe(tokens))


def test_linear_round_trip(tmp_path: Path) -> None:
    probe = LinearProbe(
        {
            "linear.weight": torch.randn(3, 4),
            "linear.bias": torch.randn(3),
            "mean": torch.randn(4),
            "deviation": torch.ones(4),
        }
    )
    save_probe(tmp_path / "probe.safetensors", probe, {})
    tokens = torch.randn(2, 5, 4)
    assert torch.equal(load_probe(tmp_path / "probe.safetensors")(tokens), probe(tokens))


def test_a_fitted_probe_can_be_saved(tmp_path: Path) -> None:
    from probing.test_train import card

    train, labels = learnable(30)
    probe = fit(card(lr=[1e-2], epochs=1), train, OneLabel(labels, 3), 2, seed=0).probe
    save_probe(tmp_path / "probe.safetensors", probe, {})
    tokens = train.tokens[0]
    assert torch.equal(load_probe(tmp_path / "probe.safetensors")(tokens), probe(tokens))


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_probes_of_verb_noun_and_action_have_three_classifiers(tmp_path: Path, num_blocks: int) -> None:
    tensors = action_weights(12, (3, 4, 5), num_blocks, seed=0)
    tokens = torch.randn(2, 5, 12)
    ours = tmp_path / "probe.safetensors"
    save_probe(ours, BlockProbe(tensors, num_heads=2), {})
    theirs = tmp_path / "ek100.pt"
    torch.save({"classifiers": [{f"module.{name}": tensor for name, tensor in tensors.items()}] * 2}, theirs)
    expected = block_logits(tensors, tokens, 2, norm_eps=1e-5)
    for loaded in (load_probe(ours), load_probe(theirs, num_heads=2)):
        assert torch.equal(loaded(tokens), expected) and expected.shape == (2, 3 + 4 + 5)
        assert (loaded.outputs, loaded.num_classes, loaded.embed_dim) == ((3, 4, 5), 5, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{BLOCK}.norm2.bias"), f"'{BLOCK}.norm2.bias' is missing"),
        (lambda t: t.pop("linear.weight"), "'linear.weight' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is unexpected"),
        (lambda t: t.update({"linear.bias": torch.zeros(9)}), r"'linear.bias' has shape \[9\] instead of \[5\]"),
        (lambda t: t.update({"linear.weight": torch.zeros(9)}), r"'linear.weight' has shape \[9\]"),
        (lambda t: t.update({"pooler.blocks.0.norm1.weight": torch.zeros(12)}), "V-JEPA 1 probe of several blocks"),
        (lambda t: t.update({"verb_classifier.weight": torch.zeros(3, 12)}), "'noun_classifier.weight' is missing"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, change: object, message: str) -> None:
    tensors = initial_weights(12, 5, seed=0)
    change(tensors)
    with pytest.raises(BenchError, match=message) as caught:
        load_probe(official(tmp_path / "probe.pth.tar", tensors))
    assert "probe.pth.tar" in str(caught.value)


class Malice:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (Path("malice-ran"),)


def test_files_that_are_no_probes(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such"):
        load_probe(tmp_path / "absent.pth.tar")
    (tmp_path / "text.pth.tar").write_text("hello")
    with pytest.raises(BenchError, match="not a"):
        load_probe(tmp_path / "text.pth.tar")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678" * 4)
    with pytest.raises(BenchError, match="not a"):
        load_probe(tmp_path / "broken.safetensors")
    (tmp_path / "malice.pt").write_bytes(pickle.dumps({"classifier": Malice()}))
    with pytest.raises(BenchError):
        load_probe(tmp_path / "malice.pt")
    assert not Path("malice-ran").exists()
    for nothing in ([{}], [], {"module.linear.weight": torch.zeros(2, 2)}, torch.zeros(2)):
        torch.save({"classifiers": nothing}, tmp_path / "v2.pt")
        with pytest.raises(BenchError, match="'classifiers' is no list of state dicts"):
            load_probe(tmp_path / "v2.pt")
    with pytest.raises(BenchError, match="no probe under the keys classifier or classifiers"):
        load_probe(GOLDEN.parent / "vjepa1.pth.tar")


GOLDEN_V2 = GOLDEN.parent / "vjepa2_probe.pt"


def heads_of_golden_v2() -> list[dict[str, Tensor]]:
    return [dict(head) for head in torch.load(GOLDEN_V2, weights_only=True)["classifiers"]]


def test_a_list_of_heads_is_read_whole() -> None:
    probe = load_probe(GOLDEN_V2, num_heads=2)
    assert (probe.layout, probe.num_classes, probe.embed_dim, len(probe.heads)) == ("V-JEPA 2", 7, 48, 2)
    tokens = torch.randn(3, 5, 48)
    assert probe(tokens).shape == (3, 7) and probe(tokens, all_heads=True).shape == (2, 3, 7)
    assert load_probe(GOLDEN, num_heads=2)(tokens, all_heads=True).shape == (1, 3, 7)
    assert not probe(tokens).requires_grad and probe.class_names is None


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("module.pooler.blocks.1.norm2.bias", None, "'pooler.blocks.1.norm2.bias' is missing"),
        ("module.pooler.blocks.7.norm2.bias", torch.zeros(48), "'pooler.blocks.7.norm2.bias' is unexpected"),
        ("module.pooler.blocks.0.attn.qkv.weight", torch.zeros(48, 48), r"has shape \[48, 48\] instead of \[144, 48\]"),
        ("module.pooler.cross_attention_block.xattn.proj.bias", torch.zeros(48), "xattn.proj.bias' is unexpected"),
    ],
)
def test_the_head_with_a_fault_is_named(tmp_path: Path, name: str, tensor: Tensor | None, message: str) -> None:
    heads = heads_of_golden_v2()
    if tensor is None:
        del heads[1][name]
    else:
        heads[1][name] = tensor
    torch.save({"classifiers": heads}, tmp_path / "probe.pt")
    with pytest.raises(BenchError, match=message) as caught:
        load_probe(tmp_path / "probe.pt", num_heads=2)
    assert "probe.pt, classifiers[1]" in str(caught.value)


def test_heads_of_different_shapes_are_refused(tmp_path: Path) -> None:
    heads = heads_of_golden_v2()
    heads[1] = {f"module.{name}": weight for name, weight in initial_weights(48, 5, seed=0).items()}
    torch.save({"classifiers": heads}, tmp_path / "probe.pt")
    with pytest.raises(BenchError, match=r"classifiers\[1\] differs from the first"):
        load_probe(tmp_path / "probe.pt", num_heads=2)


def test_a_probe_with_blocks_round_trip(tmp_path: Path) -> None:
    probe = BlockProbe(block_weights(12, 5, 3, seed=0), 4, norm_eps=1e-6)
    facts = {"protocol": "vjepa2-paper/1", "classes": '["a", "b", "c", "d", "e"]'}
    save_probe(tmp_path / "probe.safetensors", probe, facts)
    loaded = load_probe(tmp_path / "probe.safetensors")
    tokens = torch.randn(2, 5, 12)
    assert torch.equal(loaded(tokens), probe(tokens))
    assert (loaded.layout, loaded.class_names, loaded.notes) == ("bench", tuple("abcde"), ())
    save_probe(tmp_path / "probe.safetensors", probe, {**facts, "classes": '["a", "b"]'})
    with pytest.raises(BenchError, match="names 2 classes for 5 outputs"):
        load_probe(tmp_path / "probe.safetensors")


def test_the_digest_is_of_what_the_probe_computes(tmp_path: Path) -> None:
    path = official(tmp_path / "probe.pth.tar", load_probe(GOLDEN, num_heads=2).heads[0].state_dict())
    assert load_probe(path, num_heads=2).digest == load_probe(GOLDEN, num_heads=2).digest
    assert load_probe(GOLDEN, num_heads=4).digest != load_probe(GOLDEN, num_heads=2).digest
    assert load_probe(GOLDEN_V2, num_heads=2).digest != load_probe(GOLDEN, num_heads=2).digest


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(BenchError, match="cannot have 5 heads"):
        load_probe(GOLDEN, num_heads=5)
