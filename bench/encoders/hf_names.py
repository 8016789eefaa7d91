"""One name for each parameter of transformers' video encoders, whatever the installed version calls it.

An encoder is known by its weights under their names, and must be the same encoder after an upgrade. VideoMAE's `q_bias`
and `v_bias` became `query.bias` and `value.bias` by 5.5, with a `key.bias` beside them until 5.12 or later; ViViT's
layers were written anew between 5.8 and 5.12, with other names for all that they hold.
"""

from __future__ import annotations

import re

_VIDEOMAE = {
    r"(attention\.attention)\.q_bias$": r"\1.query.bias",
    r"(attention\.attention)\.v_bias$": r"\1.value.bias",
}
_VIVIT = {
    r"\bencoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)(uery|ey|alue)\.": r"layers.\1.attention.\2_proj.",
    r"\bencoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.o_proj.",
    r"\bencoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.fc1.",
    r"\bencoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.fc2.",
    r"\bencoder\.layer\.(\d+)\.layernorm_": r"layers.\1.layernorm_",
}
_RENAMED = {"VideoMAEModel": _VIDEOMAE, "VivitModel": _VIVIT}
_NO_EFFECT = re.compile(r"attention\.attention\.key\.bias$")
"""VideoMAE's: it adds the same to all scores of a query, which the softmax cancels."""


def canonical_name(model_class: str, name: str) -> str | None:
    """The name of a parameter in transformers 5.24; None where the tokens do not depend on it."""
    if model_class == "VideoMAEModel" and _NO_EFFECT.search(name):
        return None
    for pattern, renamed in _RENAMED.get(model_class, {}).items():
        name = re.sub(pattern, renamed, name)
    return name
