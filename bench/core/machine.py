"""What the run stands on: device, versions, hardware, revision. For records and for `bench doctor`."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import BenchError
from bench.core.version import __version__

if TYPE_CHECKING:
    from bench.core.types import Precision

PACKAGES = (
    "torch",
    "timm",
    "transformers",
    "numpy",
    "pillow",
    "av",
    "decord",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "safetensors",
)


def choose_device(wanted: str) -> str:
    """`auto` is CUDA where present, then MPS, then the CPU; anything else is checked to be there."""
    import torch

    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if wanted == "auto":
        return available[0]
    kind, _, index = wanted.partition(":")
    if kind not in available or (index and not (kind == "cuda" and _is_index(index, torch.cuda.device_count()))):
        raise BenchError(f"no device '{wanted}' here", where="--device", fix=f"available: auto, {', '.join(available)}")
    return wanted


def choose_precision(wanted: str, device: str) -> Precision:
    """`auto` is bf16 on a CUDA device that multiplies it natively, fp16 on older ones, fp32 elsewhere."""
    import torch

    if wanted == "fp32" or (wanted == "auto" and not device.startswith("cuda")):
        return "fp32"
    if wanted == "auto":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if wanted == "bf16":
        return "bf16"
    if wanted == "fp16":
        return "fp16"
    fix = "known: auto, fp32, bf16, fp16; in runs also fastest"
    raise BenchError(f"unknown precision '{wanted}'", where="--precision", fix=fix)


def default_workers() -> int:
    """Decoding processes of this process: one for each core of its share of the machine, at most 16."""
    sharing = os.environ.get("LOCAL_WORLD_SIZE", "")  # processes that torchrun started here
    return max(1, min(16, num_cores() // max(1, int(sharing) if sharing.isdecimal() else 1)))


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of the suite, Python and every package that can change a score; `-` for what is not installed."""
    found = {"vjepa-bench": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def hardware(device: str) -> dict[str, Any]:
    """The machine: processor, cores, memory, accelerator."""
    import torch

    facts: dict[str, Any] = {
        "device": device,
        "processor": _processor(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
    }
    if device.startswith("cuda"):
        facts["accelerator"] = torch.cuda.get_device_name(device)
    return facts


def git_revision() -> str | None:
    """Revision of the checkout that the package runs from; none for an installed wheel."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _is_index(text: str, count: int) -> bool:
    return text.isdecimal() and int(text) < count


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor()
    return platform.processor() or platform.machine()


ENCODER_EFFICIENCY = 0.5
"""Share of the matrix-product rate that a transformer is assumed to reach."""


def matrix_rate(device: str, precision: Precision) -> float:
    """Floating-point operations a second of a matrix product on a device, in a precision."""
    import torch  # what a machine is can be asked without it

    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = names[precision]
    size = 1024 if device == "cpu" else 4096  # smaller ones do not fill a GPU
    a = torch.randn(size, size, device=device, dtype=dtype)
    repeats = 5 if device == "cpu" else 20
    (a @ a).sum().item()
    started = time.perf_counter()
    for _ in range(repeats):
        b = a @ a
    b.sum().item()
    return repeats * 2.0 * size**3 / (time.perf_counter() - started)
