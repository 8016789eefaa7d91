"""The pretraining loop: clips in, an averaged encoder out, readable as a story.

Everything random depends on the seed and on a count (steps, micro-batches, draws), never on a running stream: a run
that is stopped and resumed ends with the same weights, and the number of processes changes nothing but rounding.

Shapes: B clips, T frames, S pixels.
"""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from bench.core.distributed import World, connected
from bench.core.errors import BenchError
from bench.core.files import atomic_write, check_output, refuse_special
from bench.core.progress import Reporter, Silent
from bench.core.threads import small_steps
from bench.pretrain.checkpoint import Progress, load_training, save_state
from bench.pretrain.logs import Health, TrainLog, collapse_reason, feature_health
from bench.pretrain.plan import LATEST, PRESET, PretrainPlan, make_options, make_plan
from bench.pretrain.presets import load_preset
from bench.pretrain.state import compile_blocks, new_state, recompute_activations
from bench.pretrain.step import Run, draws, encode, make_optimiser, run_facts, step_numbers, take_step
from bench.records.curve import ScoreCurve

Scorer = Callable[[PretrainPlan, ScoreCurve, int, int, Reporter], None]
"""Measures latest.pth.tar of a plan and adds the points to its curve: (plan, curve, step, epoch, reporter)."""

_WATCH_BYTES = 64 << 20
_LINES = 20


@dataclass(frozen=True)
class Summary:
    """Results of a pretraining run."""

    checkpoint: Path
    steps: int
    samples: int
    """Clips seen."""
    loss: float | None
    """Mean over the last epoch."""
    health: Health
    failures: int
    """Videos that were passed over."""
    seconds: float

    def facts(self) -> dict[str, Any]:
        """The summary as plain values."""
        values = {name: value for name, value in vars(self).items() if name != "health"}
        values = {**values, "checkpoint": str(self.checkpoint), **vars(self.health)}
        # JSON knows no NaN, which health uses for what a single clip cannot tell.
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

    def lines(self) -> dict[str, str]:
        """The summary for a reader."""
        health = self.health
        return {
            "checkpoint": str(self.checkpoint),
            "steps": f"{self.steps:,}, {self.samples:,} clips seen",
            "loss": f"{self.loss or math.nan:.4g}, mean of the last epoch",
            "features": f"standard deviation {health.std:.3f}, effective rank {health.rank_tokens:.1f} of "
            f"{health.embed_dim} (clip means {health.rank_pooled:.1f})",
            "passed over": f"{self.failures} videos",
            "time": f"{self.seconds:.0f} s",
        }


def pretrain(*, reporter: Reporter | None = None, score: Scorer | None = None, **options: Any) -> Summary:
    """Train an encoder; `options` are the fields of `bench.pretrain.plan.PretrainOptions`, `score` as in `train`.

    Raises BenchError for whatever the user can mend, for a loss that is no number, and for collapsed features.
    """
    return train(make_plan(make_options(options)), reporter or Silent(), score)


def train(plan: PretrainPlan, reporter: Reporter, score: Scorer | None = None) -> Summary:
    """Carry out a plan, from the start or from the last finished epoch.

    `score` measures the checkpoints of a plan with `probe_every` (see `bench.cli.pretrain.score_checkpoint`). Raises
    BenchError where such a plan has none.
    """
    if plan.options.probe_every is not None and score is None:
        raise BenchError("nothing here scores checkpoints", where="--probe-every", fix="start it with `bench pretrain`")
    started = time.perf_counter()
    with (
        alone_in(plan),
        connected(plan.world, plan.device) as world,
        small_steps(torch.device(plan.device), step_numbers(plan)),
    ):
        run = begin(plan, world)
        # A run that is resumed before its first checkpoint starts over, and so does its log.
        resume_step = (run.step or -1) if plan.options.resume else None
        log = TrainLog(plan.out, resume_step=resume_step) if world.first else None
        curve = score_curve(plan, resume_step) if world.first else None
        watched = watch_clips(plan)
        first_epoch = run.step // plan.preset.optimisation.steps_per_epoch
        if curve and first_epoch and all(point.step != run.step for point in curve.points):
            score_if_due(run, score, curve, first_epoch, reporter)
        for epoch in range(first_epoch, plan.preset.optimisation.epochs):
            run.loss, row = train_epoch(run, epoch, reporter)
            health = feature_health(encode(run, watched))
            report_failures(run, reporter)
            if log and curve:
                log.append({**row, **vars(health), "failures": len(run.failed)})
                keep(run, epoch)
                if worth_telling(plan, epoch + 1) or collapse_reason(health):
                    reporter.say(epoch_line(plan, epoch, row, health))
                score_if_due(run, score, curve, epoch + 1, reporter)
        health = feature_health(encode(run, watched))
    refuse_collapse(plan, health)
    samples = run.step * plan.preset.optimisation.global_batch
    seconds = time.perf_counter() - started
    return Summary(plan.out / LATEST, run.step, samples, run.loss, health, len(run.failed), seconds)


@contextmanager
def alone_in(plan: PretrainPlan) -> Iterator[None]:
    """Hold the run's folder for the block. Raises BenchError where another process trains in it."""
    if not plan.world.first:
        yield
        return
    lock = plan.out / ".lock"
    refuse_special(lock, str(lock))
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BenchError("another process trains here", where=str(plan.out), fix="stop it, or wait") from error
        yield


def begin(plan: PretrainPlan, world: World) -> Run:
    """Networks and optimiser, new or as the last finished epoch left them."""
    latest = plan.out / LATEST
    state = new_state(plan.preset).to(plan.device)
    optimiser = make_optimiser(state, plan.preset.optimisation)
    progress = Progress()
    if plan.options.resume and latest.exists():
        progress = load_training(latest, state, optimiser, plan.preset, plan.data_digest)
    if len(set(world.gather(progress.step))) > 1:
        raise BenchError(
            "the processes do not see the same checkpoint", where=str(plan.out), fix="put --out on a shared disk"
        )
    if not progress.step and world.first:
        keep_preset(plan)
    if plan.options.save_memory:
        recompute_activations(state)
    if plan.options.compile:
        compile_blocks(state)
    batches = plan.stream().batches(draws(plan, world, progress.step))
    run = Run(plan, world, state, optimiser, batches, progress.step)
    run.loss, run.failed = progress.loss, set(progress.failed)
    return run


def keep_preset(plan: PretrainPlan) -> None:
    """Write preset.yaml. Raises BenchError where the preset was read from there and has been changed since."""
    path, given = plan.out / PRESET, Path(plan.options.preset).expanduser()
    content = plan.preset.model_dump(mode="json")
    if given.exists() and load_preset(str(given)).model_dump(mode="json") != content:
        check_output(path, option="--out", inputs=[given])
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def train_epoch(run: Run, epoch: int, reporter: Reporter) -> tuple[float, dict[str, float]]:
    """All steps of an epoch: their mean loss, and the row of the log."""
    recipe = run.plan.preset.optimisation
    started, losses = time.perf_counter(), []
    for _ in range(recipe.steps_per_epoch):
        done = take_step(run, epoch)
        losses.append(done.loss)
        rate = len(losses) * recipe.global_batch / (time.perf_counter() - started)
        if run.world.first:
            detail = f"loss {done.loss:.4g}, lr {done.lr:.2g}, {rate:.0f} clips/s"
            reporter.stage("pretraining", run.step, recipe.steps, detail)
    loss = sum(losses) / len(losses)
    row = {
        "step": run.step,
        "samples": run.step * recipe.global_batch,
        "epoch": epoch + 1,
        "loss": loss,
        **{name: value for name, value in vars(done).items() if name != "loss"},
        "clips_per_s": rate,
        "seconds": time.perf_counter() - started,
    }
    return loss, row


def watch_clips(plan: PretrainPlan) -> Tensor:
    """The clips on which the features are watched: of the first draws, up to 256 of them, uint8 [B, T, S, S, 3]."""
    num_bytes = math.prod(plan.clip_shape) * 3
    count = min(256, max(32, _WATCH_BYTES // num_bytes), len(plan.videos or range(256)))
    return next(plan.stream().batches([range(count)])).pixels[:count]


def report_failures(run: Run, reporter: Reporter) -> None:
    """Name the videos that were passed over in this epoch, by any process."""
    found = {failure.id: failure for part in run.world.gather(run.failures) for failure in part}
    run.failures.clear()
    for name in found.keys() - run.failed if run.world.first else ():
        reporter.say(f"passed over {found[name].error}")
    run.failed |= found.keys()


def keep(run: Run, epoch: int) -> None:
    """Write latest.pth.tar, and the epoch's own file where the preset keeps one."""
    preset, recipe = run.plan.preset, run.plan.preset.optimisation
    facts = {
        "opt": run.optimiser.state_dict(),
        "scaler": None,
        "epoch": epoch + 1,
        "loss": run.loss,
        "batch_size": recipe.micro_batch,
        "world_size": run.world.size,
        "lr": run.optimiser.param_groups[0]["lr"],
    }
    last = epoch + 1 == recipe.epochs
    paths = [run.plan.out / LATEST]
    if preset.keep_every and ((epoch + 1) % preset.keep_every == 0 or last):
        width = len(str(recipe.epochs))
        paths.insert(0, run.plan.out / f"epoch{epoch + 1:0{width}}.pth.tar")
    for path in paths:
        save_state(path, run.state, facts=facts, bench=run_facts(run))


def worth_telling(plan: PretrainPlan, epoch: int) -> bool:
    """Whether this epoch, counted from 1, is among the twenty or so of a run that the user hears of."""
    epochs = plan.preset.optimisation.epochs
    return epoch % max(1, epochs // _LINES) == 0 or epoch == epochs


def score_curve(plan: PretrainPlan, resume_step: int | None) -> ScoreCurve:
    """The run's curve of score against clips seen, taken up where it goes on."""
    return ScoreCurve(plan.out, resume_step=resume_step, title=f"{plan.preset.name}, {plan.preset.objective}")


def score_if_due(run: Run, score: Scorer | None, curve: ScoreCurve, epoch: int, reporter: Reporter) -> None:
    """Score the averaged encoder where the user wants it after this epoch, counted from 1: every N, and at the end."""
    every = run.plan.options.probe_every
    if score and every is not None and (epoch % every == 0 or epoch == run.plan.preset.optimisation.epochs):
        score(run.plan, curve, run.step, epoch, reporter)


def refuse_collapse(plan: PretrainPlan, health: Health) -> None:
    """Raise BenchError where the features of a finished run have collapsed."""
    reason = collapse_reason(health)
    if reason:
        advice = "try a lower lr"
        if plan.preset.objective == "features":
            advice = "try a slower target encoder (ema nearer to 1), a lower lr, or options.variance_weight"
        raise BenchError(f"the features have collapsed: {reason}", where=str(plan.out), fix=advice)


def epoch_line(plan: PretrainPlan, epoch: int, row: dict[str, float], health: Health) -> str:
    """What is worth reading after an epoch."""
    reason = collapse_reason(health)
    return (
        f"epoch {epoch + 1} of {plan.preset.optimisation.epochs}: loss {row['loss']:.4f}, feature std "
        f"{health.std:.3f}, effective rank {health.rank_tokens:.1f} of {health.embed_dim}, "
        f"{row['clips_per_s']:.0f} clips/s{f' - COLLAPSING: {reason}' if reason else ''}"
    )
