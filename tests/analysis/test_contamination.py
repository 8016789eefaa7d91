"""Contamination marks: only where a card says so, and with what it says of labels."""

from __future__ import annotations

import pytest

from bench.analysis.contamination import exposure, stated
from bench.encoders.catalog import model_cards
from bench.records.summary import summarise

MIX = "VideoMix2M (Kinetics-710, SSv2, HowTo100M), unlabelled"


@pytest.mark.parametrize(
    ("statement", "dataset", "labels"),
    [
        (MIX, "ssv2", "unlabelled"),
        (MIX, "k400", "unlabelled"),
        (MIX, "k700", "unlabelled"),
        (MIX, "in1k", None),
        (MIX, "diving48", None),
        ("Kinetics-400 with labels", "k400", "labelled"),
        ("Kinetics-400 with labels", "k600", None),
        ("VideoMix22M (SSv2, Kinetics, ImageNet), unlabelled", "k600", "unlabelled"),
        ("ImageNet-22k, fine-tuned on ImageNet-1k", "in1k", "labelled"),
        ("LAION-2B and ImageNet", "in1k", "labels not stated"),
        ("moving digits, generated without end, unlabelled", "digits", "unlabelled"),
        ("bitcoin videos", "coin", None),
        ("nothing", "digits", None),
        ("nothing", "nothing", None),
        ("", "ssv2", None),
    ],
)
def test_a_statement_names_a_dataset_or_does_not(statement: str, dataset: str, labels: str | None) -> None:
    found = stated(statement, dataset)
    assert (found.labels if found else None) == labels
    if found:
        assert statement in found.note


@pytest.mark.parametrize(
    ("model", "file", "task", "marked"),
    [
        ("vjepa-vitl16", "", "ssv2", True),
        ("vjepa-vitl16", "", "diving48", False),
        ("vitl16", "vitl16.pth.tar", "ssv2", True),
        ("mine", "mine.pth.tar", "ssv2", False),
        ("random", "", "ssv2", False),
    ],
)
def test_cards_are_found_by_name_or_by_the_official_file(make_record, model, file, task, marked) -> None:
    resolved = {"encoder": {"report": {"file": file}}, "task": {"name": task, "published_task": task}}
    record = make_record(model=model, task="my-" + task, resolved=resolved)
    assert bool(exposure(summarise(record))) == marked


def test_a_file_of_ones_own_pretraining_is_no_official_one_whatever_its_name(make_record) -> None:
    resolved = {"encoder": {"report": {"file": "vitl16.pth.tar", "objective": "features"}}}
    assert exposure(summarise(make_record(model="vitl16", task="ssv2", resolved=resolved))) is None


def test_the_shipped_encoders_are_marked_on_the_digits_and_untrained_ones_are_not(make_record) -> None:
    marked = {
        card.name
        for card in model_cards()
        if exposure(summarise(make_record(model=card.name, resolved={"task": {"data": "digits"}})))
    }
    assert marked == {"contrast-nano", "pixel-nano", "slow-nano", "vjepa-nano"}
