"""Fewer labels, planned: the same run with a probe that is trained on a part of the training samples.

Its features are those of the run, so nothing is encoded, and it is tested on the whole test split. Source: the V-JEPA
paper, Table 7, which draws three parts for each share.

Shapes: b samples, N tokens, D channels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from bench.core.errors import BenchError
from bench.pipeline.controls import split_words
from bench.probing.source import HeldOut, TokenSource
from bench.probing.split import Rows, stratified_split
from bench.probing.streaming import TokenStream

if TYPE_CHECKING:
    from bench.pipeline.plan import RunPlan
    from bench.pipeline.stages import Inputs, ProbeJob

DRAWS = 3
"""Random parts of each share."""


def read_shares(given: Any) -> tuple[float, ...]:
    """The value of --labels: shares between 0 and 1 as `5%` or 0.05, or one text with commas; the largest first.

    Raises BenchError for anything else, and for 100 %, which is the run itself.
    """
    return tuple(sorted({_share(word) for word in split_words(given)}, reverse=True))


def _share(word: str) -> float:
    number, percent, rest = word.partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if rest or not 0 < share < 1:
        fix = "give shares below 100 %, such as 5%,10%,50%"
        raise BenchError(f"'{word}' is not a part of the labels", where="--labels", fix=fix)
    return share


def percent(share: float) -> str:
    """A share as the user wrote it: `5%`."""
    return f"{100 * share:g}%"


def check_labels(plan: RunPlan) -> None:
    """Raise BenchError where no probe can be trained on these shares of the labels, before anything is encoded."""
    if not plan.options.labels:
        return
    if plan.given:
        raise BenchError("--labels means nothing with --probe-weights: nothing is trained", fix="drop one of them")
    if plan.recipe.streaming:
        raise BenchError(
            f"--labels needs cached features, and recipe {plan.recipe.name} encodes its training clips anew",
            fix="give a recipe that reads the cache, such as attentive",
        )
    labels = np.array([sample.label for sample in plan.splits.train])
    most = max(plan.recipe.neighbours or [0])
    # Every draw has as many samples of each class; only where held-out clips are encoded does it matter which.
    draws = range(DRAWS if plan.held_out_clips else 1)
    for share in plan.options.labels:
        where = f"--labels {percent(share)}"
        try:
            train = min(_trained_on(plan, labels, draw_rows(labels, share, draw, plan.options.seed)) for draw in draws)
        except BenchError as error:
            fix = "give more training samples, or a larger share"
            raise BenchError(f"{len(labels)} training samples are too few for it", where=where, fix=fix) from error
        if most > train * plan.draws("train"):
            fix = "give a larger share, or smaller values with --set probe.neighbours=[...]"
            raise BenchError(f"it leaves {train} training samples for k = {most} neighbours", where=where, fix=fix)


def _trained_on(plan: RunPlan, labels: Rows, rows: Rows) -> int:
    """How many of these samples are trained on before a setting is chosen by the others."""
    selection = plan.recipe.hold_out
    if selection is None:
        return len(rows)
    if plan.held_out_clips is None:
        return len(stratified_split(labels[rows], selection.held_out, seed=plan.options.seed)[0])
    held_out = _places(stratified_split(labels, selection.held_out, seed=plan.options.seed)[1], rows)
    if not len(held_out):
        raise _none_held_out(rows)
    return len(rows) - len(held_out)


def draw_rows(labels: Rows, share: float, draw: int, seed: int) -> Rows:
    """Rows of a random part of the training samples, sorted: about share * n in proportion to the classes, and of every
    class at least one. It depends on the labels, the share, the draw and the seed alone: models share it."""
    text = f"labels {seed} {share!r} {draw}"
    stream = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    return stratified_split(labels, 1 - share, seed=stream)[0]


@dataclass(frozen=True)
class LabelPart:
    """The training of a run on a part of its training samples."""

    share: float
    draw: int
    rows: Rows
    """Of the readable training samples."""
    job: ProbeJob

    def inputs(self, whole: Inputs) -> Inputs:
        """What the probe is trained and tested on, taken from the run's own."""
        if whole.train is None or isinstance(whole.train, TokenStream):
            raise ValueError("a part of the labels is trained on cached features")
        held = whole.held_out
        return replace(
            whole,
            train=SomeTokens(whole.train, self.rows),
            held_out=_part_of_held_out(held, self.rows) if held else None,
            controls=(),
        )


def label_parts(job: ProbeJob) -> list[LabelPart]:
    """Every training on fewer labels that the options of a job's plan ask for."""
    labels, options = np.array(job.labels), job.plan.options
    parts = []
    for share in options.labels:
        for draw in range(DRAWS):
            rows = draw_rows(labels, share, draw, options.seed)
            remark = f"{percent(share)} of the labels, draw {draw + 1} of {DRAWS}"
            parts.append(LabelPart(share, draw, rows, _part_of_job(job, rows, remark)))
    return parts


def _part_of_job(job: ProbeJob, rows: Rows, remark: str) -> ProbeJob:
    held = job.held_out
    if held is not None:
        items = [held.items[place] for place in np.flatnonzero(np.isin(held.readable, rows))]
        held = replace(held, rows=_places(held.rows, rows), readable=_places(held.readable, rows), items=items)
    return replace(
        job,
        labels=[job.labels[row] for row in rows],
        train_items=[job.train_items[row] for row in rows],
        held_out=held,
        controls=(),
        remark=remark,
    )


def _part_of_held_out(held: HeldOut, rows: Rows) -> HeldOut:
    """The held-out samples among these training samples: only they have clips to choose a setting on."""
    chosen = np.flatnonzero(np.isin(held.readable, rows))
    if not len(chosen):
        raise _none_held_out(rows)
    return HeldOut(_places(held.rows, rows), _places(held.readable, rows), SomeTokens(held.tokens, chosen))


def _none_held_out(rows: Rows) -> BenchError:
    return BenchError(
        f"none of {len(rows)} training samples was held out to choose a setting on",
        where="--labels",
        fix="give a larger share, or a recipe with one setting",
    )


def _places(some: Rows, rows: Rows) -> Rows:
    """Those of `some` that are among `rows`, numbered as `rows` are. Both are sorted."""
    return np.searchsorted(rows, some[np.isin(some, rows)])


class SomeTokens:
    """Some samples of a token source. A TokenSource."""

    def __init__(self, source: TokenSource, rows: Rows) -> None:
        self._source, self._rows = source, rows
        self.num_samples, self.num_views = len(rows), source.num_views
        self.num_tokens, self.embed_dim = source.num_tokens, source.embed_dim

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, D] of these samples, numbered among the kept ones."""
        return self._source.read(self._rows[rows], view)
