"""What is installed, what works, and what to do about what does not."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.files import cache_folder, content_folder, human_bytes
from bench.core.types import Check
from bench.video.decode import Decoder


def examine(cache: Path | None = None) -> list[Check]:
    """Try everything that a run needs. Nothing raises: a failure is a check that is not ok."""
    checks = [_try(name, probe, fix) for name, probe, fix in _REQUIRED]
    checks.append(_try("cache", lambda: _cache(cache), "choose another folder with --cache or BENCH_CACHE"))
    checks += [_optional(name, fix) for name, fix in _OPTIONAL]
    return checks


def _python() -> str:
    return ", ".join(f"{name} {version}" for name, version in environment.versions().items() if version != "-")


def _device() -> str:
    device = environment.choose_device("auto")
    facts = environment.hardware(device)
    return f"{facts.get('accelerator', device)}; {facts['processor']}, {facts['cores']} cores"


def _content() -> str:
    from bench.cards.load import probe_names, task_names

    if not task_names() or not probe_names():
        raise BenchError("no cards", where=str(content_folder("datasets")))
    return f"{len(task_names())} tasks, {len(probe_names())} probes"


def _video(decoder: Decoder) -> str:
    import numpy as np

    from bench.data.digits import FILE_FRAMES, write_clip
    from bench.video.decode import read_frames

    clip = np.full((FILE_FRAMES, 64, 64), 128, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, clip, quantiser=4)
        frames = read_frames(path, [0, FILE_FRAMES - 1], decoder=decoder)
    if abs(int(frames.mean()) - 128) > 4:
        raise BenchError(f"a grey clip is read as {frames.mean():.0f} instead of 128")
    return "writes and reads H.264"


def _encoder() -> str:
    from bench.encoders import load_encoder

    load_encoder("random")
    return "the untrained encoder answers as its card says"


def _cache(cache: Path | None) -> str:
    folder = cache_folder(cache)
    return f"{folder} ({human_bytes(shutil.disk_usage(folder).free)} free)"


_REQUIRED: list[tuple[str, Callable[[], str], str]] = [
    ("versions", _python, "pip install vjepa-bench again"),
    ("device", _device, "see pytorch.org for a build for your accelerator"),
    ("content", _content, "pip install vjepa-bench again"),
    ("video (PyAV)", lambda: _video("pyav"), "pip install --upgrade av"),
    ("encoder", _encoder, "report this with the output of bench doctor"),
]
_OPTIONAL = [
    ("decord", "faster decoding; has wheels for Linux x86-64 and Windows only: pip install decord"),
    ("transformers", "Hugging Face video encoders: pip install 'vjepa-bench[hf]'"),
    ("submitit", "Slurm: pip install 'vjepa-bench[slurm]'"),
]


def _try(name: str, probe: Callable[[], str], fix: str) -> Check:
    try:
        return Check(name, True, probe())
    except Exception as error:  # noqa: BLE001 - whatever is broken here is what the user asked to see
        return Check(name, False, f"{type(error).__name__}: {error}", fix)


def _optional(name: str, fix: str) -> Check:
    try:
        importlib.import_module(name)
    except ImportError:
        return Check(f"{name} (optional)", True, "not installed", fix)
    if name != "decord":
        return Check(f"{name} (optional)", True, "installed")
    return _try("video (decord)", lambda: _video("decord"), "use --decoder pyav")
