# python -m benchmarks.agreement --data ../shared/data/moving_signs      (goes on where it was stopped)
"""How well a probe on cached clips agrees with one on clips that are streamed anew in every epoch.

The same encoder, recipe (one setting) and number of epochs, on both labels of the same clips: streamed with the
official augmentation, and cached with K augmented views of each training clip, used in turn. Every finished row is a
line of JSON in --out, and is not measured again; at the end, the rows are a table of means and ranges over the seeds.

A clip is decoded and encoded as seldom as possible: both labels share the cache, the most views are encoded first and
hold the fewer ones, and the tokens of a stream are kept for the second label of the same seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.core.progress import Live, Reporter
from bench.pipeline.plan import make_plan
from bench.pipeline.run import measure, prepare
from bench.probing.source import Rows
from bench.probing.streaming import Chunk, StreamCounts, TokenStream, samples_at_once
from bench.tasks.kind import RunPlan
from bench.tasks.options import make_options

LABELS = ("motion", "appearance")
STREAMED = "streamed"
VIEWS = ("8", "4", "2", "1")
KEPT_BYTES = 4 << 30
"""Size of a stream's tokens that are kept for the second label."""


class KeptStream:
    """A stream whose tokens are kept in a file, by epoch and sample: a second pass reads them. A TokenStream."""

    def __init__(self, stream: TokenStream, file: Path, epochs: int) -> None:
        self._stream = stream
        self.num_samples, self.num_tokens, self.embed_dim = stream.num_samples, stream.num_tokens, stream.embed_dim
        shape = (epochs, self.num_samples, self.num_tokens, self.embed_dim)
        self._tokens = np.lib.format.open_memmap(
            file, mode="r+" if file.exists() else "w+", dtype=np.float32, shape=shape
        )
        self._known = file.with_suffix(".known.npy")

    @property
    def counts(self) -> StreamCounts:
        """Those of the stream that is kept: what is read again is not counted."""
        return self._stream.counts

    @counts.setter
    def counts(self, counts: StreamCounts) -> None:
        self._stream.counts = counts

    @staticmethod
    def num_bytes(stream: TokenStream, epochs: int) -> int:
        """Size of the file."""
        return 4 * epochs * stream.num_samples * stream.num_tokens * stream.embed_dim

    def chunks(self, wanted: Iterable[tuple[int, Rows]]) -> Generator[Chunk, None, None]:
        """As those of the stream that is kept."""
        batches = list(wanted)
        known = np.load(self._known) if self._known.exists() else np.zeros(self._tokens.shape[:2], dtype=bool)
        if all(known[epoch, rows].all() for epoch, rows in batches):
            yield from self._read(batches)
            return
        epochs = iter([epoch for epoch, rows in batches for _ in range(0, len(rows), self._size)])
        for chunk in self._stream.chunks(batches):
            epoch = next(epochs)
            self._tokens[epoch, chunk.rows] = chunk.tokens.cpu().numpy()
            known[epoch, chunk.rows] = True
            yield chunk
        np.save(self._known, known)

    def take(self, rows: Rows) -> TokenStream:
        """Of the stream that is kept; these are not."""
        return self._stream.take(rows)

    @property
    def _size(self) -> int:
        return samples_at_once(self.num_tokens, self.embed_dim)

    def _read(self, batches: list[tuple[int, Rows]]) -> Generator[Chunk, None, None]:
        for epoch, rows in batches:
            for start in range(0, len(rows), self._size):
                part = rows[start : start + self._size]
                tokens = torch.from_numpy(self._tokens[epoch, part])
                yield Chunk(part, tokens, len(part), start + self._size >= len(rows))


def plan_of(arguments: argparse.Namespace, label: str, way: str, seed: int) -> RunPlan:
    """The run of one row."""
    settings: dict[str, Any] = {"probe.epochs": arguments.epochs, "probe.batch_size": arguments.batch_size}
    if way != STREAMED:
        settings |= {"probe.streaming": False, "probe.train_views": int(way)}
    options = {
        "task": "custom",
        "name": f"moving-signs-{label}",
        "axis": label,
        "model": arguments.model,
        "probe": "vjepa1-paper",
        "data": arguments.data,
        "train": arguments.data / f"train_{label}.csv",
        "val": arguments.data / f"val_{label}.csv",
        "cache": arguments.cache,
        "results": arguments.out.parent,
        "seed": seed,
        "settings": settings,
    }
    return make_plan(make_options(options))


def score(plan: RunPlan, kept: Path, reporter: Reporter) -> dict[str, Any]:
    """The test accuracy in %, and what it took; the tokens of a stream are kept in the folder `kept`."""
    prepared = prepare(plan, reporter)
    inputs, recipe = prepared.inputs, plan.recipe.optimisation
    assert recipe is not None
    if isinstance(inputs.train, TokenStream) and KeptStream.num_bytes(inputs.train, recipe.epochs) <= KEPT_BYTES:
        inputs = replace(inputs, train=KeptStream(inputs.train, kept / "tokens.npy", recipe.epochs))
    measured = measure(prepared.job, inputs, reporter)
    labels = np.array([sample.label for sample in prepared.test.samples])
    streamed = measured.fitted.streamed
    return {
        "accuracy": round(100 * float((measured.outputs[0].argmax(1) == labels).mean()), 2),
        "n": len(labels),
        "steps": measured.fitted.steps,
        "failed": len(streamed.failures) if streamed else 0,
        "waiting_share": round(streamed.waiting_share, 4) if streamed else None,
    }


def measure_rows(arguments: argparse.Namespace, reporter: Reporter) -> list[dict[str, Any]]:
    """Every row that was asked for, those of earlier runs first."""
    finished = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    shared = {"model": arguments.model, "epochs": arguments.epochs, "batch_size": arguments.batch_size}
    rows = [row for row in finished if shared.items() <= row.items()]
    done = {(row["way"], row["label"], row["seed"]) for row in rows}
    for seed in arguments.seeds:
        for way in arguments.only:
            with tempfile.TemporaryDirectory(dir=arguments.out.parent) as kept:
                for label in LABELS:
                    if (way, label, seed) in done:
                        continue
                    found = score(plan_of(arguments, label, way, seed), Path(kept), reporter)
                    rows.append({**shared, "way": way, "label": label, "seed": seed, **found})
                    print(json.dumps(rows[-1]), flush=True)
                    with arguments.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Means and ranges over the seeds, as Markdown."""
    lines = ["| training clips | motion, % | appearance, % | seeds |", "|---|---|---|---|"]
    for way in (*reversed(VIEWS), STREAMED):
        cells = {
            label: [row["accuracy"] for row in rows if row["way"] == way and row["label"] == label] for label in LABELS
        }
        if not all(cells.values()):
            continue
        name = "fresh in every epoch" if way == STREAMED else f"cached, K = {way}"
        shown = [f"{statistics.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})" for found in cells.values()]
        lines.append(f"| {name} | {' | '.join(shown)} | {min(map(len, cells.values()))} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the rows that are missing, and print JSON lines and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/moving_signs"))
    parser.add_argument("--model", default="vjepa-nano")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=32, help="of the probe's training")
    parser.add_argument("--only", nargs="+", choices=(STREAMED, *VIEWS), default=[STREAMED, *VIEWS])
    parser.add_argument("--cache", type=Path, help="where features are kept; default as for bench run")
    parser.add_argument("--out", type=Path, default=Path("agreement.jsonl"), help="finished rows")
    arguments = parser.parse_args()
    arguments.only = [way for way in (STREAMED, *VIEWS) if way in arguments.only]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with Live() as reporter:
        rows = measure_rows(arguments, reporter)
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
