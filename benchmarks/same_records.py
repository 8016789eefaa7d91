"""Does a change of the code change a measurement? Small ones of every kind, at two revisions, compared byte for byte.

    python -m benchmarks.same_records main HEAD                 about eight minutes on two cores
    python -m benchmarks.same_records main HEAD --only knn ava

Each revision is checked out into a folder of its own and measures with one thread, on the same files, from an empty
cache. What must be equal: the cached tokens with the names of their feature spaces, the tensors of trained probes, all
tables of a run, and `record.json` but for the fields that tell of the moment, the machine and the revision. The
measurements are started on the command line, which both revisions have. Exit code 1: something differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
BENCH = [sys.executable, "-m", "bench", "run", "--cache", "cache", "--results", "results", "--device", "cpu", "--json"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *BENCH[1:]]
OF_THE_MOMENT = {"run_id", "created", "versions", "hardware", "git_revision"}
OF_THE_CLOCK = {"extract_s", "probe_s", "total_s", "peak_memory_bytes", "streamed_s", "waiting_share", "clips_per_s"}

SHORT = "--set probe.epochs=1 --set probe.min_steps=4 --set probe.lr=[0.01,0.001] --set probe.weight_decay=0.01"
ONE = "--set probe.epochs=2 --set probe.min_steps=4 --set probe.lr=0.01 --set probe.weight_decay=0.01"
DIGITS = "--task digits-motion --model vjepa-nano --limit 48 --workers 0"
FILMS = "--task ava --data DATA/ava --model vjepa-nano --workers 0 --set clip.resolution=32 --set clip.starts_s=900"
KITCHEN = "--task ek100 --data DATA/epic --workers 0 --set clip.frames=8"
MEASUREMENTS = {
    "attentive": f"{DIGITS} {SHORT}",
    "attentive-random": f"--task digits-appearance --model random --limit 48 --workers 2 {SHORT}",
    "linear": f"{DIGITS} --probe linear",
    "knn": f"{DIGITS} --probe knn --set probe.neighbours=[1,5]",
    "pixels": "--task digits-motion --model pixels --limit 48 --workers 0 --probe knn --set probe.neighbours=[3]",
    "seeds": f"{DIGITS} --seed 3 {SHORT}",
    "8-bit": f"{DIGITS} --token-bits 8 {SHORT}",
    "four-blocks": f"{DIGITS} --set probe.num_blocks=4 {SHORT}",
    "two-blocks-heads": f"{DIGITS} --set probe.num_blocks=2 --set probe.num_heads=2 {SHORT}",
    "streaming": f"{DIGITS} --set probe.streaming=true --set probe.augmentation=official {ONE}",
    "train-views": f"{DIGITS} --set probe.train_views=2 --set probe.augmentation=official {SHORT}",
    "segments": f"{DIGITS} --set clip.segments=2 --set clip.frames=4 --set clip.views=3 {SHORT}",
    "clips-alone": f"{DIGITS} --set clip.segments=2 --set clip.frames=4 --set clip.attend_across_segments=false {ONE}",
    "layers": f"{DIGITS} --set clip.layers=0,2 {SHORT}",
    "selected-on-test": f"{DIGITS} --probe vjepa2-paper --set probe.streaming=false {ONE}",
    "controls": f"{DIGITS} --controls shuffled,static,reversed --probe linear",
    "labels": f"{DIGITS} --labels 50% --probe linear",
    "folders-of-frames": f"--task jester --data DATA/jester --model random --workers 0 --max-failed 1 {SHORT}",
    "images": f"--task in1k --data DATA/in1k --model random --workers 0 --max-failed 1 {SHORT}",
    "timm": "--task digits-motion --model timm:test_vit+untrained --limit 16 --workers 0 --probe linear",
    "boxes": f"{FILMS} {ONE}",
    "boxes-linear": f"{FILMS} --probe ava-paper --set probe.test_boxes=ground-truth --set probe.min_steps=10",
    "actions": f"{KITCHEN} --model vjepa-nano {ONE}",
    "actions-predicted": f"{KITCHEN} --model DATA/predicting.pt --set encoder.num_heads=3 --set clip.fps=2 "
    f"--set clip.frames=4 --set clip.tokens=encoder+predictor {ONE}",
    "masks": f"--task ade20k --data DATA/ade20k --model vjepa-nano --workers 0 --set clip.resolution=32 {SHORT}",
    "boxes-controls": f"{FILMS} --controls shuffled --labels 70% {ONE}",
    "actions-controls": f"{KITCHEN} --model vjepa-nano --controls shuffled --labels 70% {ONE}",
    "two-processes": f"--task digits-motion --model vjepa-nano,random --limit 48 --workers 0 {SHORT}",
}
WITH_PROBE = {"given-probe": ("linear", f"{DIGITS} --probe-weights PROBE")}
"""Measurements that score the probe which another one has trained."""


def make_data(folder: Path) -> None:
    """Small data sets in official layouts, and an encoder with a predictor: what the tests have them for."""
    sys.path.insert(0, str(ROOT / "tests"))
    from ava_standin import ava_standin
    from kitchens import kitchen, with_predictor
    from standins import standin

    ava_standin(folder / "ava", train=6, test=3)
    kitchen(folder / "epic", train=3, test=2)
    with_predictor(folder / "predicting.pt")
    for name in ("jester", "in1k", "ade20k"):
        standin(name, folder / name)


def measure(checkout: Path, folder: Path, data: Path, arguments: str, *, processes: int = 1) -> None:
    """One measurement in an empty folder. Raises RuntimeError where the command fails."""
    folder.mkdir(parents=True)
    command = [*(TORCHRUN if processes > 1 else BENCH), *arguments.replace("DATA", str(data)).split()]
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "BENCH_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{folder.name} at {folder.parent.name}: {done.stderr.strip().splitlines()[-1]}")


def contents(folder: Path) -> dict[str, Any]:
    """What a measurement left, by name, in a form that can be compared."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "cache" / "features").rglob("*")):
        if path.is_file():
            found[f"cache: {path.relative_to(folder / 'cache')}"] = _digest(path.read_bytes())
    # The key of a trained probe may change with the code that trains it; what was trained may not.
    probes = sorted(_tensors(path) for path in (folder / "cache" / "probes").rglob("*.safetensors"))
    found["cache: trained probes"] = probes
    for place, run in _runs(folder):
        for path in sorted(run.rglob("*")):
            name = f"{place}: {path.relative_to(run)}"
            if path.name == "record.json":
                found |= {f"{place}: record, {key}": value for key, value in _record(path).items()}
            elif path.suffix == ".safetensors":
                found[name] = _tensors(path)
            elif path.is_file():
                found[name] = _digest(path.read_bytes())
    return found


def _runs(folder: Path) -> Iterator[tuple[str, Path]]:
    """The runs by what they measured: their own names tell the time."""
    for path in sorted((folder / "results").glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        yield f"{record['task']}, {record['model']}, {record['probe']}, seed {record['seed']}", path.parent


def _record(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    for part in (record["cost"], record["resolved"].get("training") or {}):
        for name in OF_THE_CLOCK & part.keys():
            del part[name]
    return {name: value for name, value in record.items() if name not in OF_THE_MOMENT}


def _tensors(path: Path) -> str:
    """Names, types, shapes and bytes of a file's tensors, without what else it says."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def differences(base: dict[str, Any], head: dict[str, Any]) -> list[str]:
    """What is not the same on both sides, a line each."""
    lines = []
    for name in sorted(base.keys() | head.keys()):
        if name not in base or name not in head:
            lines.append(f"{name}: only at {'the base' if name in base else 'the head'}")
        elif base[name] != head[name]:
            lines.append(f"{name}: {_short(base[name])} -> {_short(head[name])}")
    return lines


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def compare(name: str, sides: dict[str, Path], work: Path) -> list[str] | None:
    """Measure at both revisions, one after the other, and say what differs; None where the base cannot."""
    for side, checkout in sides.items():
        needs, arguments = WITH_PROBE.get(name, ("", MEASUREMENTS.get(name, "")))
        if needs:
            first = work / side / f"{name}-trained"
            measure(checkout, first, work / "data", MEASUREMENTS[needs])
            shutil.copy(next((first / "results").glob("*/probe.safetensors")), work / side)
            arguments = arguments.replace("PROBE", str(work / side / "probe.safetensors"))
        try:
            measure(checkout, work / side / name, work / "data", arguments, processes=1 + (name == "two-processes"))
        except RuntimeError:
            if side == "base":
                measure(sides["head"], work / "head" / name, work / "data", arguments)
                return None
            raise
    base, head = (contents(work / side / name) for side in sides)
    for side in sides:
        shutil.rmtree(work / side / name)
    hidden = str(work / "base"), str(work / "head")
    return differences(
        *(json.loads(json.dumps(found).replace(path, "SIDE")) for found, path in zip((base, head), hidden, strict=True))
    )


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a revision, such as main")
    parser.add_argument("head", nargs="?", default="HEAD")
    names = [*MEASUREMENTS, *WITH_PROBE]
    parser.add_argument("--only", nargs="*", choices=names, help="these measurements alone")
    options = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_data(work / "data")
        sides = {side: work / f"code-{side}" for side in ("base", "head")}
        for side, checkout in sides.items():
            checkout.mkdir()
            archive = subprocess.run(
                ["git", "archive", getattr(options, side)], cwd=ROOT, check=True, capture_output=True
            )
            subprocess.run(["tar", "-x", "-C", str(checkout)], input=archive.stdout, check=True)
        chosen, failed = options.only or names, 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for measured, lines in zip(chosen, pool.map(lambda one: compare(one, sides, work), chosen), strict=True):
                verdict = "new" if lines is None else "differs" if lines else "same"
                print(f"{verdict:8} {measured}", *(lines or []), sep="\n         ", flush=True)
                failed += bool(lines)
    print(f"{failed} of {len(chosen)} measurements differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
