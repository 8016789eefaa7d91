"""How hard are the moving digits? Prints the calibration table of docs/digits.md, one row a variant.

    python benchmarks/calibrate_digits.py                # all rows, each tells its minutes at the end
    python benchmarks/calibrate_digits.py --only chosen  # one row
    python benchmarks/calibrate_digits.py --only final --probe-seeds 3

The variants are compared on a seed of their own (other image split, other labels, other clips). Only the
row `final` sees the clips that `bench run` scores. Frozen encoders are read by the recipe `sweep` with
three rates instead of its twenty settings. The networks trained with labels see endless new clips of the
training digits, before the codec. Every score is on test clips as they come out of their files.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bench
from bench.cards.load import ProbeCard, load_probe_card, override
from bench.data import digits
from bench.data.digits import DEFAULT, MOTIONS, NUM_DIGITS, NUM_FRAMES, DigitsConfig
from bench.encoders import Encoder
from bench.probing.objectives import OneLabel
from bench.probing.scoring import predict
from bench.probing.source import Rows
from bench.probing.train import fit
from bench.video.decode import read_frames

CALIBRATION = replace(DEFAULT, seed=1000)
PROBE = {"lr": [1e-3, 3e-3, 1e-2], "weight_decay": [0.01], "batch_size": 64, "epochs": 60}
STEPS, BATCH, PEAK_LR = 1500, 64, 5e-3  # of the networks trained with labels


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    config: DigitsConfig
    encoders: bool = True
    frames: bool = False
    """Also train on single frames and on shuffled frames."""
    symmetric: bool = False
    """The obvious construction instead of the cyclic one."""


def variants() -> dict[str, Variant]:
    """The chosen parameters, what is around them, and the construction that leaks."""
    near: dict[str, dict[str, Any]] = {
        "noise 0.06": {"noise": 0.06},
        "noise 0.12": {"noise": 0.12},
        "angle 45": {"angle": 45.0},
        "travel 0.6": {"travel": 0.6},
    }
    return {
        "chosen": Variant(CALIBRATION),
        **{name: Variant(replace(CALIBRATION, **changed)) for name, changed in near.items()},
        "symmetric": Variant(CALIBRATION, encoders=False, frames=True, symmetric=True),
        "final": Variant(DEFAULT, frames=True),
    }


# ------------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class Labelled:
    """Clips uint8 [B, NUM_FRAMES, H, W] with labels [B]."""

    clips: Tensor
    motion: Tensor
    digit: Tensor


def labelled_clips(folder: Path, split: digits.Split) -> Labelled:
    """All clips of a split, decoded."""
    clips = digits.read_digits(folder, split)
    frames = [read_frames(str(folder / clip.path), list(range(NUM_FRAMES)))[..., 0] for clip in clips]
    labels = torch.tensor([[clip.motion, clip.digit] for clip in clips])
    return Labelled(torch.from_numpy(np.stack(frames)), labels[:, 0], labels[:, 1])


def endless_clips(config: DigitsConfig, seed: int) -> Iterator[Labelled]:
    """Batches of new clips of the training digits."""
    rng = np.random.RandomState([config.seed, 100 + seed])
    pool = digits.image_pool("train", config)
    while True:
        chosen = rng.randint(0, len(pool.images), BATCH)
        motions = rng.randint(0, len(MOTIONS), BATCH)
        clips = digits.render_clips(rng, pool.images[chosen], motions, config)[:, :NUM_FRAMES]
        yield Labelled(torch.from_numpy(clips), torch.from_numpy(motions), torch.from_numpy(pool.digits[chosen]))


def symmetric_states(rng: np.random.RandomState, motions: Any, config: DigitsConfig, num_frames: int) -> Any:
    """States [B, F, 4] that stand near the middle of their ranges half-way through the clip."""
    turn = math.radians(config.angle)
    spread = math.log(config.scale_high / config.scale_low) / 2
    half = np.array([config.position, config.position, spread, turn])
    middle = np.array([0, 0, math.log(math.sqrt(config.scale_low * config.scale_high)), 0])
    rows = np.arange(len(motions))
    travel = np.zeros((len(motions), 4))
    travel[rows, digits._COORDINATE[motions]] = digits._DIRECTION[motions] * config.travel
    start = rng.uniform(-1 + config.travel, 1 - config.travel, travel.shape)
    when = np.arange(num_frames) / (NUM_FRAMES - 1) * 2 - 1
    states = middle + half * (start[:, None] + travel[:, None] * when[:, None])
    return states.astype(np.float32)


# ------------------------------------------------------------------------------------------ frozen encoders


class Tokens:
    """Features in memory [B, N, D], read by probes as `bench.features.store.FeatureSet` is."""

    num_views = 1

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.num_samples, self.num_tokens, self.embed_dim = values.shape

    def read(self, rows: Rows, view: int) -> Tensor:
        """Tokens [b, N, D] of these samples."""
        return self.values[torch.from_numpy(rows)]


def encode(encoder: Encoder, clips: Tensor) -> Tokens:
    """Tokens of grey clips [B, T, H, W], normalised as the encoder wants it."""
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in (encoder.input_spec.mean, encoder.input_spec.std))
    parts = [encoder((part[:, None].float() / 255 - mean) / std) for part in clips.split(100)]
    return Tokens(torch.cat(parts).half())


def probe_scores(name: str, train: Labelled, test: Labelled, recipe: ProbeCard, seeds: int) -> list[list[float]]:
    """Percent right, [motion, digit] for each probe seed."""
    encoder = bench.load_encoder(name)
    train_tokens, test_tokens = encode(encoder, train.clips), encode(encoder, test.clips)
    scores = []
    for seed in range(seeds):
        row = []
        for task, classes in (("motion", len(MOTIONS)), ("digit", NUM_DIGITS)):
            labels = getattr(train, task).numpy()
            fitted = fit(recipe, train_tokens, OneLabel(labels, classes), encoder.num_heads, seed=seed, device="cpu")
            chosen = predict(fitted.probe, test_tokens, device="cpu", batch_size=200).argmax(1)
            row.append(100 * float((np.asarray(chosen) == getattr(test, task).numpy()).mean()))
        scores.append(row)
    return scores


# ------------------------------------------------------------------------------------ trained with labels


class ConvNet(nn.Module):
    """Three convolutions over [B, T, H, W] clips, then scores of motion and digit. T may be 1."""

    def __init__(self, frames: int, size: int, width: int = 32) -> None:
        super().__init__()
        deep, stride = (3, 2) if frames > 1 else (1, 1)
        layers: list[nn.Module] = []
        for inside, outside, kernel, step in (
            (1, width, (deep, 5, 5), (1, 2, 2)),
            (width, 2 * width, (deep, 3, 3), (stride, 2, 2)),
            (2 * width, 3 * width, (deep, 3, 3), (1, 1, 1)),
        ):
            pad = tuple(k // 2 for k in kernel)
            layers += [nn.Conv3d(inside, outside, kernel, step, pad), nn.BatchNorm3d(outside), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.heads = nn.Linear(3 * width * (size // 4) ** 2, len(MOTIONS) + NUM_DIGITS)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (clips[:, None].float() / 255 - 0.4) / 0.2
        hidden = self.layers(pixels.contiguous(memory_format=torch.channels_last_3d))
        motion, digit = self.heads(hidden.mean(2).flatten(1)).split([len(MOTIONS), NUM_DIGITS], 1)
        return motion, digit


def supervised(view: Callable[[Tensor], Tensor], test: Labelled, config: DigitsConfig) -> list[float]:
    """Percent right, [motion, digit], of a network trained end to end on what `view` leaves of the clips."""
    torch.manual_seed(0)
    held_out = view(test.clips)
    net = ConvNet(held_out.shape[1], config.size)
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=STEPS)
    source = endless_clips(config, seed=0)
    for _ in range(STEPS):
        batch = next(source)
        motion, digit = net(view(batch.clips))
        loss = F.cross_entropy(motion, batch.motion) + F.cross_entropy(digit, batch.digit)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        parts = [[scores.argmax(1) for scores in net(part)] for part in held_out.split(200)]
    motion, digit = (torch.cat(column) for column in zip(*parts, strict=True))
    return [
        100 * (motion == test.motion).float().mean().item(),
        100 * (digit == test.digit).float().mean().item(),
    ]


def shuffled(clips: Tensor) -> Tensor:
    """The frames of each clip in an order of its own."""
    order = torch.rand(clips.shape[:2]).argsort(1)
    return clips.gather(1, order[..., None, None].expand_as(clips))


def one_frame(index: int) -> Callable[[Tensor], Tensor]:
    """Only the frame `index` of each clip."""
    return lambda clips: clips[:, index : index + 1]


# ------------------------------------------------------------------------------------------------- the table

COLUMNS = ("random", "pixels", "conv net", "first", "middle", "last", "shuffled")


def measure(variant: Variant, probe_seeds: int) -> Iterator[tuple[str, str]]:
    """Column and its cell: `motion / digit`, means over probe seeds."""
    config = variant.config
    patch = mock.patch.object(digits, "_states", symmetric_states)
    with patch if variant.symmetric else contextlib.nullcontext(), tempfile.TemporaryDirectory() as cache:
        folder = digits.ensure_digits(Path(cache), config)
        train, test = labelled_clips(folder, "train"), labelled_clips(folder, "test")
        if variant.encoders:
            recipe = override(load_probe_card("sweep"), "probe", PROBE)
            for name in ("random", "pixels"):
                scores = np.array(probe_scores(name, train, test, recipe, probe_seeds))
                yield name, " / ".join(f"{value:.1f}" for value in scores.mean(0))
        views: dict[str, Callable[[Tensor], Tensor]] = {"conv net": lambda clips: clips}
        if variant.frames:
            middle, last = NUM_FRAMES // 2, NUM_FRAMES - 1
            views |= {"first": one_frame(0), "middle": one_frame(middle), "last": one_frame(last)}
            views |= {"shuffled": shuffled}
        for name, view in views.items():
            yield name, " / ".join(f"{value:.1f}" for value in supervised(view, test, config))


def main() -> None:
    known = variants()
    parser = argparse.ArgumentParser(description="Calibration table of the moving digits.")
    parser.add_argument("--only", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--probe-seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("Percent right on test clips, motion / digit. Chance: 12.5 / 10.\n")
    print("| variant | " + " | ".join(COLUMNS) + " | minutes |")
    print("|---" * (len(COLUMNS) + 2) + "|", flush=True)
    for name in arguments.only:
        started = time.perf_counter()
        cells = {}
        for column, cell in measure(known[name], arguments.probe_seeds):
            cells[column] = cell
            print(f"{name}, {column}: {cell}", file=sys.stderr, flush=True)
        minutes = (time.perf_counter() - started) / 60
        row = [name, *(cells.get(column, "") for column in COLUMNS), f"{minutes:.1f}"]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
