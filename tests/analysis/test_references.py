"""Tolerance checks: same model and same protocol, or none at all."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench.analysis import published
from bench.analysis.board import Leaderboard
from bench.analysis.leaderboard import build
from bench.analysis.published import reference_checks, sections_of
from bench.cards.fields import layers_name
from bench.cards.load import load_probe_card, load_task, task_names
from bench.encoders.catalog import model_cards
from bench.report.export import published_to_markdown, to_json, to_latex
from bench.report.html import to_html
from bench.report.terminal import published_to_rich

VERSION = load_probe_card("vjepa2-paper").version


@pytest.fixture(autouse=True)
def card_with_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of ssv2 says what three encoders score, two of them on clips at random positions."""
    fields = {"tolerance": 0.5, "source": "Paper <Table 1>"}
    known = [
        SimpleNamespace(model="V-JEPA 2 ViT-L/16", probe="vjepa2-paper", clip="vjepa2", value=73.7, **fields),
        SimpleNamespace(model="vjepa-vitl16", probe="vjepa2-paper", clip="vjepa2", value=60.2, **fields),
        SimpleNamespace(model="random", probe="attentive", clip="centre", value=50.0, **fields),
    ]
    clip = load_task("ssv2").clip
    clips = {"vjepa2": clip.model_copy(update={"sampling": "random"}), "centre": clip}
    shown = load_task("ssv2").model_copy(update={"clips": clips, "references": known})
    monkeypatch.setattr(published, "load_task", lambda name: shown if name == "ssv2" else load_task(name))


@pytest.fixture
def measured(make_record):
    def make(
        model: str, correct: int, probe: str = "vjepa2-paper", protocol: str | None = None, shown: str | None = None
    ) -> Leaderboard:
        fields = {
            "probe": probe,
            "protocol": protocol or f"{probe}/{VERSION} 2x3 random step 4",
            "input": shown or {"vjepa2-vitl-256": "16x256px step 4"}.get(model, "16x224px step 4"),
        }
        return build([make_record(model=model, task="ssv2", correct=correct, n=1000, **fields)])

    return make


@pytest.mark.parametrize(
    ("correct", "verdict"), [(737, "within tolerance"), (732, "within tolerance"), (731, "too low"), (743, "too high")]
)
def test_a_reproduction_is_within_tolerance_on_both_sides(measured, correct: int, verdict: str) -> None:
    (check,) = reference_checks(measured("vjepa2-vitl-256", correct))
    assert verdict in check.words
    assert check.ok == (verdict == "within tolerance")


@pytest.mark.parametrize(
    ("model", "probe", "protocol", "checked"),
    [
        ("vjepa-vitl16", "vjepa2-paper", None, True),
        ("vjepa-vitl16", "vjepa2-released", None, True),
        ("vjepa-vitl16", "attentive", None, False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION} 1x1 random step 4", False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION} 2x3 center step 4", False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION} 2x3 random step 2", False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION} 2x3 random step 4 limit 100", False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION} 2x3 random step 4 lr=0.1", False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION}#abc123 2x3 random step 4", False),
        ("vjepa-vitl16", "vjepa2-paper", f"vjepa2-paper/{VERSION - 1} 2x3 random step 4", False),
        ("vjepa-vitl16", "vjepa2", None, False),
        ("vjepa-vith16", "vjepa2-paper", None, False),
        ("random", "attentive", f"attentive/{load_probe_card('attentive').version} 2x3 center step 4", True),
        ("random", "attentive", None, False),
        ("random", "vjepa2-paper", None, False),
    ],
)
def test_only_the_same_model_under_the_same_protocol_is_held_against_it(
    measured, model: str, probe: str, protocol: str | None, checked: bool
) -> None:
    shown = "16x16px step 4" if model == "random" else None
    assert bool(reference_checks(measured(model, 600, probe, protocol, shown))) == checked


@pytest.mark.parametrize(
    ("shown", "checked"),
    [
        ("16x224px step 4", True),
        ("16x224px step 4, bf16", True),
        ("16x384px step 4", False),
        ("8x224px step 4", False),
        ("16x224px step 4, 8-bit tokens", False),
    ],
)
def test_other_pixels_than_the_papers_are_not_held_against_it(measured, shown: str, checked: bool) -> None:
    assert bool(reference_checks(measured("vjepa-vitl16", 600, shown=shown))) == checked


PAPERS = ("vjepa1-paper", "vjepa2-paper")
PRINTED = [
    pytest.param(name, reference, id=f"{name}-{reference.model}")
    for name in task_names()
    for reference in load_task(name).references
    if reference.probe in PAPERS
]


@pytest.mark.parametrize(("task", "reference"), PRINTED)
def test_every_printed_score_is_held_against_a_run_of_its_protocol(make_record, monkeypatch, task, reference) -> None:
    """What the plan of such a run says of itself is what the reference asks for."""
    monkeypatch.setattr(published, "load_task", load_task)
    card = load_task(task)
    clip = card.clips[reference.clip]
    layers = layers_name(clip.layers) if clip.layers else ""
    size = clip.resolution or next(entry.resolution for entry in model_cards() if entry.name == reference.model)
    version = load_probe_card(reference.probe).version
    words = ["image"] if card.media == "image" else [f"{clip.segments}x{clip.views} {clip.sampling}"]
    words += [f"step {clip.step}"] if clip.step else []
    protocol = " ".join([f"{reference.probe}/{version}", *words, *([layers] if layers else [])])
    frames = clip.frames or 64
    shown = f"{size}px image x{frames}" if card.media == "image" else f"{frames}x{size}px step 4"
    fields = {"probe": reference.probe, "protocol": protocol, "input": shown, "model": reference.model}
    board = build([make_record(task=task, axis=card.axis, correct=500, n=1000, **fields)])
    assert [check.published for check in reference_checks(board)] == [reference.value]


def test_cards_without_references_check_nothing(make_record) -> None:
    assert reference_checks(build([make_record(task="k400"), make_record(task="my-own")])) == []


def test_every_format_shows_the_check_with_its_source(measured) -> None:
    board = measured("vjepa-vitl16", 500)
    sections = sections_of(board)
    console = Console(width=100, color_system="standard", force_terminal=True)
    with console.capture() as capture:
        console.print(published_to_rich(sections))
    assert "\x1b[31mtoo low" in capture.get()
    for text in (published_to_markdown(sections), to_latex(board, sections), to_html(board, sections)):
        assert re.search(r"50\.0.+60\.2.+0\.5.+−?10\.2.+too low.+Paper .*Table 1", text), text
        assert "2506.09985" in text and "Not the protocols of the board" in text
    assert "<Table" not in to_html(board, sections)
    found = [row for row in json.loads(to_json(board, sections)) if row.get("ok") is False]
    assert [(row["task"], row["published"], row["measured"]) for row in found] == [("ssv2", 60.2, 50.0)]
