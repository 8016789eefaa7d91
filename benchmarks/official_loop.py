"""The official frozen evaluation, written plainly from its description: what the suite is measured against.

Every epoch decodes, augments (where the plan does) and encodes every training clip, steps twenty probe modules one
after the other, and then decodes, encodes and scores the whole test split, view by view, with each of them: the
official code looks at it in every epoch (protocol.md 4.3, 5.1, 6). The probe is that of V-JEPA 1 (4.1), keys and values
of the tokens and all; its settings, optimiser and batches are the recipe's. Pixels come from the suite's own decoder
and augmentation, which are faster than the official ones, out of as many worker processes: what differs is the loop.

Shapes: b samples of a batch, V views, K segments, N tokens of a clip, D channels, S settings, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cards.load import Optimisation, Setting
from bench.core import machine as environment
from bench.core.threads import small_steps
from bench.data.sample import Sample
from bench.encoders import Encoder
from bench.features.extract import clips_at_once
from bench.pipeline.run import prepare_encoder
from bench.probing.attentive import AttentiveSweep, initial_weights
from bench.probing.loop import Plan, SweepOptimiser, batches, learning_rate, make_plan, setting_losses, weight_decay
from bench.probing.source import Rows
from bench.tasks.kind import RunPlan
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.loader import load_clips
from bench.video.train_views import TrainViews
from bench.video.views import normalise
from tests.probing.reference import ReferenceProbe


@dataclass
class Clock:
    """Seconds of the parts of a run; of a part within a part, the inner one's are its own alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    _inner: list[float] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to the part `name`."""
        self._inner.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + taken - self._inner.pop()
            if self._inner:
                self._inner[-1] += taken


class Heads(Protocol):
    """The probes of a sweep."""

    num_weights: int
    """Weights that are stepped together."""

    def step(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """One optimiser step of every probe on tokens [b, N, D], labels [b]; their losses [S]."""
        ...

    def probabilities(self, tokens: Tensor) -> Tensor:
        """Softmax [S, b, C] of every probe."""
        ...


class ModuleHeads:
    """A module and an AdamW for each setting, one after the other."""

    def __init__(self, initial: dict[str, Tensor], num_heads: int, recipe: Optimisation, schedule: Plan) -> None:
        self._recipe, self._schedule, self._num_steps = recipe, schedule, 0
        self.num_weights = sum(weight.numel() for weight in initial.values())
        dim, classes = initial["linear.weight"].shape[1], len(initial["linear.bias"])
        self._probes = [ReferenceProbe(dim, classes, num_heads) for _ in recipe.settings]
        for probe in self._probes:
            probe.load_state_dict(initial)
        self._optimisers = [torch.optim.AdamW(_groups(probe)) for probe in self._probes]

    def step(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Each probe for itself: schedules, forward, backward, clipping, AdamW."""
        self._num_steps += 1
        losses = []
        for probe, optimiser, setting in zip(self._probes, self._optimisers, self._recipe.settings, strict=True):
            self._set_schedules(optimiser, setting)
            loss = F.cross_entropy(probe(tokens), labels)
            loss.backward()
            if self._recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(probe.parameters(), self._recipe.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.detach())
        return torch.stack(losses)

    @torch.no_grad()
    def probabilities(self, tokens: Tensor) -> Tensor:
        """Each probe for itself."""
        return torch.stack([probe(tokens).softmax(dim=-1) for probe in self._probes])

    def _set_schedules(self, optimiser: torch.optim.Optimizer, setting: Setting) -> None:
        plan = self._schedule
        decayed, rest = optimiser.param_groups
        for group in (decayed, rest):
            group["lr"] = learning_rate(
                setting, self._num_steps, total_steps=plan.steps, steps_per_epoch=plan.steps_per_epoch
            )
        decayed["weight_decay"] = weight_decay(setting, self._num_steps, total_steps=plan.steps)


class FusedHeads:
    """The suite's own sweep in the place of the modules: what is left is the price of encoding in every epoch."""

    def __init__(self, initial: dict[str, Tensor], num_heads: int, recipe: Optimisation, schedule: Plan) -> None:
        self._sweep = AttentiveSweep(initial, len(recipe.settings), num_heads)
        self.num_weights = self._sweep.stack.values.numel()
        steps = {"epochs": schedule.epochs, "steps_per_epoch": schedule.steps_per_epoch}
        self._optimiser = SweepOptimiser(self._sweep.stack, recipe, recipe.settings, **steps)

    def step(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """All at once."""
        losses = setting_losses(self._sweep.logits(tokens), labels)
        self._sweep.stack.backward(losses)
        self._optimiser.step()
        return losses.detach()

    @torch.no_grad()
    def probabilities(self, tokens: Tensor) -> Tensor:
        """All at once."""
        return self._sweep.logits(tokens).softmax(dim=-1)


def _groups(probe: ReferenceProbe) -> list[dict[str, object]]:
    """V-JEPA 1's two groups: biases and norms do not decay (protocol.md 5.1)."""
    named = list(probe.named_parameters())
    decayed = [weight for name, weight in named if weight.ndim != 1 and "bias" not in name]
    rest = [weight for name, weight in named if weight.ndim == 1 or "bias" in name]
    return [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]


@dataclass(frozen=True)
class LoopResult:
    """What the loop printed."""

    losses: list[list[float]]
    """Of every step, of every setting."""
    accuracies: list[list[float]]
    """Of every epoch, of every setting: right test samples, percent."""

    @property
    def official(self) -> float:
        """The number that is reported: the best setting on the test split after the last epoch, percent."""
        return max(self.accuracies[-1])


def official_loop(plan: RunPlan, clock: Clock, make_heads: type[ModuleHeads] | type[FusedHeads]) -> LoopResult:
    """Train the settings of the plan's recipe, one block each, on all of its training samples, and score every epoch.

    The order of samples is that of the suite for the plan's seed.
    """
    recipe = plan.recipe.optimisation
    if recipe is None or plan.recipe.num_blocks != 1:
        raise ValueError("the loop trains one-block attentive probes")
    train, test = plan.splits.train, plan.splits.test
    schedule = make_plan(recipe, len(train))
    encoder = prepare_encoder(plan)
    initial = initial_weights(encoder.embed_dim, len(plan.splits.class_names), seed=plan.options.seed)
    heads = make_heads(initial, encoder.num_heads, recipe, schedule)
    order = list(batches(np.arange(len(train)), schedule, 1, seed=plan.options.seed))
    seen = [[(epoch, row) for row in rows.tolist()] for epoch, rows, _ in order]
    shown = [
        [(0, row) for row in range(start, min(start + schedule.batch_size, len(test)))]
        for _ in range(schedule.epochs)
        for start in range(0, len(test), schedule.batch_size)
    ]
    losses, accuracies = [], []
    labels = torch.tensor([sample.label for sample in train])
    answers = torch.tensor([sample.label for sample in test])
    with (
        closing(_views(train, seen, plan, plan.train_clips, encoder, clock)) as train_views,
        closing(_views(test, shown, plan, plan.test_clips, encoder, clock)) as test_views,
    ):
        for _ in range(schedule.epochs):
            for _ in range(schedule.steps_per_epoch):
                rows, (tokens,) = next(train_views)
                with clock.part("probes: training"), _threads(heads, tokens):
                    losses.append(heads.step(tokens, labels[rows]).tolist())
            accuracies.append(_test(heads, test_views, answers, clock))
    return LoopResult(losses, accuracies)


def _test(heads: Heads, shown: Iterator[tuple[Rows, Sequence[Tensor]]], answers: Tensor, clock: Clock) -> list[float]:
    """Percent of right samples of every setting: the softmax of each view, averaged (protocol.md 4.3)."""
    right, num_seen = torch.zeros(()), 0
    while num_seen < len(answers):
        rows, views = next(shown)
        with clock.part("probes: testing"), _threads(heads, views[0]):
            mean = torch.stack([heads.probabilities(tokens) for tokens in views]).mean(dim=0)
            right = right + (mean.argmax(dim=-1) == answers[rows]).sum(dim=1)
        num_seen += len(rows)
    return (100 * right / len(answers)).tolist()


def _threads(heads: Heads, tokens: Tensor) -> AbstractContextManager[None]:
    """As many as the suite trains probes of this size with: one, where two are slower."""
    return small_steps(tokens.device, tokens.numel() + heads.num_weights)


def _views(
    samples: Sequence[Sample],
    wanted: Sequence[Sequence[tuple[int, int]]],
    plan: RunPlan,
    clips: ClipPlan | TrainViews,
    encoder: Encoder,
    clock: Clock,
) -> Generator[tuple[Rows, Sequence[Tensor]], None, None]:
    """Rows of every batch of (epoch, row), and the tokens [b, K * N, D] of each of their views.

    Workers decode ahead, also while the other split is at work.
    """
    items = [VideoItem(samples[row].id, samples[row].path, draw=epoch) for batch in wanted for epoch, row in batch]
    workers = plan.options.workers
    count = environment.default_workers() if workers is None else workers
    pixels = load_clips(items, clips, num_workers=count, timeout_s=plan.options.timeout_s)
    start = 0
    with closing(pixels):
        for batch in wanted:
            with clock.part("waiting for clips"):
                loaded = [next(pixels) for _ in batch]
            unread = [clip.error for clip in loaded if clip.pixels is None]
            if unread:
                raise ValueError(unread[0])
            with clock.part("encoding"):
                stacked = torch.stack([clip.pixels for clip in loaded if clip.pixels is not None])
                views = _encode(encoder, stacked, items[start : start + len(batch)], clips)
            start += len(batch)
            yield np.array([row for _, row in batch]), views


@torch.no_grad()
def _encode(
    encoder: Encoder, pixels: Tensor, items: Sequence[VideoItem], clips: ClipPlan | TrainViews
) -> Sequence[Tensor]:
    """Pixels [b, V, K, T, S, S, 3] -> for each view, tokens [b, K * N, D]: the whole batch in one call, as officially,
    or as much of it as a call is good for."""
    spec = encoder.input_spec
    if isinstance(clips, TrainViews):
        flat = pixels.flatten(0, 2)
        normalised = torch.cat(list(clips.finish(flat, items, spec.mean, spec.std, len(flat), encoder.device)))
    else:
        normalised = normalise(pixels, spec.mean, spec.std).flatten(0, 2)
    num_tokens = encoder.facts.num_tokens(clips.frames_per_clip, clips.size, clips.size)
    tokens = torch.cat([encoder(part) for part in normalised.split(clips_at_once(encoder, num_tokens))])
    b, (V, K) = len(pixels), clips.shape[:2]
    return tokens.view(b, V, K * tokens.shape[1], tokens.shape[2]).unbind(1)
