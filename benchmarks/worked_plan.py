# python -m benchmarks.worked_plan      (half a minute)
"""The plan of docs/scale.md: Kinetics-400 with V-JEPA 2's ViT-g on 64 GPUs, in bytes, encoder passes and hours.

Counts are exact. Measured here, in processor time of one core: a block of the encoder, and decoding a made video. What
a GPU does is assumed, stated and can be changed: nothing here measures one. `bench estimate` on a GPU does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bench.core.files import human_bytes
from bench.core.progress import Silent
from bench.encoders import vjepa
from bench.encoders.catalog import model_cards
from bench.encoders.contract import transformer_flops
from bench.encoders.families import card_config
from bench.features.spec import sample_items
from bench.pipeline.estimate.counts import Work, work_of
from bench.pipeline.estimate.plans import read_video_facts, subject_of
from bench.tasks.options import make_options
from bench.video.loader import load_clips

TASK, MODEL, VIDEO, GPUS = "k400", "vjepa2-vitg-256", "340x256@30,10", 64
EPOCHS = 20
"""Of the official evaluation; every one encodes all training and validation clips (protocol.md 5.1, 5.3)."""
TERA = 1e12
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Measured:
    """Processor seconds of one core, and the operations that they were for."""

    block_s: float
    block_flops: float
    decode_s: float
    """Of all segments of a training video."""


def main() -> None:
    """Print the plan."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worked_plan", description=__doc__)
    parser.add_argument("--peak", type=float, default=312.0, help="published bf16 TFLOP/s of a GPU (default: A100)")
    parser.add_argument("--share", type=float, default=0.4, help="assumed share of it that encoding reaches")
    parser.add_argument("--cores", type=int, default=16, help="processor cores beside a GPU")
    options = parser.parse_args()
    (one, measured), (four, _) = planned(1), planned(4)
    counted, flops = counts(one, four), pass_flops(one)
    Console(width=120).print(as_table([*counted, *hours(one, four, flops, measured, options)]))


def planned(views: int) -> tuple[Work, Measured | None]:
    """The work of a run that caches so many views of each training video; of one, with what is measured."""
    settings = {} if views == 1 else {"probe.train_views": views, "probe.augmentation": "official"}
    with tempfile.TemporaryDirectory() as folder:
        given = {"task": TASK, "model": MODEL, "cache": Path(folder), "settings": settings, "device": "cpu"}
        with subject_of(make_options(given), read_video_facts(VIDEO), Silent()) as subject:
            plan = subject.plan
            work = work_of(plan)
            if views > 1:
                return work, None
            items = [sample_items(plan.splits.train[0], {}, 1)[0]] * 4
            clips = plan.train_clips
            decode_s = _core_seconds(lambda: list(load_clips(items, clips, num_workers=0))) / len(items)
            return work, Measured(*_block(work.clip_tokens, *clips.clip_shape[:2]), decode_s)


def _block(num_tokens: int, frames: int, size: int) -> tuple[float, float]:
    """Seconds and operations of one block of the encoder on one clip, without what stands before the blocks."""
    config = _config()
    models = [vjepa.VisionTransformer(replace(config, depth=depth)) for depth in (1, 2)]
    for model in models:
        vjepa.init_untrained(model.eval(), seed=0)
    clip = torch.zeros(1, 3, frames, size, size)
    with torch.inference_mode():
        one, two = (_core_seconds(lambda model=model: model(clip)) for model in models)  # type: ignore[misc]
    return two - one, transformer_flops(1, config.embed_dim, config.mlp_dim, num_tokens)


def _config() -> vjepa.VitConfig:
    config = card_config(model_cards(MODEL)[0])
    if config is None:
        raise ValueError(f"no architecture of {MODEL}")
    return config


def _core_seconds(action: Callable[[], object]) -> float:
    """Processor seconds of this process on one thread, the least of three times after one."""
    torch.set_num_threads(1)
    action()
    seconds = []
    for _ in range(3):
        started = time.process_time()
        action()
        seconds.append(time.process_time() - started)
    return min(seconds)


def pass_flops(work: Work) -> float:
    """Operations of the encoder on one clip."""
    config = _config()
    return transformer_flops(config.depth, config.embed_dim, config.mlp_dim, work.clip_tokens)


def official_passes(one: Work) -> int:
    """Every epoch draws a view of every training video, and looks at all views of every validation video."""
    return EPOCHS * one.clips


def counts(one: Work, four: Work) -> list[Row]:
    """(what, how much, where it is from) of what needs no clock."""
    train, test = (part.clips for part in one.parts)
    official = official_passes(one)
    read = sum(training.samples * training.epochs for training in one.trainings) * one.sample_bytes
    return [
        ("training, validation clips of an epoch", f"{train:,}, {test:,}", "counted"),
        ("encoder passes, official route", f"{official:,}", f"counted: {EPOCHS} epochs"),
        ("encoder passes, 1 cached view", f"{one.clips:,}: 1/{official / one.clips:.1f}", "counted"),
        ("encoder passes, 4 cached views", f"{four.clips:,}: 1/{official / four.clips:.1f}", "counted"),
        ("tokens and bytes of a clip", f"{one.clip_tokens:,}, {human_bytes(one.kept_bytes)}", "counted"),
        ("features, 1 cached view", human_bytes(one.feature_bytes), "counted"),
        ("features, 4 cached views", human_bytes(four.feature_bytes), "counted"),
        ("read by the probe in all epochs, 1 view", human_bytes(read), "counted; one process, not divided"),
    ]


def hours(one: Work, four: Work, flops: float, measured: Measured | None, options: argparse.Namespace) -> list[Row]:
    """What follows from a measured core and an assumed GPU."""
    if measured is None:
        raise ValueError("nothing was measured")
    core = measured.block_flops / measured.block_s
    rate = options.share * options.peak * TERA / flops
    decoded = options.cores * one.segments / measured.decode_s
    found = [
        ("operations of a pass", f"{flops / TERA:.2f} TFLOP", "counted, from the architecture"),
        ("a pass on one core, fp32", f"{flops / core:.0f} s, {core / 1e9:.0f} GFLOP/s", "measured on one block of 40"),
        ("a video of 8 clips decoded on one core", f"{1000 * measured.decode_s:.0f} ms", f"measured, made: {VIDEO}"),
        ("clips decoded a second beside a GPU", f"{decoded:.0f}", f"measured core, {options.cores} assumed"),
        ("passes a second of a GPU", f"{rate:.1f}", f"assumed: {options.share:.0%} of {options.peak:g} TFLOP/s"),
    ]
    routes = {"official route": official_passes(one), "1 cached view": one.clips, "4 cached views": four.clips}
    for name, passes in routes.items():
        took = passes / min(rate, decoded) / GPUS / 3600
        found.append((f"encoding, {name}, {GPUS} GPUs", f"{took:.2f} h, {GPUS * took:,.0f} GPU hours", "assumed rate"))
    return found


def as_table(rows: list[Row]) -> Table:
    """One row a number."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("what", "how much", "from"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main()
