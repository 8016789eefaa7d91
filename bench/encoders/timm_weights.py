"""Models of timm with their weights: from the hub, from a file, or random. Loading is strict."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.tensors import first_line, read_tensors
from bench.encoders.hub_access import hub_access
from bench.encoders.timm_spec import TimmSpec

SEED = 0
STATE_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the weights in their files; the moving average first, as timm reads them."""


def create(spec: TimmSpec, **options: Any) -> Any:
    """A model of timm; they have no type in common that knows what all of them can do."""
    try:
        import timm
    except ImportError as error:
        raise BenchError(f"timm cannot be imported ({error})", where=spec.where, fix="pip install timm") from error
    _check_name(spec)
    return timm.create_model(spec.model, **options).eval().requires_grad_(False)


def _check_name(spec: TimmSpec) -> None:
    import timm
    from timm.models import get_pretrained_cfg

    if not timm.is_model(spec.architecture):
        kind, wanted, known = "model", spec.architecture, timm.list_models()
    else:
        try:
            get_pretrained_cfg(spec.model)
            return
        except RuntimeError:
            names = timm.list_models(f"{spec.architecture}.*", pretrained=True)
            kind, wanted, known = "weights", spec.model, names
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.0)
    raise BenchError(
        f"timm {timm.__version__} has no {kind} '{wanted}'",
        where=spec.where,
        fix=f"nearest: {', '.join(close)}" if close else f"say timm:{spec.architecture}",
    )


def with_weights(spec: TimmSpec, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The model that `spec` names, without its classifier, and where its weights come from. `options` go to timm."""
    if spec.untrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            return create(spec, num_classes=0, **options), f"untrained, seed {SEED}"
    if spec.file:
        return from_file(spec, spec.file, options), f"file {spec.file.name}"
    model = from_hub(spec, options)
    return model, str(model.pretrained_cfg.get("hf_hub_id") or model.pretrained_cfg.get("url"))


def from_hub(spec: TimmSpec, options: Mapping[str, Any]) -> Any:
    """With the weights that timm names, from the hub or its local cache. Built with its classifier, so that timm loads
    strictly; then without."""
    fix = (
        "with a network it is downloaded once; without, copy the hub's cache (HF_HOME) here, or download"
        f" model.safetensors elsewhere and say timm:{spec.model}@FILE; +untrained needs none"
    )
    with hub_access() as online:
        try:
            model = create(spec, pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            nowhere = isinstance(error, OSError) and not online
            reason = "none in the hub's cache, and no connection" if nowhere else first_line(error)
            raise BenchError(f"no weights: {reason}", where=spec.where, fix=fix) from error
    model.reset_classifier(0)
    return model


def from_file(spec: TimmSpec, file: Path, options: Mapping[str, Any]) -> Any:
    """With the weights of a file: every tensor of the encoder there and none too many, whatever its classifier."""
    from timm.models import clean_state_dict, get_pretrained_cfg

    content = read_tensors(file)
    state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        raise BenchError(
            f"'{wrong[0]}' is a {type(state[wrong[0]]).__name__}, not a tensor",
            where=str(file),
            fix=f"give a state dict, bare or under {', '.join(STATE_KEYS)}",
        )
    classifier = getattr(get_pretrained_cfg(spec.model), "classifier", None) or ()
    heads = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    state = {name: value for name, value in clean_state_dict(state).items() if not name.startswith(heads)}
    try:
        # Without the name of a classifier, timm's own loader is strict for an encoder without one.
        overlay = {"state_dict": state, "classifier": None}
        model = create(spec, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options)
    except Exception as error:
        raise BenchError(
            f"its tensors are not those of {spec.architecture}: {' '.join(str(error).split())[:300]}",
            where=str(file),
            fix="give the file that belongs to the model, in timm's layout",
        ) from error
    model.pretrained_cfg.pop("state_dict")  # a second copy
    return model
