"""What passes from stage to stage of a run: features in the cache, jobs for processes, what probes made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.encoders import Encoder
from bench.pipeline.features import SplitFeatures, StreamedSplit
from bench.probing.objectives import Objective
from bench.probing.scoring import FittedProbe
from bench.probing.source import HeldOut, Rows, SingleClips, TokenSource
from bench.probing.streaming import TokenStream
from bench.tasks.kind import RunPlan


@dataclass(frozen=True)
class HeldOutItems:
    """Where the features of held-out examples are, if a setting is chosen on other clips than are trained on."""

    rows: Rows
    """As in HeldOut."""
    readable: Rows
    items: list[list[str]]
    """Items of each readable example in the feature space."""
    space: str


@dataclass(frozen=True)
class ProbeJob:
    """What remains to be done for a plan whose features are cached. Small enough to be sent to another process."""

    plan: RunPlan
    objective: Objective | None
    """Objective of the readable training examples; None for a released probe."""
    train_items: list[list[str]]
    """Items of each readable training example in the feature space."""
    test_items: list[list[str]]
    test_targets: NDArray[np.int64] | None
    """Targets of the readable test examples, for whoever needs them before scoring (TaskKind.test_targets)."""
    train_space: str
    """Key of the feature space of the training split."""
    test_space: str
    held_out: HeldOutItems | None = None
    controls: tuple[ProbeJob, ...] = ()
    """The same with clips of other frame orders."""
    remark: str = ""
    """Distinguishes it from the run's own job in messages."""

    @property
    def trained(self) -> Objective:
        """The objective of a job that trains a probe."""
        if self.objective is None:
            raise ValueError("nothing is trained")
        return self.objective


@dataclass(frozen=True)
class Inputs:
    """The tokens that a probe is trained, selected and tested on."""

    train: TokenSource | TokenStream | None
    """None for a released probe."""
    held_out: HeldOut | None
    test: TokenSource | None
    """None where there is no test example."""
    controls: tuple[Inputs, ...] = ()
    """Inputs of the controls, in the order of the job's."""

    @staticmethod
    def of(
        plan: RunPlan,
        train: TokenSource | TokenStream | None,
        held_out: HeldOut | None,
        test: TokenSource | None,
        controls: Iterable[Inputs] = (),
    ) -> Inputs:
        """The tokens of a plan's splits as its probe reads them: all segments of a view jointly, or one by one."""
        if plan.clips_apart > 1:
            test = SingleClips(test, plan.clips_apart) if test else None
            held_out = replace(held_out, tokens=SingleClips(held_out.tokens, plan.clips_apart)) if held_out else None
        return Inputs(train, held_out, test, tuple(controls))


@dataclass(frozen=True)
class HeldOutFeatures:
    """Training examples that were held out, by their numbers, and the features of those that could be read."""

    rows: Rows
    readable: Rows
    features: SplitFeatures


@dataclass(frozen=True)
class Prepared:
    """A plan whose features are in the cache."""

    plan: RunPlan
    encoder: Encoder
    train: SplitFeatures | StreamedSplit | None
    """None for a released probe."""
    held_out: HeldOutFeatures | None
    """None where a setting is chosen on what is trained on, or none is chosen."""
    test: SplitFeatures
    seconds: float
    controls: tuple[Prepared, ...] = ()
    """The plan with clips of other frame orders."""

    @property
    def inputs(self) -> Inputs:
        """What the probe is trained and tested on."""
        held = self.held_out
        return Inputs.of(
            self.plan,
            self.train.tokens if self.train else None,
            HeldOut(held.rows, held.readable, held.features.tokens) if held and held.features.tokens else None,
            self.test.tokens,
            (part.inputs for part in self.controls),
        )

    @property
    def objective(self) -> Objective | None:
        """Objective of the readable training examples; None where nothing is trained."""
        return self.plan.kind.objective(self.plan, self.train.samples) if self.train else None

    @property
    def job(self) -> ProbeJob:
        """What remains to be done."""
        held, plan = self.held_out, self.plan
        return ProbeJob(
            plan=plan,
            objective=self.objective,
            train_items=self.train.keys if self.train else [],
            test_items=self.test.keys,
            test_targets=plan.kind.test_targets(plan, self.test.samples),
            train_space=self.train.space if self.train else "",
            test_space=self.test.space,
            held_out=HeldOutItems(held.rows, held.readable, held.features.keys, held.features.space) if held else None,
            controls=tuple(part.job for part in self.controls),
            remark=self.order_remark,
        )

    @property
    def order_remark(self) -> str:
        """The order of the clips' frames, for messages; empty where it is the usual one."""
        order = self.plan.test_clips.frame_order
        return "" if order == "ordered" else order


@dataclass(frozen=True)
class MeasuredProbe:
    """One probe, trained from a seed of its own, and what it says of the test examples."""

    fitted: FittedProbe
    known: bool
    """Whether the probe was trained before and read from the cache."""
    outputs: NDArray[Any]
    """[n, C], of the test examples in order, or what else the objective says of them."""


@dataclass(frozen=True)
class Measured:
    """What probes made of the features of a plan."""

    probes: tuple[MeasuredProbe, ...]
    """One for each seed of the plan, in their order."""
    seconds: float
    controls: tuple[MeasuredControl, ...] = ()
    """In the order of the job's."""
    fewer_labels: tuple[MeasuredPart, ...] = ()

    @property
    def fitted(self) -> FittedProbe:
        """The probe of the run's own seed."""
        return self.probes[0].fitted

    @property
    def known(self) -> bool:
        """Whether all probes were trained before and read from the cache."""
        return all(probe.known for probe in self.probes)

    @property
    def outputs(self) -> tuple[NDArray[Any], ...]:
        """What the probe of each seed says."""
        return tuple(probe.outputs for probe in self.probes)

    @property
    def trained_s(self) -> float:
        """Seconds in which probes were trained now."""
        return sum(probe.fitted.seconds for probe in self.probes if not probe.known)


@dataclass(frozen=True)
class MeasuredControl:
    """What the probes made of clips whose frames are in another order."""

    trained_alike: Measured | None
    """The probes that were trained on such clips; None for a released probe."""
    by_ordered: tuple[NDArray[Any], ...]
    """[n, C], of the run's own probes, for the test examples in order."""


@dataclass(frozen=True)
class MeasuredPart:
    """What a probe that was trained on a part of the training examples made of the test split."""

    share: float
    draw: int
    rows: Rows
    """The examples, among the readable training examples."""
    measured: Measured
