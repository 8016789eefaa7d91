"""A probe as it was read from a file: one or more frozen heads, and what the file says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.tensors import weights_digest
from bench.probing import dense
from bench.probing.attentive import AttentiveProbe
from bench.probing.blocks import CLASSIFIERS
from bench.probing.dense import DenseProbe
from bench.probing.mean import MeanProbe
from bench.probing.pooled import LinearProbe


def head_outputs(head: nn.Module) -> tuple[int, ...]:
    """Outputs of the classifiers of a probe, in order."""
    return tuple(len(weight) for weight in _classifiers(head))


def head_width(head: nn.Module) -> int:
    """Width D of the tokens that a probe reads."""
    return _classifiers(head)[0].shape[1]


def _classifiers(head: nn.Module) -> list[Tensor]:
    weights = dict((head.first if isinstance(head, MeanProbe) else head).named_parameters())
    if dense.WEIGHT in weights:
        return [weights[dense.WEIGHT]]
    names = ["linear"] if "linear.weight" in weights else list(CLASSIFIERS)
    return [weights[f"{name}.weight"] for name in names]


class LoadedProbe(nn.Module):
    """`probe(tokens)`: tokens [B, N, D] -> logits [B, C] of the first head; `all_heads=True` -> [heads, B, C].

    `layout` says whose file it was; `class_names` are in the order of the logits, None where the file does not say;
    `metadata` is what a file of our own says; `notes` is what a reader of its scores must know.
    """

    def __init__(
        self,
        heads: Sequence[AttentiveProbe | DenseProbe | LinearProbe | MeanProbe],
        *,
        layout: str,
        class_names: tuple[str, ...] | None = None,
        metadata: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.layout, self.class_names = layout, class_names
        self.metadata, self.notes = dict(metadata or {}), tuple(notes)
        self.eval()

    @property
    def outputs(self) -> tuple[int, ...]:
        """Outputs of the classifiers of a head: C, or those of verb, noun and action."""
        return head_outputs(self.heads[0])

    @property
    def num_classes(self) -> int:
        """Classes C; of a probe of verb, noun and action, its actions."""
        return self.outputs[-1]

    @property
    def embed_dim(self) -> int:
        """Width D of the tokens that it reads."""
        return head_width(self.heads[0])

    @property
    def digest(self) -> str:
        """SHA-256 of the first head: its tensors and the numbers that its file may leave open."""
        head = self.heads[0]
        one = head.first if isinstance(head, MeanProbe) else head
        facts = {name: getattr(one, name) for name in ("num_heads", "norm_eps") if getattr(one, name, None)}
        scale = getattr(head, "token_scale", 1)
        return weights_digest(head, facts if scale == 1 else {**facts, "token_scale": scale})

    def forward(self, tokens: Tensor, *, all_heads: bool = False) -> Tensor:
        if not all_heads:
            logits: Tensor = self.heads[0](tokens)
            return logits
        return torch.stack([head(tokens) for head in self.heads])


def matrix_shape(tensors: Mapping[str, Tensor], name: str, where: str) -> tuple[int, int]:
    """Rows and columns of a matrix that must be there."""
    if name not in tensors or tensors[name].ndim != 2:
        state = f"has shape {list(tensors[name].shape)}" if name in tensors else "is missing"
        raise _misfit([f"'{name}' {state}"], where)
    rows, columns = tensors[name].shape
    return rows, columns


def check_shapes(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise BenchError where the tensors are not exactly the expected ones."""
    problems = [f"'{name}' is missing" for name in expected if name not in tensors]
    problems += [f"'{name}' is unexpected" for name in tensors if name not in expected]
    problems += [
        f"'{name}' has shape {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        raise _misfit(problems, where)


def _misfit(problems: list[str], where: str) -> BenchError:
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    return BenchError(
        f"the tensors do not make a probe: {', '.join(problems[:5])}{more}",
        where=where,
        fix="the file is of another architecture or damaged",
    )
