"""From a finished run to an encoder with a name: fp16 weights in safetensors, and its model card.

    python -m bench.pretrain.export runs/mine --name mine --title "V-JEPA, nano" --command "bench pretrain ..."

writes mine.safetensors and mine.yaml into the current folder, or `--to`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from bench.core import machine as environment
from bench.core.console import say
from bench.core.errors import BenchError
from bench.core.files import atomic_write, check_output
from bench.core.tensors import read_tensors
from bench.encoders import known_answer, load_encoder
from bench.pretrain.checkpoint import load_state, shapes
from bench.pretrain.logs import read_log
from bench.pretrain.plan import LATEST

_CURVE_POINTS = 40


def export(run: Path, *, name: str, title: str, command: str, pretrained_on: str, to: Path) -> Path:
    """Write `to/NAME.safetensors` (the averaged encoder, fp16) and its card `to/NAME.yaml`; returns the card's path.

    Everything in the card but the words given here is read from the run's own files. Raises BenchError where `run` is
    no finished run.
    """
    content = read_tensors(run / LATEST)
    ours, log = content.get("bench"), read_log(run / "log.csv")
    if not isinstance(ours, dict) or not log or log[-1]["step"] != ours["step"]:
        raise BenchError("is no finished pretraining run", where=str(run), fix="give the --out of one")
    state = load_state(run / LATEST)
    facts = {key: ours[key] for key in ("objective", "input", "preset", "step", "samples")}
    tensors = {key: value.to(torch.float16).contiguous() for key, value in state.target_encoder.state_dict().items()}
    weights, described = to / f"{name}.safetensors", to / f"{name}.yaml"
    for path in (weights, described):
        check_output(path, option="--to", inputs=run.iterdir())
    with atomic_write(weights) as temporary:
        save_file(tensors, temporary, {"bench": json.dumps({**shapes(state), **facts})})
    encoder = load_encoder(str(weights))
    every = max(1, len(log) // _CURVE_POINTS)
    card: dict[str, Any] = {
        "name": name,
        "title": title,
        "family": state.encoder.config.family,
        "size": ours["preset_content"]["encoder"]["size"],
        "num_frames": encoder.input_spec.num_frames,
        "resolution": encoder.input_spec.resolution,
        "parameters_m": round(sum(p.numel() for p in state.encoder.parameters() if p.requires_grad) / 1e6, 2),
        "pretrained_on": pretrained_on,
        "licence": "Apache-2.0",
        "file": weights.name,
        "training": {
            "command": command,
            "preset": ours["preset"],
            "objective": ours["objective"],
            "seed": ours["preset_content"]["seed"],
            "samples": ours["samples"],
            "steps": ours["step"],
            "wall_time_s": round(sum(row["seconds"] for row in log)),
            "machine": machine(),
            "loss_curve": [[int(row["samples"]), round(row["loss"], 4)] for row in _thinned(log, every)],
        },
        "known_answer": [round(value, 5) for value in known_answer(encoder)],
    }
    with atomic_write(described) as temporary:
        text = yaml.safe_dump(card, sort_keys=False, width=120, default_flow_style=None)
        temporary.write_text(text, encoding="utf-8")
    return described


def machine() -> str:
    """This machine in a few words."""
    facts = environment.hardware("cpu")
    return f"{facts['processor']}, {facts['cores']} cores, torch {environment.versions()['torch']}"


def _thinned(log: list[dict[str, float]], every: int) -> list[dict[str, float]]:
    """The first row, every `every`-th, and the last."""
    kept = {0, len(log) - 1, *range(every - 1, len(log), every)}
    return [log[i] for i in sorted(kept)]


def main() -> None:
    """Read the arguments and export."""
    parser = argparse.ArgumentParser(description="Make a named encoder of a pretraining run.")
    parser.add_argument("run", type=Path, help="the --out of the run")
    for option in ("name", "title", "command"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--pretrained-on", default="moving digits, generated without end, unlabelled")
    parser.add_argument("--to", type=Path, default=Path())
    options = vars(parser.parse_args())
    say(str(export(options.pop("run"), **options)))


if __name__ == "__main__":
    main()
