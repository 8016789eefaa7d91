"""An encoder of your own: `bench run --model my_encoder:build`, in the folder of this file."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bench.encoders import Encoder, EncoderFacts, InputSpec


class Patches(nn.Module):
    """Clips [B, 3, T, H, W] -> tokens [B, N, 64]: T/2 x H/8 x W/8 of them, time slowest, then rows, then columns."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv3d(3, 64, kernel_size=(2, 8, 8), stride=(2, 8, 8))

    def forward(self, clips: Tensor) -> Tensor:
        return self.embed(clips).flatten(2).transpose(1, 2)


def build(weights: Path | None = None) -> Encoder:
    """`my_encoder:build` has random weights, `my_encoder:build@weights.pt` those of a file."""
    torch.manual_seed(0)
    module = Patches()
    if weights:
        module.load_state_dict(torch.load(weights, weights_only=True))
    sizes = {"embed_dim": 64, "num_heads": 4, "patch_size": 8, "tubelet_size": 2}
    seen = InputSpec(num_frames=8, resolution=32, frame_step=1)
    return Encoder(EncoderFacts(name="my-encoder", input_spec=seen, architecture={"kind": "mine"}, **sizes), module)
