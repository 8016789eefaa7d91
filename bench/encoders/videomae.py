"""The biases of VideoMAE's attention, which files and versions of transformers call by different names.

The published files and transformers up to 5.4 have `q_bias` and `v_bias`; from 5.5 on the model has `query.bias` and
`value.bias`, and some versions a `key.bias`. Up to 5.22 no version reads the names of the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from bench.core.inputs import CONFIGURATION, read_json

_OTHER_NAMES = {"query.bias": "q_bias", "value.bias": "v_bias", "q_bias": "query.bias", "v_bias": "value.bias"}
_ENDS = re.compile(r"(?<=attention\.attention\.)(query\.bias|value\.bias|key\.bias|q_bias|v_bias)$")
_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_PREFIX = "videomae."
"""Of the encoder in files of larger models."""


def fill_biases(model: nn.Module, missing: Sequence[str], fetch: Callable[[str], Path | None]) -> list[str]:
    """Give the model its `missing` biases from the files, under the other name; returns the tensors still missing.

    `fetch` takes the name of a file to its path, None where there is none. A key's bias adds the same to all scores of
    a query, which the softmax cancels: it is zero where the files have none.
    """
    if not any(_ENDS.search(name) for name in missing):
        return list(missing)
    held = _files(fetch)
    left = []
    for name in missing:
        match = _ENDS.search(name)
        found = _read(held, name[: match.start()] + _OTHER_NAMES.get(match[0], match[0])) if match else None
        if match and match[0] == "key.bias" and found is None:
            found = torch.zeros_like(model.get_parameter(name))
        if found is None or found.shape != model.get_parameter(name).shape:
            left.append(name)
            continue
        with torch.no_grad():
            model.get_parameter(name).copy_(found)
    return left


def _files(fetch: Callable[[str], Path | None]) -> dict[str, Path]:
    """Every tensor in the files, and the file that holds it."""
    index = fetch(_INDEX)
    names = set(read_json(index, CONFIGURATION)["weight_map"].values()) if index else {_WEIGHTS}
    held = {}
    for path in filter(None, map(fetch, sorted(names))):
        with safe_open(path, framework="pt") as file:
            held.update(dict.fromkeys(file.keys(), path))
    return held


def _read(held: Mapping[str, Path], name: str) -> Tensor | None:
    for known in (name, _PREFIX + name):
        if known in held:
            with safe_open(held[known], framework="pt") as file:
                tensor: Tensor = file.get_tensor(known)
                return tensor
    return None
