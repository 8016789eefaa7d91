"""A module under torch.compile, for batches of one size: any other size would be compiled anew, which takes minutes.

Shapes: b clips of a call, B clips of a full batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError


class CompiledModule:
    """Calls `module`, and its method `layers` if it has one, compiled for the shapes that it is called with first."""

    def __init__(self, module: nn.Module, batch_size: int) -> None:
        self._batch_size = batch_size
        self._forward = torch.compile(module, dynamic=False)
        layers: Any = getattr(module, "layers", None)
        self._layers: Any = layers and torch.compile(layers, dynamic=False)

    def __call__(self, clips: Tensor) -> Tensor:
        """As the module: clips [b, ...] -> tokens [b, ...]. Raises BenchError where it cannot be compiled."""
        tokens: Tensor = self._called(self._forward, clips)[: len(clips)]
        return tokens

    def layers(self, clips: Tensor, out_layers: Sequence[int]) -> list[Tensor]:
        """As the module's."""
        tokens = self._called(lambda batch: self._layers(batch, tuple(out_layers)), clips)
        return [layer[: len(clips)] for layer in tokens]

    def _called(self, call: Callable[[Tensor], Any], clips: Tensor) -> Any:
        """The last clips of a list are filled up to a batch."""
        from torch._dynamo.exc import TorchDynamoException  # slow to import

        missing = self._batch_size - len(clips)
        batch = torch.cat([clips, clips.new_zeros(missing, *clips.shape[1:])]) if missing > 0 else clips
        try:
            return call(batch)
        except torch.cuda.OutOfMemoryError:
            self._batch_size = max(1, len(batch) // 2)  # as the caller, which then gives half as many
            raise
        except TorchDynamoException as error:
            raise BenchError(
                f"the encoder cannot be compiled: {_reason(error)}",
                where="--compile",
                fix="say --compile off; on a CPU it takes a C++ compiler such as g++",
            ) from error


def _reason(error: Exception) -> str:
    """The first line of what went wrong underneath."""
    inner = getattr(error, "inner_exception", None) or error
    return next((line.strip() for line in str(inner).splitlines() if line.strip()), type(inner).__name__)
