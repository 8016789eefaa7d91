# python -m benchmarks.whole_evaluation [--limit 80 --set clip.resolution=48 --set probe.min_steps_per_epoch=4]
"""`bench run` with a sweep of twenty settings and nothing in the cache, against the official loop (official_loop.py).

Both sides have the same samples, encoder, threads, decoding workers, settings, rule for batches and number of epochs.
Ours is the whole of `bench.evaluate`: it hashes the files, encodes each clip once, trains the twenty settings together
on four fifths of the training samples, chooses one on the rest, trains it again on all (as many epochs again, which
count), scores and records it. The loop does in every epoch what its module says. It shows each training clip as ours
does, so that both are equally accurate at a setting; `--augmented` adds the loop with the official augmentation. A loop
with the suite's fused probes in the place of the modules tells what encoding in every epoch costs alone.

The official score is that of the best setting on the test split, which flatters it; it stands beside the loop's score
at the setting that ours has chosen without looking there. A run is one seed: ours, then the loops, in one process; what
is loaded lazily is loaded before. The seconds of every side are measured by part.

The factor depends on the tokens of a step. Papers have 1568 a clip and 256 clips a step; two cores have neither the
time for as many nor for a large encoder. So there are two cases: digits as they are, 64 tokens of 64 channels a clip in
batches of 20, where a step is the time of many small operations; and the same digits enlarged to 48 pixels, 576 tokens
a clip.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

from bench.cards.load import Setting, load_task
from bench.cli.options import parse_settings
from bench.data.digits import ensure_digits
from bench.pipeline.plan import make_plan
from bench.pipeline.run import evaluate
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options
from bench.video.loader import forget_clips
from benchmarks.official_loop import Clock, FusedHeads, ModuleHeads, official_loop
from benchmarks.ratios import Ratio, ratio_of

THREADS = 2
OURS, LOOP, FUSED, AUGMENTED = "bench run", "official loop", "official loop, fused probes", "official loop, augmented"
PARTS = ("waiting for clips", "encoding", "probes: training", "probes: testing")
REST = "rest"
"""Loading the encoder; on our side also hashing files, writing and reading the cache, and the record."""
_OURS = (
    ("bench.features.extract", "encode", "encoding"),
    ("bench.pipeline.run", "fit", "probes: training"),
    ("bench.pipeline.run", "_outputs", "probes: testing"),
)


@dataclass(frozen=True)
class Case:
    """What is evaluated."""

    model: str = "vjepa-nano"
    task: str = "digits-motion"
    limit: int | None = 400
    """Samples of each split."""
    epochs: int = 20
    """Of the official configurations (protocol.md 5.2, 5.3)."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Of `--task custom`: data, train and val."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Other changes of the cards, such as clip.resolution."""

    @property
    def name(self) -> str:
        """As in tables."""
        changes = "".join(f", {key}={value}" for key, value in self.settings.items())
        return f"{self.model}, {self.task}, {self.limit or 'all'} clips, {self.epochs} epochs{changes}"

    def options(self, folder: Path, seed: int, *, augmented: bool = False) -> dict[str, Any]:
        """Of a run whose cache and results are in `folder`."""
        settings: dict[str, Any] = {"probe.epochs": self.epochs, "probe.min_steps": 1}
        settings |= self.settings
        if augmented:
            settings["probe.augmentation"] = "official"
        given = {"task": self.task, "model": self.model, "limit": self.limit, "seed": seed, "settings": settings}
        given["probe"] = "sweep"
        return {**given, **self.files, "cache": folder / "cache", "results": folder / "results"}


SMALL = Case()
LARGE = Case(limit=80, settings={"clip.resolution": 48, "probe.min_steps_per_epoch": 4})


@dataclass(frozen=True)
class Run:
    """One side of one seed."""

    side: str
    seed: int
    seconds: float
    processor_s: float
    """Of all cores, and of the workers: what a busy machine changes least."""
    parts: dict[str, float]
    accuracy: float
    """Percent of test samples: of the chosen setting; of the loops, of the best one on the test split."""
    setting: str
    """lr and weight decay of that setting."""
    at_our_setting: float | None = None
    """Of the loops: percent at the setting that ours has chosen."""


def run_ours(case: Case, seed: int, data: Path) -> tuple[Run, int]:
    """`bench run` with nothing in the cache but the files of the data; also the number of the chosen setting."""
    with _empty_cache(data) as folder:
        clock, started, used = Clock(), time.perf_counter(), _processor_s()
        with _watched(clock):
            record = evaluate(**case.options(folder, seed))
        seconds, used = time.perf_counter() - started, _processor_s() - used
    (chosen,) = (head for head in record.heads if head.chosen)
    setting = f"{chosen.lr:g}, {chosen.weight_decay:g}"
    run = Run(OURS, seed, seconds, used, _with_rest(clock, seconds), record.scores[0].value, setting)
    return run, record.heads.index(chosen)


def run_loop(case: Case, seed: int, data: Path, side: str, our_setting: int) -> Run:
    """One of the official loops."""
    with _empty_cache(data) as folder:
        clock, started, used = Clock(), time.perf_counter(), _processor_s()
        plan = make_plan(make_options(case.options(folder, seed, augmented=side == AUGMENTED)))
        result = official_loop(plan, clock, FusedHeads if side == FUSED else ModuleHeads)
        seconds, used = time.perf_counter() - started, _processor_s() - used
    final = result.accuracies[-1]
    setting = _settings(plan)[final.index(result.official)]
    parts = _with_rest(clock, seconds)
    return Run(
        side,
        seed,
        seconds,
        used,
        parts,
        result.official,
        f"{setting.lr:g}, {setting.weight_decay:g}",
        final[our_setting],
    )


def measure(
    case: Case,
    runs: int,
    loops: Sequence[str] = (LOOP, FUSED),
    tell: Callable[[Run], None] = lambda run: None,
    *,
    warm: bool = True,
) -> list[Run]:
    """Ours and these loops on as many seeds, in turns; if `warm`, after a short run of each that is not counted."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        if load_task(case.task).data == "digits":
            ensure_digits(data)
        if warm:  # what is imported or compiled at first use is so before anything is measured
            _measure_seed(replace(case, limit=40, epochs=1), 0, data, loops, lambda run: None)
        for seed in range(runs):
            found += _measure_seed(case, seed, data, loops, tell)
    return found


def _measure_seed(case: Case, seed: int, data: Path, loops: Sequence[str], tell: Callable[[Run], None]) -> list[Run]:
    ours, setting = run_ours(case, seed, data)
    found = [ours]
    tell(ours)
    for side in loops:
        found.append(run_loop(case, seed, data, side, setting))
        tell(found[-1])
    return found


def ratios(runs: int) -> list[Ratio]:
    """Of the whole evaluation, with many tokens a clip and with few."""
    torch.set_num_threads(THREADS)
    return [ratio for case in (LARGE, SMALL) for ratio in ratios_of(case, measure(case, runs, (LOOP,)))]


def ratios_of(case: Case, runs: Sequence[Run]) -> list[Ratio]:
    """Each loop over ours; the accuracies stand beside the name of the reference."""
    sides = list(dict.fromkeys(run.side for run in runs))
    times = {side: [run.seconds for run in runs if run.side == side] for side in sides}
    name = f"whole evaluation, {case.name}"
    return [ratio_of(name, f"{side} ({_scores(side, runs)})", times[side], times[OURS]) for side in sides[1:]]


def _scores(side: str, runs: Sequence[Run]) -> str:
    """Mean accuracies of a loop and of ours."""
    ours = statistics.mean(run.accuracy for run in runs if run.side == OURS)
    best = statistics.mean(run.accuracy for run in runs if run.side == side)
    same = statistics.mean(run.at_our_setting or 0.0 for run in runs if run.side == side)
    return f"{same:.1f} % at our setting, {best:.1f} % at its best on the test split; ours {ours:.1f} %"


@contextmanager
def _empty_cache(data: Path) -> Iterator[Path]:
    """A folder with a cache in which there is nothing but the embedded data, if it was made."""
    forget_clips()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "cache").mkdir()
        if (data / "digits").exists():
            (folder / "cache" / "digits").symlink_to(data / "digits", target_is_directory=True)
        yield folder


@contextmanager
def _watched(clock: Clock) -> Iterator[None]:
    """Our run tells the clock its parts."""
    with ExitStack() as stack:
        for module_name, name, part in _OURS:
            module = importlib.import_module(module_name)
            stack.enter_context(patch.object(module, name, _timed(clock, part, getattr(module, name))))
        extract = importlib.import_module("bench.features.extract")
        stack.enter_context(patch.object(extract, "remembered_clips", _waiting(clock, extract.remembered_clips)))
        yield


def _timed(clock: Clock, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.part(part):
            return function(*args, **kwargs)

    return timed


def _waiting(clock: Clock, load: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @wraps(load)
    def waiting(*args: Any, **kwargs: Any) -> Iterator[Any]:
        clips = load(*args, **kwargs)
        end = object()
        while True:
            with clock.part("waiting for clips"):
                clip = next(clips, end)
            if clip is end:
                return
            yield clip

    return waiting


def _processor_s() -> float:
    """Of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def _with_rest(clock: Clock, seconds: float) -> dict[str, float]:
    parts = {part: clock.seconds.get(part, 0.0) for part in PARTS}
    return {**parts, REST: seconds - sum(parts.values())}


def _settings(plan: RunPlan) -> list[Setting]:
    assert plan.recipe.optimisation is not None
    return plan.recipe.optimisation.settings


def parts_table(runs: Sequence[Run]) -> Table:
    """Median seconds of every part of every side, and of all processors."""
    table = Table(title="Seconds by part, medians")
    table.add_column("")
    for part in (*PARTS, REST, "all", "processor"):
        table.add_column(part, justify="right")
    for side in dict.fromkeys(run.side for run in runs):
        of_side = [run for run in runs if run.side == side]
        seconds = [statistics.median(run.parts[part] for run in of_side) for part in (*PARTS, REST)]
        seconds.append(statistics.median(run.seconds for run in of_side))
        seconds.append(statistics.median(run.processor_s for run in of_side))
        table.add_row(side, *(f"{value:.2f}" for value in seconds))
    return table


def scores_table(runs: Sequence[Run]) -> Table:
    """Accuracy of every side and seed, and the means."""
    table = Table(title="Right test samples, percent (lr, weight decay)")
    seeds = sorted({run.seed for run in runs})
    for column in ("", *(f"seed {seed}" for seed in seeds), "mean"):
        table.add_column(column, justify="right")
    for side in dict.fromkeys(run.side for run in runs):
        of_side = sorted((run for run in runs if run.side == side), key=lambda run: run.seed)
        cells = [f"{run.accuracy:.1f} ({run.setting})" for run in of_side]
        mean = statistics.mean(run.accuracy for run in of_side)
        table.add_row(side if side == OURS else f"{side}, best on the test split", *cells, f"{mean:.1f}")
        if side != OURS:
            same = [run.at_our_setting or 0.0 for run in of_side]
            cells = [f"{value:.1f}" for value in (*same, statistics.mean(same))]
            table.add_row(f"{side}, at our setting", *cells)
    return table


def ratios_table(found: Sequence[Ratio]) -> Table:
    """How many times as fast."""
    table = Table(title=f"Whole evaluation, {found[0].device}")
    for column in ("against", "times as fast", "runs from, to"):
        table.add_column(column)
    for ratio in found:
        table.add_row(ratio.reference, f"{ratio.ratio:.1f}", f"{ratio.low:.1f}, {ratio.high:.1f}")
    return table


def main() -> None:
    """Measure and print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=Case.model)
    parser.add_argument("--task", default=Case.task)
    parser.add_argument("--data", type=Path, help="of a task that has files: --task custom takes its lists from there")
    parser.add_argument("--train", type=Path, help="training list of --task custom")
    parser.add_argument("--val", type=Path, help="test list of --task custom")
    parser.add_argument("--limit", type=int, default=Case.limit, help="samples of each split; 0 for all")
    parser.add_argument("--epochs", type=int, default=Case.epochs)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of bench run")
    parser.add_argument("--augmented", action="store_true", help="also the loop with the official augmentation")
    parser.add_argument("--runs", type=int, default=5, help="seeds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    files = {name: value for name in ("data", "train", "val") if (value := getattr(options, name))}
    case = Case(options.model, options.task, options.limit or None, options.epochs, files, parse_settings(options.set))
    log = Console(stderr=True, highlight=False)
    loops = (LOOP, FUSED, AUGMENTED) if options.augmented else (LOOP, FUSED)
    runs = measure(case, options.runs, loops, lambda run: log.print(f"{run.side}: {run.seconds:.1f} s"))
    found = ratios_of(case, runs)
    if options.json:
        print(json.dumps({"case": repr(case), "ratios": list(map(asdict, found)), "runs": list(map(asdict, runs))}))
        return
    console = Console()
    for table in (ratios_table(found), scores_table(runs), parts_table(runs)):
        console.print(table)


if __name__ == "__main__":
    main()
