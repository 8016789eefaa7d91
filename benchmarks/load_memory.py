# python -m benchmarks.load_memory      (a few minutes; writes 4 GB into the temporary folder, or --folder)
"""Peak memory of loading a ViT-g checkpoint over the bytes of its weights: an official file, and a Hugging Face folder.

The files are synthetic, of the official names and sizes. Each is loaded by `bench.load_encoder` in a process of its
own, digest included, and the peak is that process's largest resident set: mapped pages and the libraries count.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# This process imports nothing large: on Linux, a child's peak begins with what its parent had.
LAYOUTS = {"checkpoint": "vitg.pt", "folder": "vitg-folder"}
SIZES = ("vit_giant_xformers", "vit_large", "vit_tiny")


def make(layout: str, size: str, path: Path) -> None:
    """Write an encoder of zeros in one of the layouts."""
    from dataclasses import replace

    import torch

    from bench.encoders import vjepa

    config = replace(vjepa.SIZES[size], num_frames=64, resolution=256, use_rope=True)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in vjepa.VisionTransformer(config).state_dict().items()}
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if layout == "checkpoint":
        # What official files carry besides: positions without a use, and a predictor that tells the family.
        tensors["pos_embed"] = vjepa.sincos_positions(config.embed_dim, config.native_grid)
        predictor = {f"module.backbone.mask_tokens.{i}": torch.zeros(1, 1, 384) for i in range(10)}
        encoder = {f"module.backbone.{name}": tensor for name, tensor in tensors.items()}
        torch.save({"target_encoder": encoder, "predictor": predictor}, path)
    else:
        _write_folder(path, config, tensors)


def _write_folder(path: Path, config: Any, tensors: dict[str, Any]) -> None:
    """The same encoder under the names of transformers (protocol.md 2.4)."""
    from safetensors.torch import save_file

    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.proj").replace("blocks.", "layer.")
        name = name.replace(".attn.", ".attention.")
        name = "layernorm" + name.removeprefix("norm") if name.startswith("norm") else name
        pieces = zip(("query", "key", "value"), tensor.chunk(3), strict=True) if ".qkv." in name else [("qkv", tensor)]
        renamed |= {f"encoder.{name.replace('qkv', part)}": piece.clone() for part, piece in pieces}
    fields = {
        "model_type": "vjepa2",
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "mlp_ratio": config.mlp_dim / config.embed_dim,
    }
    path.mkdir()
    save_file(renamed, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(fields))


def load(path: Path) -> dict[str, float]:
    """Load what `make` wrote and say what that took."""
    from bench.encoders import load_encoder

    before = _peak_bytes()
    encoder = load_encoder(str(path))
    weights = sum(tensor.nbytes for tensor in encoder.module.state_dict().values())
    return {"weights": weights, "libraries": before, "peak": _peak_bytes(), "ratio": _peak_bytes() / weights}


def _peak_bytes() -> int:
    """Largest resident set of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure(layout: str, size: str, folder: Path) -> dict[str, float]:
    """Make and load in processes of their own."""
    path = folder / LAYOUTS[layout]
    command = [sys.executable, "-m", "benchmarks.load_memory", "--layout", layout, "--size", size, "--step"]
    subprocess.run([*command, "make", "--folder", str(path)], check=True)
    done = subprocess.run([*command, "load", "--folder", str(path)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and print one line a layout, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", choices=LAYOUTS, help="one layout only")
    parser.add_argument("--size", choices=SIZES, default=SIZES[0])
    parser.add_argument("--folder", type=Path, help="where the files are written")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--step", choices=("make", "load"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "make":
        make(options.layout, options.size, options.folder)
        return
    if options.step == "load":
        print(json.dumps(load(options.folder)))
        return
    found = {}
    for layout in [options.layout] if options.layout else LAYOUTS:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            found[layout] = measure(layout, options.size, Path(name))
    if options.json:
        print(json.dumps(found))
        return
    for layout, row in found.items():
        gigabytes = ", ".join(f"{name} {row[name] / 1e9:.2f} GB" for name in ("weights", "libraries", "peak"))
        print(f"{layout}: {gigabytes}; peak / weights {row['ratio']:.2f}")


if __name__ == "__main__":
    main()
