"""What every metric offers, so that each score has an interval, paired differences, ranks and a gate; metrics by name.

A form of answers is one dataclass of what probes say (`classes`: one label a sample, `boxes`: actions in boxes, `maps`:
the class of every pixel, `ranked`: the best answers of several heads), with the metrics that are made from it and one
module of `bench.records.tables`, which keeps it. A new metric is one object with these methods and its name in `FORMS`.

Shapes: n samples, G groups (videos, or samples where each is its own), D draws.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from bench.core.errors import BenchError, nearest
from bench.metrics.score import Breakdown, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self


class Answers(Protocol):
    """What a probe said of the test samples that could be read, with their ids, groups and truth: a frozen dataclass.

    Two runs are compared after `of` has left both with the samples that they share, in one order.
    """

    form: ClassVar[str]
    """A name in `FORMS`."""

    @property
    def samples(self) -> tuple[str, ...]:
        """Ids of the scored samples, each once, in the order of the list."""

    @property
    def sample_digest(self) -> str:
        """SHA-256 of all ids with their truth, in this order."""

    @property
    def prediction_digest(self) -> str:
        """SHA-256 of what was said of them, in this order."""

    def of(self, samples: Sequence[str]) -> Self:
        """Only these samples, in this order; all of them must be there."""


class GroupSums(Protocol):
    """A metric of one run, ready to be made again with every group counted any number of times."""

    @property
    def groups(self) -> Sequence[str]:
        """Names of the groups that are drawn, [G]: samples of one group are not independent. They follow from the ids
        and the truth of the samples alone, so that two runs on the same samples have the same ones."""

    def at(self, multiplicity: NDArray[Any]) -> NDArray[Any]:
        """The metric [D], in the units of a score, where each group counts `multiplicity` [D, G] times, 0 or more.

        `at` of ones is the score. NaN where a draw holds nothing that can be scored.
        """


@dataclass(frozen=True)
class PartScore:
    """The score of one class."""

    value: float
    """In the units of the score."""
    n: int
    """Samples, boxes or pixels that are of it."""


B = TypeVar("B", bound=Answers)


class Metric(Protocol[B]):
    """How answers of one form become a score. An object without state."""

    @property
    def name(self) -> str:
        """What task cards and records call it."""

    @property
    def title(self) -> str:
        """What readers call it, such as `top-1 accuracy`."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""

    def score(self, answers: B, failed: int) -> Score:
        """The score with its 95 % interval, of the samples that could be read; `failed` is how many could not.

        Raises BenchError where there is nothing to be scored.
        """

    def breakdowns(self, answers: B) -> list[Breakdown]:
        """What records keep of the score by parts; most metrics keep nothing."""

    def by_class(self, answers: B) -> Mapping[int, PartScore]:
        """The score of each class that occurs, by its place among the class names of a record; empty where the
        classes of a record are others."""

    def sums(self, answers: B) -> GroupSums:
        """So that any difference has an interval and a test."""

    def chance(self, answers: B, counts: Mapping[str, NDArray[Any]]) -> B | None:
        """The answers to the same samples of somebody who knows nothing but how often each class occurs in training.

        `counts` has the training examples of each class [C] for each output of the probe (`class`, or `verb`, `noun`,
        `action`). None where the metric has no level of chance.
        """


@dataclass(frozen=True)
class Form:
    """Which metrics are made from one form of answers, and where."""

    module: str
    """Name of a module of `bench.metrics`, whose `METRICS` holds the metrics by name."""
    metrics: tuple[str, ...]
    """All of them are scores of a run, in this order; a task card names the first."""


FORMS: dict[str, Form] = {
    "classes": Form("accuracy", ("top1",)),
    "boxes": Form("box_scores", ("frame-mAP@0.5",)),
    "maps": Form("iou", ("mIoU", "pixel-accuracy")),
    "ranked": Form("recall", ("action-recall@5", "verb-recall@5", "noun-recall@5")),
}
"""Every form of answers. It is read without an array library, so that listing scores stays quick."""


def form_of(metric: str) -> str | None:
    """The form of answers that a metric is made from; None for a metric that is not known here."""
    return next((name for name, form in FORMS.items() if metric in form.metrics), None)


def metric_of(name: str) -> Metric[Any]:
    """The metric of this name. Raises BenchError where there is none."""
    form = form_of(name)
    if form is None:
        known = [metric for one in FORMS.values() for metric in one.metrics]
        raise BenchError(f"no metric '{name}'", fix=nearest(name, known))
    module = importlib.import_module(f"bench.metrics.{FORMS[form].module}")
    found: Metric[Any] = module.METRICS[name]
    return found


def title_of(name: str) -> str:
    """What readers call a metric; its name where it is not known here."""
    return metric_of(name).title if form_of(name) else name
