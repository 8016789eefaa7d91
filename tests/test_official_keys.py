"""docs/protocols.md names a counterpart, or a reason, for every key of the official evaluation configurations."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from support import ROOT

from bench.cards.load import ProbeCard, load_probe_card, load_task, override
from bench.cli.app import app
from bench.encoders.families import Stated

# Names of keys, by section, of configs/evals of V-JEPA and of configs/eval and configs/inference of V-JEPA 2, and those
# that only their code reads.
OFFICIAL = {
    "": "nodes tasks_per_node cpus_per_task mem_per_gpu max_workers num_workers tag eval_name folder resume_checkpoint "
    "val_only classifier_checkpoint",
    "data": "dataset_train dataset_val dataset_type dataset_name dataset root_path image_folder base_path "
    "file_format num_classes frames_per_clip frame_step clip_duration frames_per_second num_segments "
    "num_views_per_segment resolution normalization auto_augment reprob random_resize_scale motion_shift "
    "num_workers pin_memory anticipation_time_sec val_anticipation_point train_anticipation_time_sec "
    "train_anticipation_point",
    "classifier": "num_heads num_probe_blocks",
    "optimization": "attend_across_segments num_epochs resolution batch_size weight_decay lr start_lr final_lr warmup "
    "use_bfloat16 use_pos_embed use_focal_loss multihead_kwargs final_weight_decay",
    "pretrain": "model_name checkpoint_key clip_duration frames_per_clip frame_step tubelet_size uniform_power "
    "use_silu tight_silu use_sdpa patch_size folder checkpoint write_tag",
    "model_kwargs": "checkpoint module_name",
    "encoder": "model_name checkpoint_key tubelet_size patch_size uniform_power use_rope img_temporal_dim_size",
    "predictor": "model_name checkpoint_key num_frames depth num_heads predictor_embed_dim num_mask_tokens "
    "uniform_power use_mask_tokens use_sdpa use_silu wide_silu use_rope",
    "wrapper_kwargs": "max_frames use_pos_embed out_layers img_as_video_nframes no_predictor "
    "num_output_frames num_steps",
}


def table() -> list[tuple[str, str, str]]:
    """(official keys, here, remarks) of every row that names a key."""
    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    section = text.partition("## Keys of the official configurations")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    rows = [(row[0].strip("| "), row[1].strip("| "), row[2].strip("| ") if len(row) > 2 else "") for row in cells[2:]]
    return [row for row in rows if "`" in row[0]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ROWS = table()
NAMED = sorted({name for _, here, _ in ROWS for name in names(here)})


@pytest.mark.parametrize("section", OFFICIAL)
def test_every_official_key_has_a_row(section: str) -> None:
    told = {name for keys, _, _ in ROWS for name in names(keys)}
    assert set(OFFICIAL[section].split()) <= told


def test_no_row_is_about_a_key_that_there_is_not() -> None:
    known = {key for keys in OFFICIAL.values() for key in keys.split()} | set(OFFICIAL)
    assert {name for keys, _, _ in ROWS for name in names(keys)} <= known


@pytest.mark.parametrize("row", ROWS, ids=lambda row: names(row[0])[0])
def test_a_row_names_a_counterpart_or_a_reason(row: tuple[str, str, str]) -> None:
    _, here, remarks = row
    assert bool(names(here)) != (here == "—")
    assert names(here) or len(remarks.split()) > 3


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("--")])
def test_named_options_are_those_of_the_command(name: str) -> None:
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    assert name in {option for parameter in run.params for option in parameter.opts}


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("clip.")])
def test_named_settings_of_clips_can_be_set(name: str) -> None:
    card, key = load_task("ek100"), name.removeprefix("clip.")
    home = card.clip if key in type(card.clip).model_fields else card.clip.anticipation
    assert override(card, "clip", {key: getattr(home, key)}) == card


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("probe.")])
def test_named_settings_of_recipes_can_be_set(name: str) -> None:
    card, key = load_probe_card("vjepa1-paper"), name.removeprefix("probe.")
    home: Any = card if key in ProbeCard.model_fields else card.optimisation
    assert override(card, "probe", {key: getattr(home, key)}) == card


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("encoder.")])
def test_named_settings_of_encoders_can_be_stated(name: str) -> None:
    assert name.removeprefix("encoder.") in Stated.__dataclass_fields__


def test_every_counterpart_is_of_a_kind_that_is_looked_at() -> None:
    assert {name.partition(".")[0] for name in NAMED if not name.startswith("--")} == {"clip", "probe", "encoder"}
