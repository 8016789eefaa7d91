"""Parameters of transformers' encoders have one name in every version, so that an upgrade changes no digest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.core.tensors import weights_digest
from bench.encoders.hf_names import canonical_name

VIVIT = {
    "encoder.layer.11.attention.attention.query.weight": "layers.11.attention.q_proj.weight",
    "encoder.layer.11.attention.attention.key.bias": "layers.11.attention.k_proj.bias",
    "encoder.layer.11.attention.attention.value.weight": "layers.11.attention.v_proj.weight",
    "encoder.layer.11.attention.output.dense.weight": "layers.11.attention.o_proj.weight",
    "encoder.layer.11.intermediate.dense.bias": "layers.11.mlp.fc1.bias",
    "encoder.layer.11.output.dense.weight": "layers.11.mlp.fc2.weight",
    "encoder.layer.11.layernorm_before.weight": "layers.11.layernorm_before.weight",
    "encoder.layer.11.layernorm_after.bias": "layers.11.layernorm_after.bias",
    "embeddings.cls_token": "embeddings.cls_token",
    "layernorm.weight": "layernorm.weight",
}
VIDEOMAE = {
    "encoder.layer.0.attention.attention.q_bias": "encoder.layer.0.attention.attention.query.bias",
    "encoder.layer.0.attention.attention.v_bias": "encoder.layer.0.attention.attention.value.bias",
    "encoder.layer.0.attention.attention.query.weight": "encoder.layer.0.attention.attention.query.weight",
    "encoder.layer.0.output.dense.bias": "encoder.layer.0.output.dense.bias",
}
CASES = [("VivitModel", *pair) for pair in VIVIT.items()] + [("VideoMAEModel", *pair) for pair in VIDEOMAE.items()]


@pytest.mark.parametrize(("model_class", "old", "new"), CASES)
def test_old_and_new_names_are_one(model_class: str, old: str, new: str) -> None:
    for prefix in ("", "model."):
        assert canonical_name(model_class, prefix + old) == prefix + new
        assert canonical_name(model_class, prefix + new) == prefix + new


def test_a_bias_of_keys_changes_nothing_in_videomae_alone() -> None:
    name = "model.encoder.layer.0.attention.attention.key.bias"
    assert canonical_name("VideoMAEModel", name) is None
    assert canonical_name("TimesformerModel", name) == name


class Named(nn.Module):
    """Tensors under names of a version."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:
        return self.tensors

    def canonical_name(self, name: str) -> str | None:
        return canonical_name("VivitModel", name)


def test_a_digest_is_of_weights_and_their_places() -> None:
    draws = {old: torch.randn(3, generator=torch.Generator().manual_seed(k)) for k, old in enumerate(VIVIT)}
    old, new = Named(draws), Named({VIVIT[name]: tensor for name, tensor in reversed(draws.items())})
    assert weights_digest(old, {}) == weights_digest(new, {})
    first, second, *_ = VIVIT
    exchanged = Named({**draws, first: draws[second], second: draws[first]})
    assert weights_digest(exchanged, {}) != weights_digest(old, {})
