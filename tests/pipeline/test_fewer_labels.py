"""Fewer labels: stratified parts of the same features, scored on the whole test split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probing.sources import ArraySource

import bench
from bench import BenchError
from bench.core.progress import Silent
from bench.pipeline.plan import make_plan
from bench.pipeline.run import prepare
from bench.pipeline.variants import draw_rows, label_parts
from bench.probing.objectives import OneLabel
from bench.probing.source import SomeTokens
from bench.records.schema import Record
from bench.tasks.options import make_options, read_shares

pytestmark = pytest.mark.slow

SHORT = {"probe.lr": [0.03, 0.01], "probe.weight_decay": 0.01, "probe.epochs": 1, "probe.min_steps": 40}


def options_of(data: Path, folder: Path, **options: Any) -> dict[str, Any]:
    given = {"task": "custom", "model": "pixels", "probe": "linear", "workers": 0, "settings": SHORT, "device": "cpu"}
    given |= {"data": data, "cache": folder / "cache", "results": folder / "results", "labels": "25%,50%"}
    return {**given, **options}


def evaluate(data: Path, folder: Path, **options: Any) -> Record:
    return bench.evaluate(**options_of(data, folder, **options))


def test_three_draws_of_each_share_are_scored_on_all_test_samples(bright_and_dark: Path, tmp_path: Path) -> None:
    record = evaluate(bright_and_dark, tmp_path)
    parts = [(part.share, part.draw, part.num_train, part.score.n) for part in record.fewer_labels]
    assert parts == [(share, draw, round(24 * share), 12) for share in (0.5, 0.25) for draw in range(3)]
    assert all(part.score.value == 100 for part in record.fewer_labels), "brightness is easy"
    assert record.cost.encoder_clips == 36, "nothing is encoded for them"
    again = evaluate(bright_and_dark, tmp_path)
    assert again.fewer_labels == record.fewer_labels and again.cost.probe_s == 0


def test_the_score_is_that_of_a_run_with_all_labels_alone(bright_and_dark: Path, tmp_path: Path) -> None:
    plain, both = evaluate(bright_and_dark, tmp_path / "a", labels=()), evaluate(bright_and_dark, tmp_path / "b")
    assert plain.scores == both.scores and plain.heads == both.heads and plain.protocol == both.protocol
    assert plain.fewer_labels == []


def test_parts_keep_the_classes_and_differ_between_draws_shares_and_seeds() -> None:
    labels = np.repeat([0, 1, 2], [100, 40, 1])
    objective = OneLabel(labels, 3)
    rows = draw_rows(objective, 0.1, 0, seed=0)
    assert np.bincount(labels[rows]).tolist() == [10, 4, 1] and (np.diff(rows) > 0).all()
    assert (rows == draw_rows(objective, 0.1, 0, seed=0)).all()
    drawn = {tuple(draw_rows(objective, 0.1, draw, seed)) for draw in range(3) for seed in range(2)}
    assert len(drawn) == 6


def test_some_tokens_are_those_of_the_rows() -> None:
    tokens = torch.randn(2, 9, 4, 6)
    some = SomeTokens(ArraySource(tokens), np.array([1, 4, 8]))
    assert (some.num_samples, some.num_views, some.num_tokens, some.embed_dim) == (3, 2, 4, 6)
    assert torch.equal(some.read(np.array([2, 0]), 1), tokens[1, [8, 1]])


def test_settings_are_chosen_on_held_out_clips_of_the_part_alone(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {**SHORT, "probe.augmentation": "official", "probe.train_views": 2}
    with pytest.raises(BenchError, match="--labels 25%: 24 training samples are too few for it"):
        make_plan(make_options(options_of(bright_and_dark, tmp_path, settings=settings)))
    plan = make_plan(make_options(options_of(bright_and_dark, tmp_path, settings=settings, labels="50%")))
    prepared = prepare(plan, Silent())
    whole, job = prepared.inputs, prepared.job
    for part in label_parts(job):
        mine, held = part.inputs(whole), part.job.held_out
        assert mine.held_out is not None and held is not None and job.held_out is not None
        among = set(job.held_out.readable.tolist()) & set(part.rows.tolist())
        assert {int(part.rows[place]) for place in held.readable} == among
        assert mine.held_out.tokens.num_samples == len(held.items) == len(among) > 0
        first = job.held_out.readable.tolist().index(part.rows[held.readable[0]])
        assert torch.equal(
            mine.held_out.tokens.read(np.array([0]), 0), whole.held_out.tokens.read(np.array([first]), 0)
        )


def test_parts_of_a_stream_are_streamed(bright_and_dark: Path, tmp_path: Path) -> None:
    settings = {"probe.epochs": 2, "probe.batch_size": 8}
    record = evaluate(bright_and_dark, tmp_path, probe="vjepa1-paper", settings=settings, labels="50%")
    assert [(part.draw, part.num_train, part.score.n) for part in record.fewer_labels] == [
        (draw, 12, 12) for draw in range(3)
    ]
    assert record.resolved["training"]["streamed_clips"] == 2 * 24, "of all labels"


@pytest.mark.parametrize("given", ["5%, 50%", ["50%", "5%"], [0.05, 0.5, 0.5], "0.05,0.5"])
def test_shares_are_read_in_any_form(given: Any) -> None:
    assert read_shares(given) == (0.5, 0.05) and read_shares(None) == ()


@pytest.mark.parametrize("given", ["100%", "0%", "half", "5%%", "150%", "nan", "-5%", 7])
def test_other_shares_are_refused(given: Any) -> None:
    with pytest.raises(BenchError, match="is not a part of the labels - give shares below 100 %"):
        read_shares(given)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": "5%"}, "--labels 5%: 24 training samples are too few"),
        ({"probe": "knn", "settings": {}}, "--labels 50%: it leaves 10 training samples for k = 50 neighbours"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_encoded(
    bright_and_dark: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BenchError, match=words):
        make_plan(make_options(options_of(bright_and_dark, tmp_path, **options)))


def test_a_given_probe_has_no_labels_to_lose(bright_and_dark: Path, tmp_path: Path) -> None:
    first = evaluate(bright_and_dark, tmp_path, labels=())
    given = tmp_path / "results" / first.run_id / "probe.safetensors"
    with pytest.raises(BenchError, match="--labels means nothing with --probe-weights"):
        evaluate(bright_and_dark, tmp_path, probe="attentive", settings={}, probe_weights=given)
