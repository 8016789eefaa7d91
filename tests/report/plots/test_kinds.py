"""What each kind of plot shows, as statements on its figure: where the marks are, what is written, what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import CLIPS, TRANSFORMER, made_results, made_run, made_score
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from bench.analysis.select import Evidence, read_evidence
from bench.core.errors import BenchError
from bench.metrics.score import Breakdown, Score
from bench.records.schema import Head
from bench.report.plots import KINDS, Plot, draw
from bench.report.plots.classes import most_confused
from bench.report.plots.plot import _spread, fold
from bench.report.plots.scatter import sample_flops


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The index of records is kept in a cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> list[Evidence]:
    """Two models, two tasks, two seeds, with everything that can be drawn."""
    return read(made_results(tmp_path_factory.mktemp("made"), models=2))


def read(results: Path) -> list[Evidence]:
    evidence, problems = read_evidence([results])
    assert problems == []
    return evidence


def words(figure: Figure) -> list[str]:
    """Every text of a figure, in one line each."""
    figure.draw_without_rendering()
    return [" ".join(text.get_text().split()) for text in figure.findobj(Text) if text.get_text()]


def marks(axes: Any) -> list[tuple[float, float]]:
    """Where the marks with an error bar are."""
    return [
        (float(bar[0].get_xdata()[0]), float(bar[0].get_ydata()[0])) for bar in axes.containers if bar[0] is not None
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_in_words_what_it_shows(runs: list[Evidence], kind: str) -> None:
    plots = draw(kind, runs)
    assert plots
    for plot in plots:
        assert plot.caption.endswith(".")
        assert plot.title in " ".join(words(plot.figure))
    assert [plot.name for plot in plots] == [f"{kind}-{i}" for i in range(1, len(plots) + 1)]
    assert draw(kind, []) == []


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_several_probes_are_drawn_as_models_of_several_seeds(kind: str, tmp_path: Path) -> None:
    plots = draw(kind, read(made_results(tmp_path, models=2, seeds=1, probes=3)))
    assert plots and all(plot.svg() for plot in plots)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BenchError, match="no plot is called 'scater'"):
        draw("scater", [])


def test_scatter_places_a_model_at_its_means_over_seeds(runs: list[Evidence]) -> None:
    (plot,) = draw("scatter", runs)
    axes = plot.figure.axes[0]
    value = {
        (task, model): np.mean(
            [r.record.scores[0].value for r in runs if (r.record.task, r.record.model) == (task, model)]
        )
        for task in ("made-appearance", "made-motion")
        for model in ("model-0", "model-1")
    }
    expected = {(value["made-appearance", m], value["made-motion", m]) for m in ("model-0", "model-1")}
    assert {tuple(np.round(at, 6)) for at in marks(axes)} == {tuple(np.round(at, 6)) for at in expected}
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"].count(12.5) == 1
    assert "n = 200 test samples" in plot.caption and "small dots are the seeds" in plot.caption
    dots = sum(
        len(found.get_offsets()) for found in axes.collections if hasattr(found, "get_sizes") and len(found.get_sizes())
    )
    assert dots == 4


def test_scatter_draws_where_the_motion_lead_over_the_untrained_encoder_is_none(
    runs: list[Evidence], tmp_path: Path, own_cache: None
) -> None:
    for model, moves in (("random", 0.4), ("trained", 0.8)):
        made_run(tmp_path, model, "made-motion", moves)
        made_run(tmp_path, model, "made-appearance", 0.5)
    (plot,) = draw("scatter", read(tmp_path))
    (line,) = [line for line in plot.figure.axes[0].lines if line.get_linestyle() == ":"]
    values = {run.record.model + run.record.task: run.record.scores[0].value for run in read(tmp_path)}
    assert line.get_xy1() == (values["randommade-appearance"], values["randommade-motion"]) and line.get_slope() == 1
    assert "motion lead of 0 over random" in words(plot.figure) and "Dotted: motion minus appearance" in plot.caption
    (other,) = draw("scatter", runs)
    assert "lead" not in " ".join([other.caption, *words(other.figure)]), "without an untrained encoder there is none"


def test_scatter_draws_models_that_share_no_pair_of_tasks_apart(tmp_path: Path, own_cache: None) -> None:
    for model in "abc":
        made_run(tmp_path, model, "made-motion", 0.5)
        made_run(tmp_path, model, "made-appearance", 0.5)
    for task, axis in (("other-motion", "motion"), ("other-look", "appearance")):
        made_run(tmp_path, "d", task, 0.5, axis=axis)
    made_run(tmp_path, "e", "made-motion", 0.5)
    first, second = draw("scatter", read(tmp_path))
    assert (len(marks(first.figure.axes[0])), len(marks(second.figure.axes[0]))) == (3, 1)
    assert "other-look" in second.caption


def test_scatter_takes_the_mean_of_tasks_that_all_its_models_have(tmp_path: Path, own_cache: None) -> None:
    for model, share in (("a", 0.4), ("b", 0.8)):
        for task, axis in (("m1", "motion"), ("m2", "motion"), ("looks", "appearance")):
            made_run(tmp_path, model, task, share, axis=axis)
    made_run(tmp_path, "b", "m3", 0.1, axis="motion")
    evidence = read(tmp_path)
    (plot,) = draw("scatter", evidence)
    scores = {(r.record.model, r.record.task): r.record.scores[0] for r in evidence}
    expected = (scores["b", "m1"].value + scores["b", "m2"].value) / 2
    assert round(max(y for _, y in marks(plot.figure.axes[0])), 6) == round(expected, 6)
    reach = np.hypot(*(scores["b", task].high - scores["b", task].value for task in ("m1", "m2"))) / 2
    ends = [seg[1][1] for bar in plot.figure.axes[0].containers for c in bar[2] for seg in c.get_segments()]
    assert round(max(ends), 6) == round(expected + reach, 6)
    assert "motion: mean of 2 tasks" in " ".join(words(plot.figure)) and "m3" not in plot.caption


def test_numbers_of_many_models_do_not_cover_each_other(tmp_path: Path, own_cache: None) -> None:
    for number in range(20):
        made_run(tmp_path, f"run/{number}", "made-motion", 0.5 + number / 200)
        made_run(tmp_path, f"run/{number}", "made-appearance", 0.5)
    (plot,) = draw("scatter", read(tmp_path))
    plot.figure.draw_without_rendering()
    axes = plot.figure.axes[0]
    # of the text alone: that of an annotation has its line too
    boxes = [Text.get_window_extent(text).padded(-1) for text in axes.texts]
    assert sorted(int(text.get_text()) for text in axes.texts) == list(range(1, 21))
    assert not [(i, j) for i in range(20) for j in range(i) if boxes[i].overlaps(boxes[j])]


def test_bars_are_best_first_with_intervals_and_chance(runs: list[Evidence]) -> None:
    plot = draw("bars", runs)[0]
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["model-1", "model-0"]
    lengths = [patch.get_width() for patch in axes.patches]
    assert lengths == sorted(lengths, reverse=True)
    assert "Dashed: chance" in plot.caption and "95 % intervals" in plot.caption


def test_published_scores_stand_apart_with_their_source_and_the_caveat(tmp_path: Path, own_cache: None) -> None:
    made_run(tmp_path, "mine", "ssv2", 0.6, axis="motion")
    (plot,) = draw("bars", read(tmp_path))
    labels = [label.get_text().replace("\n", " ") for label in plot.figure.axes[0].get_yticklabels()]
    assert labels[0] == "mine" and len(labels) == 13
    assert any(label.startswith("V-JEPA 2") and label.endswith("[2]") for label in labels)
    assert "other protocols" in plot.caption and "[1] " in plot.caption and "260" in plot.caption.split("Sources:")[1]


def test_a_score_under_a_published_protocol_has_the_published_one_on_its_bar(tmp_path: Path, own_cache: None) -> None:
    from bench.cards.load import load_probe_card, load_task

    reference = next(r for r in load_task("ssv2").references if r.model == "vjepa-vitl16" or "ViT-L" in r.model)
    clip = load_task("ssv2").clips[reference.clip]
    recipe = f"{reference.probe}/{load_probe_card(reference.probe).version}"
    parts = [recipe, f"{clip.segments}x{clip.views}", clip.sampling]
    parts += [f"step {clip.step}"] if clip.step else []
    parts += [f"{clip.crop} crop"] if clip.crop != "official" else []
    told = {"probe": reference.probe, "protocol": " ".join(parts), "input": "16x224px step 4"}
    made_run(tmp_path, reference.model, "ssv2", 0.7, axis="motion", **told)
    (plot,) = draw("bars", read(tmp_path))
    diamonds = [line for line in plot.figure.axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [reference.value]
    assert f"{reference.value:.1f} ± {reference.tolerance:g}" in plot.caption and "same protocol" in plot.caption


def test_listed_settings_that_were_chosen_on_the_test_split_say_so(tmp_path: Path, own_cache: None) -> None:
    """Two settings of one learning rate and decay, of which one warms up, do not hide each other."""
    rates = (None, 1e-3), (5.0, 1e-3), (5.0, 2e-3)
    heads = [
        Head(lr=lr, weight_decay=1e-3, warmup_epochs=warmup, test_accuracy=50.0 + index, chosen=index == 2)
        for index, (warmup, lr) in enumerate(rates)
    ]
    made_run(tmp_path, "a", "made-appearance", 0.6, probe="vjepa2-paper", heads=heads, selected_on_test=True)
    (plot,) = draw("sweep", read(tmp_path))
    axes = plot.figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "0.001\nwarm-up 0",
        "0.001\nwarm-up 5",
        "0.002\nwarm-up 5",
    ]
    assert {text.get_text() for text in axes.texts} == {"50.0", "51.0", "52.0"}
    assert "on the test split itself" in plot.caption and "selected on test" in plot.title


def test_controls_show_each_order_trained_both_ways_and_the_motion_share(runs: list[Evidence]) -> None:
    plot = draw("controls", runs)[0]
    read_of, leaned_on, shares = plot.figure.axes
    assert [len(marks(axes)) for axes in (read_of, leaned_on, shares)] == [8, 8, 2], "one is too near chance"
    legend = [text.get_text() for text in plot.figure.legends[0].get_texts()]
    assert legend == ["ordered", "reversed", "shuffled", "static", "lost without order", "lost with one frame"]
    assert {round(x, 6) for x, _ in marks(shares)} == {0.5, 0.9}


def test_controls_are_drawn_of_what_there_is(tmp_path: Path, own_cache: None) -> None:
    made_run(tmp_path, "plain", "made-motion", 0.5, evidence=False)
    assert draw("controls", read(tmp_path)) == draw("labels", read(tmp_path)) == []
    only = {("static", "static"): made_score(0.2)}
    made_run(tmp_path, "one", "made-motion", 0.5, evidence=False, controls=only)
    (plot,) = draw("controls", read(tmp_path))
    assert len(plot.figure.axes) == 1
    assert [label.get_text() for label in plot.figure.axes[0].get_yticklabels()] == ["one"]


def test_labels_draw_means_over_draws_and_end_at_all_labels(runs: list[Evidence]) -> None:
    plot = draw("labels", runs)[0]
    axes = plot.figure.axes[0]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks == ["5 %\n(40)", "10 %\n(80)", "50 %\n(400)", "100 %\n(800)"]
    best = axes.lines[0].get_ydata()
    own = [run.record for run in runs if (run.record.task, run.record.model) == ("made-motion", "model-1")]
    assert best[-1] == pytest.approx(np.mean([record.scores[0].value for record in own]))
    first = [part.score.value for record in own for part in record.fewer_labels if part.share == 0.05]
    assert best[0] == pytest.approx(np.mean(first)) and len(first) == 6


def test_cost_counts_all_clips_and_views_and_joins_the_budgets_of_one_encoder(tmp_path: Path, own_cache: None) -> None:
    for segments in (1, 2):
        resolved = {
            "encoder": {"name": "a", **TRANSFORMER},
            "test_clips": {**CLIPS, "num_segments": segments, "views": 3},
        }
        made_run(tmp_path, "a", "made-motion", 0.5, protocol=f"attentive/1 {segments}x3 center", resolved=resolved)
    pixels = {"name": "p", **TRANSFORMER, "architecture": {"kind": "pixels"}}
    made_run(
        tmp_path,
        "p",
        "made-motion",
        0.3,
        resolved={"encoder": pixels, "test_clips": CLIPS},
        protocol="attentive/1 1x1 center",
    )
    made_run(tmp_path, "old", "made-motion", 0.3, resolved={}, protocol="attentive/1 1x1 center")
    evidence = read(tmp_path)
    one, two = (found for run in evidence if (found := sample_flops(run.record)) and found[0])
    # 3 blocks of width 64 with an MLP of 256, on 4 x 4 x 4 tokens, 3 views
    assert one == (3 * 2.0 * 3 * (4 * 64 * 64**2 + 2 * 64 * 64 * 256 + 2 * 64**2 * 64), 3)
    assert two == (2 * one[0], 6)
    (plot,) = draw("cost", evidence)
    line = next(
        line for line in plot.figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"
    )
    assert list(line.get_xdata()) == [one[0], two[0]]
    assert "Operations of old are not known" in plot.caption and "3 or 6 here" in plot.caption
    assert "0" in words(plot.figure)


def test_cost_shows_nothing_where_nothing_is_computed(tmp_path: Path, own_cache: None) -> None:
    pixels = {"name": "p", **TRANSFORMER, "architecture": {"kind": "pixels"}}
    made_run(tmp_path, "p", "made-motion", 0.3, resolved={"encoder": pixels, "test_clips": CLIPS})
    assert draw("cost", read(tmp_path)) == []


def test_curves_are_those_beside_the_runs(runs: list[Evidence]) -> None:
    (plot,) = draw("curve", runs)
    assert plot.title == "made, attentive probe"
    assert "3 checkpoints against samples seen" in plot.caption
    assert list(plot.figure.axes[0].lines[0].get_xdata()) == [0, 10_000, 20_000]
    only = [run for run in runs if run.record.task == "made-motion"]
    assert len([c for c in draw("curve", only)[0].figure.legends[0].get_texts() if "made-" in c.get_text()]) == 1


def test_a_sweep_frames_what_was_chosen_and_hatches_what_diverged(runs: list[Evidence]) -> None:
    plot = draw("sweep", runs)[0]
    panel = plot.figure.axes[0]
    cells = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    hatched = [cell.get_xy() for cell in cells if cell.get_hatch()]
    framed = [cell.get_xy() for cell in cells if cell.get_linewidth() > 2]
    assert (hatched, framed) == ([(2.5, -0.5)], [(1.54, 0.54)])
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0.0001", "0.0003", "0.001", "0.003"]
    assert len(panel.texts) == 11


def test_neighbours_are_a_sweep_of_one_row(tmp_path: Path, own_cache: None) -> None:
    heads = [Head(neighbours=k, held_out_accuracy=50.0 + k, chosen=k == 10) for k in (10, 20)]
    made_run(tmp_path, "a", "made-motion", 0.5, heads=heads)
    made_run(tmp_path, "official", "made-motion", 0.5, heads=[Head(lr=0.1, weight_decay=0.1), Head(lr=0.2)])
    (plot,) = draw("sweep", read(tmp_path))
    panel = plot.figure.axes[0]
    assert (panel.get_xlabel(), [label.get_text() for label in panel.get_xticklabels()]) == ("neighbours", ["10", "20"])
    assert "official" not in " ".join(words(plot.figure))


def test_confusion_has_the_share_of_the_true_class_in_each_cell(tmp_path: Path, own_cache: None) -> None:
    made_run(tmp_path, "a", "made-motion", 0.7)
    evidence = read(tmp_path)
    (plot,) = draw("confusion", evidence)
    axes = plot.figure.axes[0]
    diagonal = [int(text.get_text()) for text in axes.texts if text.get_position()[0] == text.get_position()[1]]
    assert np.mean(diagonal) == pytest.approx(evidence[0].record.scores[0].value, abs=0.6)
    assert axes.get_yticklabels()[6].get_text() == "wave"


def test_of_many_classes_the_pairs_that_are_most_confused_are_named(tmp_path: Path, own_cache: None) -> None:
    names = [f"Pushing something number {number} from left to right" for number in range(174)]
    made_run(tmp_path, "a", "made-motion", 0.5, classes=names, n=1740)
    (plot,) = draw("confusion", read(tmp_path))
    matrix, pairs = plot.figure.axes
    assert len(matrix.get_yticklabels()) == 0
    assert len(pairs.get_yticklabels()) == 12 and "→ Pushing something number" in pairs.get_yticklabels()[0].get_text()
    counts = np.array([[5, 2, 0], [9, 5, 0], [0, 3, 5]])
    assert most_confused(counts) == [(1, 0), (2, 1), (0, 1)]


def test_classes_are_sorted_and_the_middle_of_many_is_left_out(tmp_path: Path, own_cache: None) -> None:
    names = [f"class {number}" for number in range(40)]
    made_run(tmp_path, "a", "made-motion", 0.5, classes=names, n=800)
    (plot,) = draw("classes", read(tmp_path))
    values = [x for x, _ in marks(plot.figure.axes[0])]
    assert len(values) == 30 and values == sorted(values, reverse=True)
    assert "15 highest and the 15 lowest of 40" in plot.caption


def test_what_a_metric_says_of_each_class_is_drawn_from_the_record(tmp_path: Path, own_cache: None) -> None:
    score = Score(metric="map", value=30, low=25, high=35, correct=None, n=200, failed=0, interval="bootstrap")
    parts = Breakdown(metric="ap", by="class", values={"run": 50.0, "sit": 10.0, "never seen": None})
    made_run(tmp_path, "a", "boxes", 0.5, axis="motion", scores=[score], breakdowns=[parts])
    evidence = read(tmp_path)
    (plot,) = draw("classes", evidence)
    assert [label.get_text() for label in plot.figure.axes[0].get_yticklabels()] == ["run", "sit"]
    assert "no interval" in plot.caption
    assert draw("confusion", evidence) == draw("reliability", evidence) == []
    assert "Dashed" not in draw("bars", evidence)[0].caption


def test_runs_without_predictions_are_left_out_and_named(tmp_path: Path, own_cache: None) -> None:
    made_run(tmp_path, "whole", "made-motion", 0.5)
    bare = made_run(tmp_path, "bare", "made-motion", 0.6)
    (bare / "predictions.parquet").unlink()
    evidence, (problem,) = read_evidence([tmp_path])
    assert [run.record.model for run in evidence] == ["whole"]
    assert problem.where == str(bare / "record.json") and "predictions.parquet is missing" in problem.what


def test_a_reliability_diagram_states_the_error_with_its_interval(runs: list[Evidence]) -> None:
    plot = draw("reliability", runs)[0]
    assert len(plot.figure.axes) == 2
    assert len([word for word in words(plot.figure) if "ECE" in word and "[" in word]) == 2


def test_labels_at_the_ends_of_lines_are_spread_as_little_as_it_takes() -> None:
    assert _spread([0.0, 20.0, 50.0], 9) == [0.0, 20.0, 50.0]
    assert _spread([10.0, 10.0, 10.0], 9) == [1.0, 10.0, 19.0]
    assert _spread([0.0, 1.0, 30.0], 9) == [-4.0, 5.0, 30.0]


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("vjepa-nano", "vjepa-nano"),
        ("runs/demo/epoch10.pth.tar", "runs/demo/\nepoch10.pth.\ntar"),
        ("a\nb\x00", "a b\ufffd"),
        ("_hidden", "\u200b_hidden"),
        ("", ""),
    ],
)
def test_names_break_after_marks(name: str, folded: str) -> None:
    assert fold(name, 12) == folded
    assert all(len(line) <= 12 for line in fold(name * 40, 12).replace("\u200b", "").split("\n"))


def test_plots_are_what_they_say() -> None:
    assert list(KINDS) == [
        "scatter",
        "bars",
        "controls",
        "labels",
        "cost",
        "curve",
        "sweep",
        "confusion",
        "classes",
        "reliability",
    ]
    assert Plot.__dataclass_params__.frozen  # type: ignore[attr-defined]
