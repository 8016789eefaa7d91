"""What was measured on a machine, each constant with its spread, and the file that carries it to another machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.cards.load import load_recipe
from bench.core.errors import BenchError
from bench.core.inputs import ESTIMATE, read_json
from bench.pipeline.estimate.counts import PartName
from bench.tasks.kind import RunPlan

NotNegative = Field(ge=0, allow_inf_nan=False)
Bound = Literal["value", "low", "high"]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constant(_Facts):
    """A mean, and the interval that two standard errors give it."""

    value: float = NotNegative
    low: float = NotNegative
    high: float = NotNegative
    count: int = 1
    """How many of what it is the mean of were measured."""


class StepTime(_Facts):
    """Seconds of an optimiser step of so many settings on so many samples."""

    settings: int
    batch_size: int
    seconds: Constant


class Constants(_Facts):
    """Seconds on one machine: one GPU with its share of the cores, or a CPU."""

    device: str
    """In words."""
    cores: int = Field(ge=1)
    workers: int = Field(ge=0)
    memory_bytes: int
    encoding_cores: float
    """Cores that encoding keeps busy."""
    load: Constant
    """Seconds to load the encoder."""
    hash: Constant
    """Seconds to hash a video file."""
    decode: dict[PartName, Constant]
    """Seconds of one core to decode a video."""
    encode: Constant
    """Seconds to encode a clip."""
    write: Constant
    """Seconds to write a byte of features."""
    read_cold: Constant
    """Seconds to read a byte of features that is not in memory, beyond what a step takes where it is."""
    steps: tuple[StepTime, ...]
    steps_by_setting: bool
    """Whether settings are trained one after another, so that a step takes as much longer as there are more."""
    start: Constant
    """Seconds that a training takes besides its steps."""
    score: Constant
    """Seconds to score all settings of a sweep on a sample in one view."""
    predict: Constant
    """Seconds in which one probe predicts a sample in one view."""
    pool: Constant
    """Seconds for a sample in one view that is read once before a training; 0 where none is."""
    seconds: float
    """Seconds that the measurement took."""


class Measurement(_Facts):
    """Constants, and what they were measured for."""

    subject: dict[str, str]
    constants: Constants


def constant(seconds: Sequence[float], *, per: float = 1.0, count: int | None = None) -> Constant:
    """The mean of some measurements, each of `per` units, with two standard errors either side."""
    values = [second / per for second in seconds]
    mean = statistics.fmean(values)
    error = 2 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    low, high = max(0.0, mean - error), mean + error
    return Constant(value=mean, low=low, high=high, count=round(len(values) * per) if count is None else count)


NOTHING = Constant(value=0, low=0, high=0, count=0)


def subject_facts(plan: RunPlan) -> dict[str, str]:
    """What constants depend on besides the machine and the number of samples."""
    clips = plan.test_clips
    return {
        "task": plan.task.name,
        "model": plan.facts.name,
        "input": plan.input_name,
        "clips": f"{clips.num_segments}x{clips.num_views}{'' if plan.task.clip.attend_across_segments else ' apart'}",
        "recipe": ", ".join([plan.recipe.name, f"{plan.recipe.num_settings} settings", *_other_form(plan)]),
        "training clips": f"{plan.draws('train')}, augmentation {plan.recipe.augmentation}",
    }


def _other_form(plan: RunPlan) -> list[str]:
    """Blocks and heads of the probe, where they are not as its card says."""
    card = load_recipe(plan.kind.recipe_name(plan.options), plan.task)
    names = ("num_blocks", "num_heads")
    return [
        f"{name} {getattr(plan.recipe, name)}" for name in names if getattr(plan.recipe, name) != getattr(card, name)
    ]


def read_measurement(path: Path, plan: RunPlan) -> Constants:
    """The constants that `bench estimate --json` printed elsewhere. Raises BenchError for those of another plan."""
    where = f"--measured {path}"
    try:
        content: Any = read_json(path, ESTIMATE)
        measurement = Measurement.model_validate(content["measurement"])
    except (OSError, ValidationError, KeyError, TypeError) as error:
        fix = "give what `bench estimate --json` printed on the other machine"
        raise BenchError("not an estimate", where=where, fix=fix) from error
    for name, ours in subject_facts(plan).items():
        theirs = measurement.subject.get(name)
        if theirs != ours:
            fix = "give the same options here as there, --precision too"
            raise BenchError(f"measured for {name} {theirs}, not {ours}", where=where, fix=fix)
    return measurement.constants
