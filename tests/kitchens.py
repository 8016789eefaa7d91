"""A small EPIC-KITCHENS-100: long videos in the official layout, in which what will be done is announced.

Every action takes four seconds: one in which brightness tells the verb and colour the noun, a second of grey, and two
of grey in which it is done. So a clip that ends one second before the start sees what is announced, and one that ends
one second before the end sees nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from support import GOLDEN, write_video

from bench.encoders.predictor import Predictor, PredictorConfig

FPS = 8
VERBS, NOUNS = 4, 3
_COLUMNS = (
    "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame,verb,verb_class,noun,"
    "noun_class"
)


def kitchen(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> Path:
    """Videos of `folder`, each with all twelve actions in another order; the annotations in `folder`/annotations."""
    rng = np.random.default_rng(seed)
    (folder / "annotations").mkdir(parents=True)
    info = ["video_id,duration,fps,resolution"]
    for split, count, participant in (("train", train, "P01"), ("validation", test, "P02")):
        rows = [_COLUMNS]
        for number in range(count):
            name = f"{participant}_{number + 1:02d}"
            order = rng.permutation(VERBS * NOUNS)
            write_video(folder / participant / "videos" / f"{name}.MP4", _film(order, rng), fps=FPS)
            info.append(f"{name},{4 * len(order)},{FPS},16x16")
            rows += [_row(f"{name}_{place}", participant, name, place, action) for place, action in enumerate(order)]
        (folder / "annotations" / f"EPIC_100_{split}.csv").write_text("\n".join(rows) + "\n")
    (folder / "annotations" / "EPIC_100_video_info.csv").write_text("\n".join(info) + "\n")
    return folder


def _film(order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frames = np.full((len(order) * 4 * FPS, 16, 16, 3), 128.0)
    for place, action in enumerate(order):
        announced = np.full(3, 60.0 + 50 * (action // NOUNS))
        announced[action % NOUNS] *= 0.4
        frames[place * 4 * FPS : (place * 4 + 1) * FPS] = announced
    return np.clip(rng.normal(frames, 6), 0, 255).astype(np.uint8)


def _row(action_id: str, participant: str, video: str, place: int, action: int) -> str:
    start, stop = 4 * place + 2, 4 * place + 4
    times = f"00:00:{start:02d}.00,00:00:{stop:02d}.00,{start * FPS},{stop * FPS}"
    verb, noun = divmod(int(action), NOUNS)
    return f"{action_id},{participant},{video},{times},verb,{verb},noun,{noun}"


def with_predictor(path: Path) -> Predictor:
    """Write the small V-JEPA 2 encoder with a predictor of random weights to `path`, as official files hold it."""
    config = PredictorConfig(
        encoder_dim=48,
        out_dim=48,
        embed_dim=72,
        depth=2,
        num_heads=12,
        grid=(9, 4, 4),
        num_mask_tokens=10,
        use_rope=True,
    )
    predictor = Predictor(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    weights = {f"module.backbone.{name}": tensor for name, tensor in predictor.state_dict().items()}
    torch.save({**torch.load(GOLDEN / "vjepa2.pt", weights_only=True), "predictor": weights}, path)
    return predictor.eval()
