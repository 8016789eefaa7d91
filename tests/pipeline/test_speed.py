"""How an encoder computes is chosen by measurement, remembered, and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ava_standin import ava_standin

from bench.core.distributed import World
from bench.core.errors import BenchError
from bench.core.progress import Silent
from bench.encoders import load_encoder
from bench.encoders.attention import SHORT, attend, slices
from bench.encoders.contract import Encoder
from bench.encoders.untrained import vjepa_facts
from bench.encoders.vjepa import SIZES, VisionTransformer
from bench.features.extract import space_fields
from bench.pipeline import speed as speed
from bench.pipeline.plan import make_plan
from bench.pipeline.run import evaluate, prepare_encoder
from bench.pipeline.speed import Choice, fastest, usable_precisions
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options

pytestmark = pytest.mark.slow


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


Rates = dict[tuple[str, bool], float]
BF16_FIRST: Rates = {("fp32", False): 1.0, ("bf16", False): 2.0, ("bf16", True): 3.0, ("fp32", True): 1.01}


@pytest.fixture
def planned(bright_and_dark: Path, tmp_path: Path) -> Callable[..., RunPlan]:
    def plan(**options: Any) -> RunPlan:
        folders = {"data": bright_and_dark, "cache": tmp_path / "cache", "results": tmp_path / "results"}
        return make_plan(make_options({"task": "custom", "model": "random", "workers": 0, **folders, **options}))

    return plan


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What has been timed, by a clock that says BF16_FIRST; nothing is compiled."""
    calls: list[tuple[str, bool]] = []

    def clips_per_s(encoder: Encoder, clips: torch.Tensor) -> float:
        calls.append((encoder.precision, encoder.is_compiled))
        return BF16_FIRST[calls[-1]]

    monkeypatch.setattr(speed, "clips_per_s", clips_per_s)
    monkeypatch.setattr(torch, "compile", lambda called, **_: called)
    return calls


def test_nothing_is_measured_unless_asked_for(planned: Callable[..., RunPlan], timed: list[tuple[str, bool]]) -> None:
    encoder = prepare_encoder(planned())
    assert (encoder.precision, encoder.is_compiled, timed) == ("fp32", False, [])
    assert "speed" not in encoder.report


@pytest.mark.parametrize(
    ("options", "precision", "compiled"),
    [
        ({"precision": "fastest"}, "bf16", False),
        ({"precision": "fastest", "compile": "auto"}, "bf16", True),
        ({"compile": "auto"}, "fp32", False),  # 1 % is not worth it
        ({"compile": "on"}, "fp32", True),
        ({"compile": "auto", "precision": "bf16"}, "bf16", True),
    ],
)
def test_the_fastest_is_taken_and_remembered(
    planned: Callable[..., RunPlan],
    timed: list[tuple[str, bool]],
    options: dict[str, str],
    precision: str,
    compiled: bool,
) -> None:
    plan, said = planned(**options), Told()
    encoder = prepare_encoder(plan, said)
    assert (encoder.precision, encoder.is_compiled) == (precision, compiled)
    assert f"{precision}, {'compiled' if compiled else 'not compiled'} (clips/s: " in said.lines[0]
    assert encoder.report["speed"]["clips_per_s"][f"{precision} compiled" if compiled else precision] > 0
    count = len(timed)
    again = prepare_encoder(plan, said)
    assert (again.precision, again.is_compiled, len(timed)) == (precision, compiled, count)
    assert again.report["speed"] == encoder.report["speed"] and said.lines[1].endswith("as measured before")


@pytest.mark.parametrize("damage", ["", "{", '{"precision": "int4", "compiled": false, "clips_per_s": {}}', "[]"])
def test_a_damaged_memory_is_measured_anew(
    planned: Callable[..., RunPlan], timed: list[tuple[str, bool]], damage: str
) -> None:
    plan = planned(precision="fastest")
    prepare_encoder(plan)
    (memory,) = (plan.cache / "speed").iterdir()
    whole = memory.read_text()
    memory.write_text(damage)
    assert prepare_encoder(plan).precision == "bf16"
    assert len(timed) == 4 and memory.read_text() == whole


def test_another_encoder_size_or_question_is_measured_by_itself(
    planned: Callable[..., RunPlan], timed: list[tuple[str, bool]]
) -> None:
    base = {"precision": "fastest"}
    changes: list[dict[str, Any]] = [{}, {"model": "vjepa-nano"}, {"settings": {"clip.frames": 4}}, {"compile": "auto"}]
    for change in changes:
        prepare_encoder(planned(**base, **change))
    assert len(timed) == 2 * len(changes) + 1


def test_compiled_features_have_a_space_of_their_own(planned: Callable[..., RunPlan]) -> None:
    plan = planned()
    encoder = load_encoder("random")
    usual, compiled = (space_fields(one, plan.test_clips, plan.spec) for one in (encoder, encoder.compiled(1)))
    assert compiled == {**usual, "compiled": True}


def test_without_a_compiler_it_goes_on_and_says_so(
    planned: Callable[..., RunPlan], timed: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(called: object, **_: object) -> Callable[..., None]:
        from torch._dynamo.exc import BackendCompilerFailed

        def fail(*_: object) -> None:
            raise BackendCompilerFailed(fail, RuntimeError("No working C++ compiler found"), None)

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    said = Told()
    encoder = prepare_encoder(planned(compile="auto"), said)
    assert not encoder.is_compiled and "not compiled: " in said.lines[0]
    assert "No working C++ compiler found" in said.lines[0] and "\n" not in said.lines[0]
    with pytest.raises(BenchError, match="cannot be compiled: No working C\\+\\+ compiler found"):
        prepare_encoder(planned(compile="on"))


def test_compiled_tokens_that_differ_are_not_used(
    planned: Callable[..., RunPlan], timed: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda called, **_: lambda *args: called(*args) * 1.001)
    encoder = prepare_encoder(planned(compile="auto"))
    assert not encoder.is_compiled and "0.001 off" in encoder.report["speed"]["notes"][0]


def test_a_precision_that_overflows_is_not_used(planned: Callable[..., RunPlan], timed: list[tuple[str, bool]]) -> None:
    plan = planned()
    encoder = load_encoder("random")
    whole = encoder._called
    encoder._called = lambda clips: whole(clips) / (0 if torch.is_autocast_enabled("cpu") else 1)  # type: ignore
    asked = replace(plan, options=replace(plan.options, precision="fastest"))
    found = fastest(asked, encoder, Told())
    assert found.precision == "fp32" and found.report["speed"]["notes"] == ("bf16 gives tokens that are not finite",)


def test_other_processes_take_what_the_first_has_measured(
    planned: Callable[..., RunPlan], timed: list[tuple[str, bool]]
) -> None:
    class Second(World):
        def gather(self, value: Any) -> list[Any]:
            assert value is None
            return [Choice("bf16", True, {"bf16": 2.0}), None]

    plan = replace(planned(precision="fastest"), world=Second(rank=1, size=2))
    encoder = prepare_encoder(plan)
    assert (encoder.precision, encoder.is_compiled, timed) == ("bf16", True, [])


def test_the_record_carries_the_choice(planned: Callable[..., RunPlan], timed: list[tuple[str, bool]]) -> None:
    options = planned(precision="fastest", compile="auto", probe="knn").options
    settings = {"probe.neighbours": [1, 3]}
    arguments = {name: getattr(options, name) for name in ("task", "data", "cache", "results", "workers", "probe")}
    record = evaluate(**arguments, model="random", precision="fastest", compile="auto", settings=settings)
    encoder = record.resolved["encoder"]
    assert encoder["precision"] == "bf16" and record.input.endswith("bf16")
    assert encoder["report"]["speed"]["compiled"] is True
    assert set(encoder["report"]["speed"]["clips_per_s"]) == {"fp32", "bf16", "bf16 compiled"}
    assert record.cost.encoder_clips
    again = evaluate(**arguments, model="random", precision="fastest", compile="auto", settings=settings)
    assert again.cost.encoder_clips == 0
    spaces = [json.loads(path.read_text()) for path in (options.cache / "features").glob("*/space.json")]
    assert spaces and all(space["compiled"] and space["precision"] == "bf16" for space in spaces)


def test_encoders_of_key_frames_are_measured_as_well(tmp_path: Path, timed: list[tuple[str, bool]]) -> None:
    options = {"task": "ava", "model": "random", "data": ava_standin(tmp_path / "ava", train=2, test=1)}
    options |= {"settings": {"clip.starts_s": 900, "clip.resolution": 16}, "cache": tmp_path / "cache", "workers": 0}
    encoder = prepare_encoder(make_plan(make_options({**options, "precision": "fastest", "compile": "auto"})))
    assert (encoder.precision, encoder.is_compiled) == ("bf16", True) and ("bf16", True) in timed


def test_an_unknown_way_to_compile_is_refused() -> None:
    with pytest.raises(BenchError, match="'off', 'auto' or 'on'"):
        make_options({"compile": "maybe"})


@pytest.mark.parametrize(("capability", "precisions"), [((9, 0), ["fp32", "bf16", "fp16"]), ((7, 5), ["fp32", "fp16"])])
def test_old_gpus_are_not_tried_in_bf16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precisions: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert usable_precisions(torch.device("cuda")) == precisions
    assert usable_precisions(torch.device("mps")) == ["fp32"]


def test_the_last_clips_are_filled_up_to_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def compile_(called: Callable[..., Any], **_: object) -> Callable[..., Any]:
        return lambda clips, *rest: sizes.append(len(clips)) or called(clips, *rest)  # type: ignore[func-returns-value]

    monkeypatch.setattr(torch, "compile", compile_)
    encoder = load_encoder("random")
    spec = encoder.input_spec
    clips = torch.randn(3, 3, spec.num_frames, spec.resolution, spec.resolution)
    compiled = encoder.compiled(4)
    assert torch.allclose(compiled(clips), encoder(clips), atol=1e-5) and sizes == [4]
    assert [len(layer) for layer in compiled.layers(clips, encoder.facts.layer_indices)] == [3, 3, 3]


@pytest.mark.parametrize("n", [SHORT + 1, 700])
def test_attention_in_slices_is_attention(n: int) -> None:
    if not slices(torch.device("cpu"), torch.bfloat16):
        pytest.skip("no fast bf16 products on this processor")
    heads = torch.randn(3, 2, n, 3, 22, generator=torch.Generator().manual_seed(0)) * 2
    query, key, value = heads.transpose(2, 3).unbind(0)
    exact = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    half = [part.bfloat16() for part in (query, key, value)]
    usual = torch.nn.functional.scaled_dot_product_attention(*half)

    def error(mixed: torch.Tensor) -> float:
        return ((mixed.float() - exact).norm() / exact.norm()).item()

    assert 0 < error(attend(*half)) < 2 * error(usual) < 0.05
    assert torch.equal(attend(query, key, value), exact), "fp32 is as it was"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_real_encoder_is_compiled() -> None:
    config = replace(SIZES["vit_nano"], depth=1)
    encoder = Encoder(vjepa_facts("one block", config), VisionTransformer(config))
    clips = torch.randn(1, 3, config.num_frames, config.resolution, config.resolution)
    compiled, expected = encoder.compiled(1)(clips), encoder(clips)
    assert (compiled - expected).norm() / expected.norm() < speed.ROUNDING["fp32"]
