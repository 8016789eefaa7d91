"""Coverage-guided fuzzing of the parsers: `python tests/faults/coverage_fuzz.py TARGET [--seconds 60 | --runs 300]`.

atheris (`pip install atheris`: Linux on x86-64, CPython) changes whole files until they reach lines of `bench` that
none has reached before; the targets are listed in TARGETS. A BenchError of one line is an answer, and so is content
that can be true. Everything else ends the search with a traceback, and the file that did it is kept in the folder
FINDINGS.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
from safetensors import safe_open

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

with atheris.instrument_imports(include=["bench"]):
    from annotation_lab import KINDS, annotated
    from fuzzing import TOKENS
    from support import GOLDEN

    from bench.cards.load import load_probe_card, load_task
    from bench.cli.options import parse_settings
    from bench.core.errors import BenchError
    from bench.encoders.huggingface import describe_folder
    from bench.features.store import Store, map_array
    from bench.pretrain.presets import load_preset
    from bench.probing.attentive import AttentiveProbe, initial_weights
    from bench.probing.checkpoints import Checkpoints
    from bench.probing.files import load_probe, save_probe
    from bench.records.index import read_run

FINDINGS = Path("fuzz-findings")

Reader = Callable[[bytes], object]
"""Reads a file of this content, and checks what it gives."""
Seeds = list[tuple[bytes, Reader]]
"""Whole files, each with its reader. A fuzzed input begins with the number of its reader."""


def annotations(folder: Path) -> Seeds:
    """Every annotation file of every format."""
    seeds: Seeds = []
    for kind in KINDS:
        whole = annotated(kind, folder / kind)
        whole.read()
        for path in whole.files:
            content = path.read_bytes()

            def read(
                new: bytes, path: Path = path, content: bytes = content, read: Callable[[], None] = whole.read
            ) -> None:
                path.write_bytes(new)
                try:
                    read()
                finally:
                    path.write_bytes(content)

            seeds.append((content, read))
    return seeds


def cards(folder: Path) -> Seeds:
    """Task cards, recipes, presets of pretraining, and settings of the command line."""
    top, mine = Path(__file__).parents[2], folder / "mine.yaml"

    def reader(load: Callable[[str], object]) -> Reader:
        def read(new: bytes) -> None:
            mine.write_bytes(new)
            card = load(str(mine))
            assert type(card).model_validate(card.model_dump()) == card  # type: ignore[attr-defined]

        return read

    seeds: Seeds = [(b"probe.lr=[0.1, 1e-3]", lambda new: parse_settings([new.decode(errors="replace")]))]
    for load, paths in (
        (load_task, (top / "datasets").glob("*.yaml")),
        (load_probe_card, (top / "probes").glob("*.yaml")),
        (load_preset, (top / "bench" / "pretrain").rglob("*.yaml")),
    ):
        seeds += [(path.read_bytes(), reader(load)) for path in sorted(paths)]
    return seeds


def records(folder: Path) -> Seeds:
    """A record beside its predictions, which tell the score that it may state."""
    from made_results import made_run

    file = made_run(folder, "a", "ssv2", 0.7, n=20) / "record.json"

    def read(new: bytes) -> None:
        file.write_bytes(new)
        for found in read_run(file):
            if isinstance(found, BenchError):
                raise found
            for score in found.scores:
                assert score.low <= score.value <= score.high
                assert score.correct is None or abs(score.value - 100 * score.correct / score.n) < 1e-6

    return [(file.read_bytes(), read)]


def weights(folder: Path) -> Seeds:
    """Headers of safetensors (a probe, the state of a training), and what a Hugging Face folder says of its weights."""
    import torch

    probe, state = folder / "probe.safetensors", Checkpoints(folder).of("sweep")
    facts = {"protocol": "attentive/1", "classes": '["a", "b", "c"]', "norm_eps": "1e-06"}
    save_probe(probe, AttentiveProbe(initial_weights(8, 3, seed=0), num_heads=2), facts)
    state.save({"weights": torch.zeros(3, 2), "step": torch.tensor(7)}, {"epoch": 1, "seconds": 2.5})
    hub = Path(shutil.copytree(GOLDEN / "hf-vjepa2", folder / "hub"))
    config, index = hub / "config.json", hub / "model.safetensors.index.json"
    with safe_open(hub / "model.safetensors", framework="pt") as file:
        index.write_text(json.dumps({"weight_map": dict.fromkeys(file.keys(), "model.safetensors")}))

    def reader(path: Path, read: Callable[[], object]) -> tuple[bytes, Reader]:
        """Of safetensors the header alone is changed, and its length stated as it is: no change would get beyond it."""
        content = path.read_bytes()
        start, end = (8, 8 + int.from_bytes(content[:8], "little")) if path.suffix == ".safetensors" else (0, None)

        def replaced(new: bytes) -> None:
            path.unlink()  # a new file: the old one may still be mapped
            path.write_bytes((len(new).to_bytes(8, "little") + new + content[end:]) if end else new)
            try:
                read()
            finally:
                path.unlink()
                path.write_bytes(content)

        return content[start:end], replaced

    return [
        reader(probe, lambda: load_probe(probe)),
        reader(state.path, state.load),
        reader(config, lambda: describe_folder(hub)),
        reader(index, lambda: describe_folder(hub)),
    ]


def shards(folder: Path) -> Seeds:
    """Tokens of the cache and their index."""
    import numpy as np

    keys = [f"{i:032x}/0" for i in range(3)]
    tokens = np.random.RandomState(0).standard_normal((3, 1, 2, 4)).astype(np.float16)
    store = Store(folder, {"encoder": "a"})
    store.add(keys, tokens)
    seeds: Seeds = []
    whole = {path: path.read_bytes() for path in sorted(store.folder.iterdir())}
    for damaged in whole:

        def read(new: bytes, damaged: Path = damaged) -> None:
            for path, content in whole.items():
                path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
                path.write_bytes(new if path == damaged else content)
            opened = Store(folder, {"encoder": "a"})
            opened.open(keys)
            for key, item in zip(keys, tokens, strict=True):
                assert key not in opened.locations or np.array_equal(opened.item(key), item)

        seeds.append((whole[damaged], read))

    def mapped(new: bytes) -> None:
        (folder / "any.npy").unlink(missing_ok=True)
        (folder / "any.npy").write_bytes(new)
        with contextlib.suppress(ValueError):  # which Store.open makes good
            assert map_array(folder / "any.npy").dtype == np.float16

    return [*seeds, (next(content for path, content in whole.items() if path.suffix == ".npy"), mapped)]


TARGETS: dict[str, Callable[[Path], Seeds]] = {
    "annotations": annotations,
    "cards": cards,
    "records": records,
    "weights": weights,
    "shards": shards,
}


def fuzz(target: str, limit: str, folder: Path) -> None:
    """Search until the limit of libFuzzer, such as `-runs=300`; it ends the process."""
    seeds = TARGETS[target](folder / "data")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, (content, _) in enumerate(seeds):
        (corpus / f"{number:03}").write_bytes(bytes([number]) + content)
    words = folder / "words"
    escaped = ["".join(f"\\x{byte:02x}" for byte in word[:60]) for word in TOKENS if word]
    words.write_text("".join(f'"{word}"\n' for word in escaped))

    def once(content: bytes) -> None:
        if not content:
            return
        try:
            seeds[content[0] % len(seeds)][1](content[1:])
        except BenchError as error:
            assert "\n" not in str(error)

    longest = 2 * max(len(content) for content, _ in seeds)
    options = [limit, f"-max_len={longest}", "-len_control=0", f"-dict={words}", "-timeout=20", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={FINDINGS}/", str(corpus)], once)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    limits = parser.add_mutually_exclusive_group()
    limits.add_argument("--seconds", type=int, default=60)
    limits.add_argument("--runs", type=int)
    given = parser.parse_args()
    FINDINGS.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "data").mkdir()
    fuzz(given.target, f"-runs={given.runs}" if given.runs else f"-max_total_time={given.seconds}", folder)


if __name__ == "__main__":
    main()
