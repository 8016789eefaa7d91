"""One training of a sweep on clips that are encoded as they are needed: what `loop.train_sweep` does without a cache.

A batch comes in chunks, so that the tokens of a large one need not be in memory at once. Its gradient is the mean over
those of its samples that could be read; how they were chunked changes nothing but the order of the sum.

Shapes: S settings, P numbers in one probe, b samples of a chunk, N tokens, D channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.cards.load import Optimisation, ProbeCard, Setting
from bench.core.threads import small_steps
from bench.probing.checkpoints import Checkpoint
from bench.probing.loop import Plan, Sweep, SweepOptimiser, TrainResult, batches, make_plan
from bench.probing.source import Rows

CHUNK_VALUES = 1 << 26
"""Token values (samples x tokens x channels) of a chunk: 256 MiB. Not by the machine, as sums are split by it."""

Progress = Callable[[int, int, str], None]
"""Called with the samples seen, all there are to see, and how it goes."""


@dataclass(frozen=True)
class Chunk:
    """A part of a batch."""

    rows: Rows
    """Its samples that could be read, in order."""
    tokens: Tensor
    """The tokens of `rows`, [b, N, D] float32 on the device of the training."""
    num_asked: int
    """Its samples, readable or not."""
    ends_batch: bool


@dataclass
class StreamCounts:
    """What a stream has done, over all trainings of a probe."""

    failures: dict[int, str] = field(default_factory=dict)
    """Training sample -> why it could not be read."""
    clips: int = 0
    """Clips encoded."""
    seconds: float = 0.0
    """Spent in training in all."""
    waiting_s: float = 0.0
    """Part of it in which nothing was done but to wait for decoded clips."""

    @property
    def clips_per_s(self) -> float:
        """Clips encoded in a second."""
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Part of the time spent waiting, 0 to 1."""
        return self.waiting_s / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return f"{self.clips_per_s:.1f} clips/s, {self.waiting_share:.1%} of the time waiting for clips"

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "failures": list(self.failures.items())}

    @staticmethod
    def of(plain: Mapping[str, Any]) -> StreamCounts:
        """The counts that gave `plain`."""
        return StreamCounts(**{**plain, "failures": {int(row): str(reason) for row, reason in plain["failures"]}})


@runtime_checkable
class TokenStream(Protocol):
    """Training samples that are encoded when they are asked for."""

    num_samples: int
    num_tokens: int
    embed_dim: int
    counts: StreamCounts
    """Kept by the stream, except the seconds; a training that goes on puts them back."""

    def chunks(self, wanted: Iterable[tuple[int, Rows]]) -> Generator[Chunk, None, None]:
        """The chunks of each batch, in order; `wanted` names the epoch and the samples of every batch.

        An epoch shows a sample as no other does. Where a batch is divided depends on its samples alone.
        """
        ...

    def take(self, rows: Rows) -> TokenStream:
        """A stream of these samples, which counts for itself."""
        ...


def samples_at_once(num_tokens: int, embed_dim: int) -> int:
    """Samples of a chunk."""
    return max(1, CHUNK_VALUES // (num_tokens * embed_dim))


def num_streamed(card: ProbeCard, num_train: int, *, num_passes: int = 1) -> int:
    """Samples that the trainings of a streaming recipe encode, a sweep in `num_passes` groups of settings."""
    if card.optimisation is None:
        raise ValueError("nothing is trained")

    def trained_on(count: int) -> int:
        return count * make_plan(card.optimisation, count).epochs if card.optimisation else 0

    if card.selection is None:
        return trained_on(num_train)
    if card.hold_out is None:
        return num_passes * trained_on(num_train)
    swept = num_passes * trained_on(num_train - round(card.hold_out.held_out * num_train))
    return swept + (trained_on(num_train) if card.hold_out.refit else 0)


def train_stream(
    sweep: Sweep,
    stream: TokenStream,
    rows: Rows,
    labels: npt.NDArray[np.int64],
    recipe: Optimisation,
    settings: Sequence[Setting],
    *,
    seed: int,
    checkpoint: Checkpoint | None,
    progress: Progress,
) -> TrainResult:
    """Train every setting of `sweep` in place on these samples of the stream.

    It goes on from the checkpoint, if there is a state in it, and keeps its own there at the end of every epoch and
    now and then between.
    """
    training = _Training(sweep, stream, rows, labels, recipe, settings, checkpoint)
    training.resume()
    steps = islice(batches(rows, training.plan, 1, seed=seed), training.optimiser.num_steps, None)
    total = training.plan.epochs * len(rows)
    seen = training.samples_seen()
    if seen == total:  # nothing is left to do, so no decoding process need start
        return training.result()
    with closing(stream.chunks((epoch, chosen) for epoch, chosen, _ in steps)) as chunks:
        for chunk in chunks:
            training.add(chunk)
            seen += chunk.num_asked
            if chunk.ends_batch:
                training.step()
            progress(seen, total, str(stream.counts))
    return training.result()


class _Training:
    """A sweep on its way through a stream."""

    def __init__(
        self,
        sweep: Sweep,
        stream: TokenStream,
        rows: Rows,
        labels: npt.NDArray[np.int64],
        recipe: Optimisation,
        settings: Sequence[Setting],
        checkpoint: Checkpoint | None,
    ) -> None:
        self.plan: Plan = make_plan(recipe, len(rows))
        self.optimiser = SweepOptimiser(
            sweep.stack, recipe, settings, epochs=self.plan.epochs, steps_per_epoch=self.plan.steps_per_epoch
        )
        self._sweep, self._stream, self._checkpoint = sweep, stream, checkpoint
        self._num_samples = len(rows)
        device = sweep.stack.values.device
        self._targets = torch.from_numpy(labels).to(device)
        self._batch = _BatchMean(sweep)
        self._loss = torch.zeros(len(settings), device=device)
        """Sum of the losses of the last epoch, for each setting."""
        self._num_losses = 0
        self._finite = torch.ones(len(settings), dtype=torch.bool, device=device)
        self._clock = self._saved = time.monotonic()

    def add(self, chunk: Chunk) -> None:
        """Take the gradients of a chunk into those of its batch."""
        if len(chunk.rows):
            with small_steps(chunk.tokens.device, chunk.tokens.numel() + self._sweep.stack.values.numel()):
                self._batch.add(chunk.tokens, self._targets[torch.from_numpy(chunk.rows).to(self._targets.device)])
        now = time.monotonic()
        self._stream.counts.seconds += now - self._clock
        self._clock = now

    def step(self) -> None:
        """Update the probes by the batch, and keep the state where it is time."""
        losses, count = self._batch.end()
        if count:
            with small_steps(losses.device, self._sweep.stack.values.numel()):
                self.optimiser.step()
            self._finite &= losses.isfinite()
            if self.optimiser.num_steps > self.plan.steps - self.plan.steps_per_epoch:
                self._loss += losses * count
                self._num_losses += count
        else:
            self.optimiser.pass_over()
        if self._checkpoint and (
            self.optimiser.num_steps % self.plan.steps_per_epoch == 0
            or time.monotonic() - self._saved >= self._checkpoint.interval_s
        ):
            self._save(self._checkpoint)

    def samples_seen(self) -> int:
        """Samples of the steps made so far."""
        epochs, steps = divmod(self.optimiser.num_steps, self.plan.steps_per_epoch)
        return epochs * self._num_samples + steps * self.plan.batch_size

    def result(self) -> TrainResult:
        """What is said of each setting."""
        finite = self._finite & self._sweep.stack.values.isfinite().all(dim=1)
        return TrainResult(loss=(self._loss / max(1, self._num_losses)).tolist(), diverged=(~finite).tolist())

    def resume(self) -> None:
        """Go on from the last state that was kept."""
        state = self._checkpoint.load() if self._checkpoint else None
        if state is None:
            return
        tensors, facts = state
        with torch.no_grad():
            self._sweep.stack.values.copy_(tensors["values"])
        self.optimiser.load_state(tensors, num_steps=facts["steps"])
        self._loss.copy_(tensors["loss"])
        self._finite.copy_(tensors["finite"])
        self._num_losses = facts["losses"]
        self._stream.counts = StreamCounts.of(facts["counts"])

    def _save(self, checkpoint: Checkpoint) -> None:
        tensors = {"values": self._sweep.stack.values, "loss": self._loss, "finite": self._finite}
        counts = self._stream.counts.plain()
        facts = {"steps": self.optimiser.num_steps, "losses": self._num_losses, "counts": counts}
        checkpoint.save({**tensors, **self.optimiser.state()}, facts)
        self._saved = time.monotonic()


class _BatchMean:
    """The mean loss and gradients over a batch that comes in chunks.

    The gradients of a batch that comes whole are left as the sweep made them. Sums of several chunks take as much
    memory as the weights.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._sum: Tensor | None = None
        """Sum of the gradients of all chunks' samples but the last chunk's, [S, P]."""
        self._losses = sweep.stack.values.detach().new_zeros(len(sweep.stack.values))
        self._count, self._last = 0, 0
        """Samples so far, and those of the last chunk."""

    def add(self, tokens: Tensor, targets: Tensor) -> None:
        """Take in a chunk: tokens [b, N, D], targets [b]."""
        if self._count:  # the sweep writes over the gradients of the chunk before
            self._keep()
        losses = self._sweep.backward(tokens, targets)
        self._last = len(targets)
        self._count += self._last
        self._losses += losses * self._last

    def _keep(self) -> Tensor:
        """Add what the sweep made of the last chunk to the sum."""
        gradients = self._sweep.stack.gradients
        if self._sum is None or self._count == self._last:
            self._sum = torch.mul(gradients, self._last, out=self._sum)
        else:
            self._sum.add_(gradients, alpha=self._last)
        return self._sum

    def end(self) -> tuple[Tensor, int]:
        """The mean loss [S] of the samples, and their number; the stack then holds the mean gradients."""
        count, losses = self._count, self._losses / max(1, self._count)
        if count > self._last:
            torch.div(self._keep(), count, out=self._sweep.stack.gradients)
        self._count, self._last = 0, 0
        self._losses.zero_()
        return losses, count
