"""Do the tensors of a file make a probe? Whatever is missing, unexpected or misshapen is named."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bench.core.errors import BenchError


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
