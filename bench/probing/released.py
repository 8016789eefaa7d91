"""What is known of the official probe files, which say nothing of themselves: `released.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from bench.cards.fields import layers_name
from bench.core.errors import BenchError
from bench.probing.loaded import LoadedProbe


class ReleasedClip(BaseModel):
    """What a released probe was trained on; None where it depends on the encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    frames: int | None = None
    step: int | None = None
    segments: int | None = None
    resolution: int | None = None


class ReleasedProbe(BaseModel):
    """One entry of the table; see its head."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: Literal["vjepa1", "vjepa2"]
    task: str
    classes: int
    widths: tuple[int, ...]
    order: Literal["official", "private", "unknown"]
    layers: tuple[int, ...] = ()
    clip: ReleasedClip = ReleasedClip()


@cache
def released_probes() -> dict[str, ReleasedProbe]:
    """The table, by file name."""
    content = yaml.safe_load((Path(__file__).resolve().parent / "released.yaml").read_text(encoding="utf-8"))
    return {file: ReleasedProbe.model_validate(facts) for file, facts in content.items()}


def find_released(path: Path, probe: LoadedProbe) -> ReleasedProbe | None:
    """The entry of a file by its name, where layout, classes and width are those of the entry too."""
    facts = released_probes().get(path.name)
    if facts is None or probe.layout != {"vjepa1": "V-JEPA 1", "vjepa2": "V-JEPA 2"}[facts.release]:
        return None
    return facts if probe.num_classes == facts.classes and probe.embed_dim in facts.widths else None


def refuse_other_layers(facts: ReleasedProbe, layers: tuple[int, ...], path: Path) -> None:
    """Raise BenchError where a run reads other `layers` than the probe was trained on: its score would mean nothing."""
    if facts.layers != layers:
        theirs, ours = (layers_name(some) or "the last layer alone" for some in (facts.layers, layers))
        raise BenchError(
            f"this probe reads {theirs} of the encoder, and the run gives it {ours}",
            where=str(path),
            fix=f"say --set clip.layers={','.join(map(str, facts.layers)) or 'null'}",
        )


def clip_differences(facts: ReleasedProbe, clip: Mapping[str, int | str]) -> list[str]:
    """How `clip` (frames, step, segments, resolution) differs from what the probe was trained on, in words."""
    trained = facts.clip.model_dump(exclude_none=True) if clip else {}
    return [f"{name} {clip[name]} instead of {value}" for name, value in trained.items() if clip[name] != value]
