"""Which V-JEPA a file is: told by what is in it, or assumed and said; never another one under a catalog name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bench import BenchError
from bench.encoders import catalog, describe_encoder, load_encoder, vjepa
from bench.encoders.checkpoints import load_vjepa
from bench.encoders.families import Stated, num_heads_of

TINY = vjepa.VitConfig(embed_dim=48, depth=4, num_heads=2, mlp_dim=96, num_frames=8, resolution=64)
CONFIGS = {
    "V-JEPA": TINY,
    "V-JEPA 2": replace(TINY, use_rope=True),
    "V-JEPA 2.1": replace(TINY, use_rope=True, multilevel=True),
}
SINCOS = vjepa.sincos_positions(48, TINY.native_grid)
Tensors = dict[str, torch.Tensor]


def weights(family: str, seed: int = 0) -> Tensors:
    model = vjepa.VisionTransformer(CONFIGS[family])
    vjepa.init_untrained(model, seed=seed)
    return {f"module.backbone.{name}": tensor for name, tensor in model.state_dict().items()}


def predictor(mask_tokens: int, depth: int = 2, **more: torch.Tensor) -> Tensors:
    tokens = {f"mask_tokens.{i}": torch.zeros(1, 1, 24) for i in range(mask_tokens)}
    blocks = {f"predictor_blocks.{i}.norm1.bias": torch.zeros(24) for i in range(depth)}
    return {f"module.backbone.{name}": tensor for name, tensor in {**tokens, **blocks, **more}.items()}


def saved(path: Path, **content: Any) -> Path:
    torch.save(content, path)
    return path


POSITIONS = {"predictor_pos_embed": torch.zeros(1, 64, 24)}
TWO_HEADS = Stated(num_heads=2)


TOLD = [
    ("V-JEPA", {}, predictor(2, **POSITIONS)),
    ("V-JEPA 2", {}, predictor(10)),
    ("V-JEPA 2", {}, predictor(4, **POSITIONS)),
    ("V-JEPA 2", {"pos_embed": SINCOS}, predictor(10)),
    ("V-JEPA 2", {"pos_embed": SINCOS}, predictor(10, **POSITIONS)),
    ("V-JEPA 2", {"pos_embed": SINCOS}, predictor(2)),
    ("V-JEPA 2", {"pos_embed": SINCOS}, predictor(0, **{"action_encoder.weight": torch.zeros(24, 7)})),
    ("V-JEPA 2.1", {}, predictor(8)),
    ("V-JEPA 2.1", {}, {}),
]


@pytest.mark.parametrize(("family", "carried", "beside"), TOLD)
def test_the_family_is_told_by_the_file(tmp_path: Path, family: str, carried: Tensors, beside: Tensors) -> None:
    tensors = weights(family)
    path = saved(tmp_path / "a.pt", target_encoder={**tensors, **carried}, predictor=beside)
    model, _ = load_vjepa(path, stated=TWO_HEADS)
    assert model.config.family == family
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tensors[f"module.backbone.{name}"])


OPEN = {
    "V-JEPA 1, bare": (weights("V-JEPA"), {}),
    "V-JEPA 2 with stored positions, bare": ({**weights("V-JEPA 2"), "module.backbone.pos_embed": SINCOS}, {}),
    "V-JEPA 2, bare": (weights("V-JEPA 2"), {}),
    "under a key": ({"target_encoder": weights("V-JEPA")}, {}),
    "under two keys": ({"encoder": weights("V-JEPA"), "target_encoder": weights("V-JEPA")}, {}),
    "four mask tokens": ({"target_encoder": weights("V-JEPA"), "predictor": predictor(4, **POSITIONS)}, {}),
    "another predictor": ({"target_encoder": weights("V-JEPA 2"), "predictor": {"head.weight": torch.zeros(2)}}, {}),
    "encoder and average differ": (
        {
            "encoder": weights("V-JEPA 2"),
            "target_encoder": {**weights("V-JEPA 2"), "module.backbone.pos_embed": SINCOS},
            "predictor": {},
        },
        {},
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_where_both_families_fit_the_user_is_asked(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "a.pt", **OPEN[name][0])
    for use in (load_encoder, describe_encoder):
        with pytest.raises(BenchError) as asked:
            use(str(path), num_heads=2)
        assert "--set encoder.family=vjepa2 (or vjepa1)" in str(asked.value)
        assert "num_heads" not in str(asked.value) and "\n" not in str(asked.value)
    assert load_encoder(str(path), num_heads=2, family="vjepa2").facts.weights["family"] == "V-JEPA 2"


def test_both_readings_of_one_file_are_those_of_the_families(tmp_path: Path) -> None:
    """The same tensors with the positions in use and without: other tokens."""
    path = saved(tmp_path / "a.pt", **weights("V-JEPA"))
    one, two = (load_encoder(str(path), num_heads=2, family=word) for word in ("vjepa1", "vjepa2"))
    clips = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (one(clips) - two(clips)).abs().max() > 0.01 and one.digest != two.digest


def test_the_state_of_a_training_run_tells_by_its_positions_where_its_predictor_is_empty(tmp_path: Path) -> None:
    for family in ("V-JEPA", "V-JEPA 2"):
        content = {"encoder": weights(family, 1), "target_encoder": weights(family), "predictor": {}}
        model, report = load_vjepa(saved(tmp_path / "a.pt", **content), stated=TWO_HEADS)
        assert model.config.family == family and "its predictor is empty" in report["notes"][0]


def test_heads_of_a_size_without_a_name_are_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", target_encoder=weights("V-JEPA"), predictor=predictor(2, **POSITIONS))
    with pytest.raises(BenchError, match=r"V-JEPA 1 encoder .*48 channels and 4 blocks.*--set encoder\.num_heads=N"):
        load_encoder(str(path))
    encoders = {heads: load_encoder(str(path), num_heads=heads) for heads in (2, 3)}
    assert encoders[2].digest != encoders[3].digest and encoders[3].facts.weights["num_heads"] == 3


def test_all_that_is_open_is_asked_at_once(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"family=vjepa2 \(or vjepa1\) --set encoder\.num_heads=N$"):
        load_encoder(str(saved(tmp_path / "a.pt", **weights("V-JEPA"))))


def test_a_size_with_a_name_has_its_heads(tmp_path: Path) -> None:
    nano = vjepa.VisionTransformer(vjepa.SIZES["vit_nano"])
    path = str(saved(tmp_path / "a.pt", **nano.state_dict()))
    assert load_encoder(path, family="vjepa1").facts.weights["num_heads"] == 4
    other = load_encoder(path, family="vjepa1", num_heads=8)
    assert other.report["notes"] == ["8 attention heads, as stated; others of its size have 4"]


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"num_heads": 5}, "48 channels do not divide into 5 attention heads"),
        ({"num_heads": 0}, "encoder.num_heads cannot be 0"),
        ({"num_heads": 2.5}, "encoder.num_heads cannot be 2.5"),
        ({"num_heads": True}, "encoder.num_heads cannot be True"),
        ({"family": "vjepa3"}, "encoder.family cannot be 'vjepa3' - did you mean"),
        ({"family": ["vjepa1"]}, "encoder.family cannot be ['vjepa1']"),
        ({"family": "vjepa2.1", "num_heads": 2}, "not the tensors that only V-JEPA 2.1 has"),
        ({"key": "student"}, "no encoder under the key student (the file's keys: target_encoder, predictor)"),
        ({"key": ""}, "encoder.key cannot be ''"),
    ],
)
def test_statements_that_cannot_be_are_refused(tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    path = saved(tmp_path / "a.pt", target_encoder=weights("V-JEPA"), predictor=predictor(2, **POSITIONS))
    with pytest.raises(BenchError) as refusal:
        load_encoder(str(path), **stated)
    assert words in str(refusal.value)


@pytest.mark.parametrize("spec", ["random", "pixels:8", "timm:test_vit+untrained"])
def test_encoders_that_leave_nothing_open_take_no_statement(spec: str) -> None:
    with pytest.raises(BenchError, match=r"encoder\.num_heads is for files of weights"):
        load_encoder(spec, num_heads=2)


def test_positions_without_a_use_tell_frames_and_resolution(tmp_path: Path) -> None:
    one = weights("V-JEPA")
    path = saved(tmp_path / "a.pt", target_encoder=one, predictor=predictor(10))
    spec = describe_encoder(str(path), num_heads=2).input_spec
    assert (spec.num_frames, spec.resolution) == (8, 64)
    one["module.backbone.pos_embed"] = torch.randn(1, 64, 48)
    spec = describe_encoder(
        str(saved(tmp_path / "b.pt", target_encoder=one, predictor=predictor(10))), num_heads=2
    ).input_spec
    assert (spec.num_frames, spec.resolution) == (64, 256)


def test_v_jepa_1_without_its_positions_is_not_taken_for_v_jepa_2(tmp_path: Path) -> None:
    tensors = weights("V-JEPA 2")
    path = saved(tmp_path / "a.pt", target_encoder=tensors, predictor=predictor(2, **POSITIONS))
    with pytest.raises(BenchError, match=r"a\.pt: tensor 'pos_embed' is missing"):
        load_vjepa(path, stated=TWO_HEADS)


def test_distilled_files_are_read_from_their_average(tmp_path: Path) -> None:
    """`target_encoder` would be the teacher."""
    path = saved(
        tmp_path / "a.pt",
        encoder=weights("V-JEPA 2.1", 1),
        target_encoder=weights("V-JEPA 2.1", 2),
        ema_encoder=weights("V-JEPA 2.1", 3),
    )
    model, report = load_vjepa(path, stated=TWO_HEADS)
    expected = weights("V-JEPA 2.1", 3)["module.backbone.patch_embed_img.proj.weight"]
    assert report["key"] == "ema_encoder" and torch.equal(model.patch_embed_img.proj.weight, expected)


def test_the_frozen_encoder_of_the_action_conditioned_file(tmp_path: Path) -> None:
    beside = predictor(0, depth=24, **{"action_encoder.weight": torch.zeros(24, 7)})
    path = saved(tmp_path / "vjepa2-ac-vitg.pt", encoder=weights("V-JEPA 2"), predictor=beside)
    model, report = load_vjepa(path, stated=TWO_HEADS)
    assert model.config.family == "V-JEPA 2" and report["key"] == "encoder"
    assert not any("moving average" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("family", "width", "depth", "heads"),
    [
        ("V-JEPA", 1024, 24, 16),
        ("V-JEPA", 1280, 32, 16),
        ("V-JEPA", 1408, 40, 16),
        ("V-JEPA 2", 1024, 24, 16),
        ("V-JEPA 2", 1280, 32, 16),
        ("V-JEPA 2", 1408, 40, 22),
        ("V-JEPA 2.1", 768, 12, 12),
        ("V-JEPA 2.1", 1408, 40, 22),
        ("V-JEPA 2.1", 1664, 48, 26),
        ("V-JEPA", 1664, 48, None),
        ("V-JEPA 2", 1000, 24, None),
    ],
)
def test_heads_follow_from_the_family_and_the_size(
    family: vjepa.Family, width: int, depth: int, heads: int | None
) -> None:
    assert num_heads_of(family, {"embed_dim": width, "depth": depth, "patch_size": 16}) == heads


CARD = {
    "name": "far",
    "title": "A test",
    "family": "V-JEPA 2",
    "size": "tiny",
    "num_frames": 32,
    "resolution": 48,
    "parameters_m": 0.1,
    "pretrained_on": "nothing",
    "licence": "MIT",
    "key": "target_encoder",
    "predictor_depth": 2,
    "file": "far.pt",
    "url": "https://example.org/far.pt",
}


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a file where the weights of the catalog name `far` belong, a V-JEPA 2 of the size `tiny`."""
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "far.yaml").write_text(yaml.safe_dump(CARD))
    monkeypatch.setattr(catalog, "_CARDS", tmp_path / "cards")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setitem(vjepa.SIZES, "tiny", TINY)
    (tmp_path / "weights").mkdir()

    def put(**content: Any) -> Path:
        return saved(tmp_path / "weights" / "far.pt", **content)

    return put


@pytest.mark.parametrize("beside", [{}, predictor(10)])
def test_a_catalog_name_tells_what_its_file_does_not(far: Callable[..., Path], beside: Tensors) -> None:
    far(target_encoder=weights("V-JEPA 2"), predictor=beside)
    encoder = load_encoder("far")
    assert (encoder.input_spec.num_frames, encoder.input_spec.resolution) == (32, 48)
    assert encoder.report["notes"] == [] and describe_encoder("far") == encoder.facts


def test_the_name_of_an_official_file_tells_its_input_and_no_more(far: Callable[..., Path]) -> None:
    """Frames and resolution change no token; which family it is does."""
    path = far(target_encoder={**weights("V-JEPA 2"), "pos_embed": SINCOS})
    with pytest.raises(BenchError, match=r"encoder\.family=vjepa2 \(or vjepa1\)"):
        load_encoder(str(path))
    encoder = load_encoder(str(path), family="vjepa2")
    assert (encoder.input_spec.num_frames, encoder.input_spec.resolution) == (32, 48)
    assert encoder.report["notes"] == []
    assert load_encoder("far").digest == encoder.digest


OTHER_SIZE = asdict(CONFIGS["V-JEPA 2"]) | {"depth": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"target_encoder": weights("V-JEPA"), "predictor": predictor(2, **POSITIONS)},
            "not the weights of far: it is a V-JEPA encoder, and far is V-JEPA 2",
        ),
        ({"target_encoder": weights("V-JEPA 2.1")}, "it is a V-JEPA 2.1 encoder, and far is V-JEPA 2"),
        (
            {"target_encoder": vjepa.VisionTransformer(vjepa.VitConfig(**OTHER_SIZE)).state_dict()},
            "not the weights of far: depth is 2 instead of 4",
        ),
        (
            {"target_encoder": weights("V-JEPA 2"), "predictor": predictor(10, depth=3)},
            "its predictor has 3 blocks instead of 2",
        ),
        ({"encoder": weights("V-JEPA 2")}, "no encoder under the key target_encoder"),
        (weights("V-JEPA 2"), "no encoder under the key target_encoder"),
    ],
)
@pytest.mark.parametrize("use", [load_encoder, describe_encoder])
def test_other_weights_under_a_catalog_name_are_refused(
    far: Callable[..., Path], use: Callable[[str], object], content: dict[str, Any], words: str
) -> None:
    far(**content)
    with pytest.raises(BenchError) as refusal:
        use("far")
    assert words in str(refusal.value) and "weights/far.pt" in str(refusal.value)


def test_a_predictor_that_contradicts_what_its_file_states_is_refused(tmp_path: Path) -> None:
    own = {
        "version": 1,
        "encoder": asdict(TINY),
        "input": {"frame_step": 1},
        "objective": "features",
        "head": {"kind": "predictor", "depth": 3},
    }
    path = saved(tmp_path / "a.pt", target_encoder=weights("V-JEPA"), predictor=predictor(2), bench=own)
    with pytest.raises(BenchError, match=r"bench\.head: depth is 3 but the predictor has 2 blocks"):
        load_encoder(str(path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_rope": False}, "multilevel needs use_rope"),
        ({"depth": 3}, "depth is 3 but the tensors have 4"),
    ],
)
def test_what_a_file_of_ours_states_of_2_1_is_checked(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    stated = asdict(CONFIGS["V-JEPA 2.1"]) | changes
    own = {"version": 1, "encoder": stated, "input": {"frame_step": 1}, "objective": "features"}
    path = saved(tmp_path / "a.pt", target_encoder=weights("V-JEPA 2.1"), bench=own)
    with pytest.raises(BenchError, match=words):
        load_encoder(str(path))
