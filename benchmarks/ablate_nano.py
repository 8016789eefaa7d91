"""What makes feature prediction work on the digits? Trains variants of the preset `nano` and probes them frozen.

    python benchmarks/ablate_nano.py                                  # all variants, seeds 0 1 2
    python benchmarks/ablate_nano.py --only 'nano' 'frame step 1' --seeds 0 --epochs 30

No image of the test split is touched: the training images are split again, two thirds for pretraining and for the
probe's training clips, one third for the clips that it is scored on. Every variant differs from `nano` in the
settings that its row names. The probe is the recipe `sweep` with three rates instead of its twenty settings.
Each row goes to stdout as JSON when it is ready.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from bench.cards.load import load_probe_card, override
from bench.core.errors import BenchError
from bench.data.digits import MOTIONS, NUM_DIGITS, NUM_FRAMES, ImagePool, image_pool, render_clips
from bench.encoders import Encoder, load_encoder
from bench.pretrain.step import normalised
from bench.pretrain.train import pretrain
from bench.probing.objectives import OneLabel
from bench.probing.scoring import predict
from bench.probing.source import Rows
from bench.probing.train import fit

PROBE = {"lr": [1e-3, 3e-3, 1e-2], "weight_decay": [0.01]}


def part_of_time(share: float) -> list[dict[str, Any]]:
    """All frames of one run of frames, that share of the clip long."""
    return [{"num_blocks": 1, "spatial_scale": [1, 1], "temporal_scale": [share, share], "aspect_ratio": [1, 1]}]


TUBES = [{"num_blocks": 3, "spatial_scale": [0.25, 0.25]}]

VARIANTS: dict[str, dict[str, Any]] = {
    "nano": {},
    "frame step 1": {"data.frame_step": 1},
    "frame step 3": {"data.frame_step": 3},
    "a quarter hidden": {"masks": part_of_time(0.25)},
    "three quarters hidden": {"masks": part_of_time(0.75)},
    "tubes hidden": {"masks": TUBES},
    "ema 0.99": {"ema": 0.99},
    "ema 0.999": {"ema": 0.999},
    "last layer": {"target_layers": 1},
    "squared error": {"loss_exponent": 2.0},
    "variance term": {"variance_weight": 1.0},
    "predictor 96": {"head.embed_dim": 96},
    "lr 1e-3": {"lr": 1e-3},
    "batch 64": {"global_batch": 64, "micro_batch": 64, "steps_per_epoch": 50},
    "pixels": {"objective": "pixels"},
    "pixels, standardised": {"objective": "pixels", "normalise_patches": True},
    "contrast": {"objective": "contrast"},
    "slow": {"objective": "slow"},
}


@dataclass(frozen=True)
class LabelledClips:
    """Clips [B, 3, T, S, S] with both labels [B]."""

    clips: Tensor
    motions: np.ndarray
    digits: np.ndarray


class Tokens:
    """Tokens [B, N, D] in memory, as the probe's training reads them."""

    num_views = 1

    def __init__(self, encoder: Encoder, clips: Tensor) -> None:
        self.values = torch.cat([encoder(part) for part in torch.split(clips, 200)])
        self.num_samples, self.num_tokens, self.embed_dim = self.values.shape

    def read(self, rows: Rows, view: int) -> Tensor:
        return self.values[torch.from_numpy(rows)]


def split_pool() -> tuple[ImagePool, ImagePool]:
    """The training images, split again: for training, and for scores."""
    pool = image_pool("train")
    order = np.random.RandomState(7).permutation(len(pool.images))
    cut = len(order) * 2 // 3
    train, score = (
        ImagePool(pool.images[part], pool.digits[part], pool.indices[part]) for part in (order[:cut], order[cut:])
    )
    return train, score


def labelled(pool: ImagePool, count: int, seed: int) -> LabelledClips:
    rng = np.random.RandomState([99, seed])
    images, motions = rng.randint(len(pool.images), size=count), rng.randint(len(MOTIONS), size=count)
    grey = render_clips(rng, pool.images[images], motions, num_frames=NUM_FRAMES)
    pixels = torch.from_numpy(grey)[..., None].expand(-1, -1, -1, -1, 3)
    return LabelledClips(normalised(pixels, "cpu"), motions, pool.digits[images])


def score(encoder: Encoder, train: LabelledClips, test: LabelledClips) -> dict[str, float]:
    """Accuracy in %, by label."""
    recipe = override(load_probe_card("sweep"), "probe", PROBE)
    seen, unseen = Tokens(encoder, train.clips), Tokens(encoder, test.clips)
    scores = {}
    for name, classes in (("motions", len(MOTIONS)), ("digits", NUM_DIGITS)):
        fitted = fit(recipe, seen, OneLabel(getattr(train, name), classes), encoder.num_heads, seed=0, device="cpu")
        right = predict(fitted.probe, unseen, device="cpu").argmax(axis=1) == getattr(test, name)
        scores[name] = round(100 * float(right.mean()), 1)
    return scores


@contextmanager
def only_these_images(pool: ImagePool) -> Iterator[None]:
    with mock.patch("bench.pretrain.stream.image_pool", lambda split: pool):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help="; ".join(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="shorter than the preset's")
    options = parser.parse_args()
    mine, theirs = split_pool()
    train, test = labelled(mine, 1600, 0), labelled(theirs, 800, 1)
    print(json.dumps({"variant": "random", **score(load_encoder("random"), train, test)}), flush=True)
    for seed in options.seeds:
        for name in options.only or VARIANTS:
            settings = {**VARIANTS[name], "seed": seed, "keep_every": None}
            if options.epochs:
                settings["epochs"] = options.epochs
            with tempfile.TemporaryDirectory() as folder:
                facts: dict[str, Any] = {}
                try:
                    with only_these_images(mine):
                        done = pretrain(preset="nano", out=Path(folder) / "run", device="cpu", settings=settings)
                    facts = {
                        "seconds": round(done.seconds),
                        "loss": round(done.loss, 4),
                        "rank": done.health.rank_tokens,
                    }
                except BenchError as error:
                    if not (Path(folder) / "run" / "latest.pth.tar").exists():
                        raise
                    facts = {"problem": str(error.what)}  # a collapse, which leaves its checkpoint
                scores = score(load_encoder(str(Path(folder) / "run" / "latest.pth.tar")), train, test)
            print(json.dumps({"variant": name, "seed": seed, **scores, **facts}), flush=True)


if __name__ == "__main__":
    main()
