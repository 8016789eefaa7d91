"""Published scores: frozen attentive probes, first-hand, with their source."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support import ROOT

from bench.analysis.published import PROBES, published_rows, published_sections
from bench.cards.load import load_task, task_names
from bench.core.errors import BenchError

pytestmark = pytest.mark.slow

HEADING = "model,backbone,params_m,pretrain_data,resolution,frames,probe,task,views,metric,value,source,verified"


def table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "published.csv"
    path.write_text("\n".join([HEADING, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("model", "value", "source"),
    [("V-JEPA", 71.4, "facebookresearch/jepa README"), ("V-JEPA 2", 77.3, "2506.09985 Table 4")],
)
def test_the_headline_numbers_are_there_with_their_source(model: str, value: float, source: str) -> None:
    rows = published_rows("ssv2")
    assert any((row.model, row.value) == (model, value) and source in row.source for row in rows)


@pytest.mark.parametrize("task", ["ssv2", "k400", "diving48", "in1k"])
def test_rows_are_comparable_in_kind_and_first_hand(task: str) -> None:
    rows = published_rows(task)
    assert rows
    assert [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert all(row.probe in PROBES and row.source and 0 < row.value < 100 for row in rows)
    assert not any("secondary" in row.source or "ablation" in row.model for row in rows)


@pytest.mark.parametrize(("task", "value"), [("ade20k", 47.8), ("voc12", 84.7)])
def test_scores_of_masks_are_those_of_linear_probes_of_every_token(task: str, value: float) -> None:
    (section,) = published_sections([task])
    rows = published_rows(task)
    assert {row.probe for row in rows} == {"linear-dense"} and section.heading[1] == "mIoU"
    assert [row.value for row in rows if (row.model, row.backbone) == ("V-JEPA 2.1", "ViT-g/16")] == [value]
    assert section.title == f"Published for {task}: mean IoU in %, frozen encoder, linear probe of every token"


def test_numbers_that_only_notes_of_others_tell_are_not_verified() -> None:
    with (ROOT / "results" / "published.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["verified"] for row in rows if "[secondary" in row["source"]} == {"no"}
    assert {row["verified"] for row in rows if "[secondary" not in row["source"]} == {"yes"}


@pytest.mark.parametrize("task", task_names())
def test_a_card_names_a_task_that_has_published_scores(task: str) -> None:
    assert bool(published_rows(task)) == (load_task(task).published_task is not None)


def test_only_the_wanted_rows_of_the_task_are_read(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "M,ViT-L,300,,224.0,16,attentive,t,16x2x3,top1,70.5,Paper Table 1,yes",
        "M,ViT-L,300,,224.0,16,finetune,t,16x2x3,top1,80.5,Paper Table 1,yes",
        "M,ViT-L,300,,224.0,16,attentive,u,16x2x3,top1,81.5,Paper Table 1,yes",
        "M,ViT-L,300,,224.0,16,attentive,t,16x2x3,map,82.5,Paper Table 1,yes",
        "M,ViT-L,300,,224.0,16,attentive,t,16x2x3,top1,83.5,Paper [secondary notes],yes",
        "M,ViT-L,300,,224.0,16,attentive,t,16x2x3,top1,83.6,Paper Table 1,no",
        "M masking=random,ViT-L,300,,224.0,16,attentive,t,16x2x3,top1,84.5,Paper Table 4,yes",
    )
    (row,) = published_rows("t", path)
    assert row.words == ("M, ViT-L", "70.5", "attentive", "16x2x3 at 224 px", "Paper Table 1")


def test_a_section_shows_the_highest_of_each_model_and_counts_the_rest(tmp_path: Path) -> None:
    rows = [f"M{i},ViT-L,,,,,attentive,t,,top1,{30 + i},Table {i},yes" for i in range(20)]
    again = [f"M{i},ViT-L,,,,,attentive,t,,top1,{20 + i},Lower,yes" for i in range(20)]
    (section,) = published_sections(["t", "unheard-of", "t"], table(tmp_path, *again, *rows))
    assert [score.value for score in section.shown] == list(range(49, 37, -1))
    assert not any(score.source == "Lower" for score in section.shown)
    assert section.total == 40
    assert section.remark.startswith("12 of 40")


@pytest.mark.parametrize(
    "row",
    ["M,ViT-L,,,,,attentive,t,,top1,high,Table 1,yes", "M,ViT-L,,,,,attentive,t,,top1"],
    ids=["text", "short"],
)
def test_a_damaged_table_is_named(tmp_path: Path, row: str) -> None:
    path = table(tmp_path, row)
    with pytest.raises(BenchError, match="not a table of published scores") as caught:
        published_rows("t", path)
    assert caught.value.where == str(path)
    with pytest.raises(BenchError, match="not a table"):
        published_rows("t", tmp_path / "missing.csv")
