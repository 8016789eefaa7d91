"""One small task of every kind, with data that a nano encoder tells apart: what the options of a run are tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ava_standin import ava_standin
from kitchens import kitchen
from standins import standin

import bench
from bench.pipeline.plan import make_plan
from bench.records.schema import Record
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options

Settings = dict[str, Any]

SHORT: Settings = {"probe.lr": [1e-2, 1e-4], "probe.weight_decay": 0.01, "probe.min_steps": 1, "probe.epochs": 2}
"""Two settings, a few steps: of what comes out only the form is looked at."""


@dataclass(frozen=True)
class Subject:
    """A task of one kind, whose data are made in a folder."""

    kind: str
    task: str
    make: Callable[[Path], object]
    settings: Settings = field(default_factory=dict)
    refuses: dict[str, str] = field(default_factory=dict)
    """Option -> a word of the reason why it means nothing for such a task."""

    def options(self, folder: Path, **given: Any) -> dict[str, Any]:
        """Options of a run in `folder`, changed by `given`; `settings` are added to the usual ones."""
        settings = {**SHORT, **self.settings, **given.pop("settings", {})}
        if "probe_weights" in given:
            settings = {key: value for key, value in settings.items() if not key.startswith("probe.")}
        usual = {"task": self.task, "model": "vjepa-nano", "device": "cpu", "workers": 0, "data": folder / "data"}
        usual["seeds"] = 1
        places = {"cache": folder / "cache", "results": folder / "results"}
        return {**usual, **places, **given, "settings": settings}

    def run(self, folder: Path, **given: Any) -> Record:
        """Carry out a run."""
        return bench.evaluate(**self.options(folder, **given))

    def plan(self, folder: Path, **given: Any) -> RunPlan:
        """The plan of a run."""
        return make_plan(make_options(self.options(folder, **given)))


SUBJECTS = [
    Subject("video", "ucf101", lambda folder: standin("ucf101", folder, train=12, test=6)),
    Subject(
        "image",
        "in1k",
        lambda folder: standin("in1k", folder, train=12, test=6),
        refuses=dict.fromkeys(
            ("controls", "controls and labels", "seeds, controls and labels", "pace", "views", "segments"), "images"
        ),
    ),
    Subject(
        "masks",
        "ade20k",
        lambda folder: standin("ade20k", folder, train=12, test=6),
        {"clip.resolution": 32, "probe.scored_at": 32, "probe.norm": "none"},
        refuses={
            **dict.fromkeys(
                ("controls", "controls and labels", "seeds, controls and labels", "pace", "views", "segments"), "images"
            ),
            "augmented": "a mask is of its whole image",
            "train views": "same tokens in every view",
            "several blocks": "only attentive probes have blocks",
        },
    ),
    Subject(
        "boxes",
        "ava",
        lambda folder: ava_standin(folder, train=5, test=3),
        {"clip.resolution": 32, "clip.starts_s": 900},
        refuses={
            "augmented": "cuts boxes away",
            "train views": "around its second",
            "views": "whole frames",
            "segments": "whole frames",
        },
    ),
    Subject(
        "actions",
        "ek100",
        lambda folder: kitchen(folder, train=4, test=2),
        {"clip.frames": 4},
        refuses={"segments": "one segment"},
    ),
]
