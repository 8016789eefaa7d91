"""What probes of every token are trained and chosen for: the classes of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench import BenchError
from bench.cards.load import load_probe_card, override
from bench.metrics.iou import VOID, Confusions, PixelCounts, mean_iou
from bench.probing import dense, pixel_classes
from bench.probing.dense import DenseProbe
from bench.probing.pixel_classes import PixelClasses, SquareMasks
from bench.probing.train import fit

GRID = (4, 6)
C = 3


class Painted:
    """Masks of numbered images, each half of one class and half of another, with a void pixel."""

    num_classes = C

    def __init__(self) -> None:
        self.read: list[int] = []

    def read_all(self, numbers: Sequence[int], side: int | None = None) -> Iterator[NDArray[np.int32]]:
        for number in numbers:
            self.read.append(number)
            height, width = (side, side) if side else (8 + number % 3, 12)
            values = np.full((height, width), number % C, dtype=np.int32)
            values[:, width // 2 :] = (number + 1) % C
            values[0, 0] = VOID
            yield values


class Tokens:
    """Two channels noisily tell the class of the half of the image that a token lies in. A TokenSource."""

    num_views, num_tokens, embed_dim = 1, GRID[0] * GRID[1], C

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        classes = np.arange(num_samples)[:, None] + (np.arange(self.num_tokens) % GRID[1] >= GRID[1] // 2)
        shown = np.eye(C)[classes % C] + np.random.RandomState(0).normal(0, 0.05, (num_samples, self.num_tokens, C))
        self.values = torch.from_numpy(shown.astype(np.float16))

    def read(self, rows: NDArray[np.int64], view: int) -> torch.Tensor:
        return self.values[torch.from_numpy(rows)]


def classes(count: int, **changes: object) -> PixelClasses:
    names = tuple(f"image {number}" for number in range(count))
    given = {"targets": np.arange(count), "masks": Painted(), "grid": GRID, "side": 12, "scored_at": "own"}
    return PixelClasses(**{**given, "batch_norm": True, "groups": names, "digests": names, **changes})  # type: ignore[arg-type]


RECIPE = override(
    load_probe_card("segmentation-linear"), "probe", {"lr": [1e-5, 0.05], "weight_decay": 0.0, "min_steps": 100}
)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_sweep_learns_classes_and_chooses_the_setting_that_does(batch_norm: bool) -> None:
    objective = classes(20, batch_norm=batch_norm)
    fitted = fit(RECIPE, Tokens(20), objective, 1, seed=0)
    assert isinstance(fitted.probe, DenseProbe) and (fitted.chosen, fitted.num_held_out) == (1, 4)
    bad, good = fitted.heads
    assert good.accuracy is not None and bad.accuracy is not None and good.accuracy > 0.9 > bad.accuracy
    rows = objective.outputs(fitted.probe, Tokens(20), objective.targets, device="cpu")
    counts = PixelCounts.of(Confusions(*rows.T), 20, C)
    assert mean_iou(counts) > 0.9
    pixels = [(8 + number % 3) * 12 - 1 for number in range(20)]
    assert counts.true.sum(axis=1).tolist() == pixels, "each mask in its own size, void left out"


def test_the_same_seed_gives_the_same_probe() -> None:
    first, second = (fit(RECIPE, Tokens(8), classes(8), 1, seed=3).probe.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_masks_are_scored_in_the_size_that_is_asked_for() -> None:
    objective = classes(3, scored_at=30)
    probe = DenseProbe(dense.initial_weights(C, C, batch_norm=False, seed=0))
    rows = objective.outputs(probe, Tokens(3), objective.targets, device="cpu")
    assert PixelCounts.of(Confusions(*rows.T), 3, C).true.sum(axis=1).tolist() == [899] * 3


def test_outputs_that_are_not_finite_are_no_score() -> None:
    weights = dense.initial_weights(C, C, batch_norm=False, seed=0)
    weights[dense.BIAS][1] = float("nan")
    with pytest.raises(BenchError, match="NaN or infinite"):
        classes(3).outputs(DenseProbe(weights), Tokens(3), np.arange(3), device="cpu")


def test_images_of_one_video_are_held_out_and_drawn_together() -> None:
    objective = classes(12, groups=tuple(f"film {number // 3}" for number in range(12)))
    rest, held_out = objective.hold_out(0.25, seed=0)
    assert len(held_out) == 3 and len({objective.groups[row] for row in held_out}) == 1
    assert sorted([*rest, *held_out]) == list(range(12))
    drawn = objective.draw(0.5, seed=0)
    part = objective.take(drawn)
    assert part.targets.tolist() == drawn.tolist() and len(set(part.groups)) == 2
    assert part.facts() != objective.facts()


@pytest.mark.parametrize(("room", "reads"), [(1.0, [0, 1, 2]), (0.0, [0, 1, 0, 1, 2])])
def test_masks_are_read_again_only_where_they_do_not_fit_the_memory(
    monkeypatch: pytest.MonkeyPatch, room: float, reads: list[int]
) -> None:
    monkeypatch.setattr(pixel_classes, "_MEMORY_SHARE", room)
    masks = Painted()
    squares = SquareMasks(masks, 6)
    assert squares(torch.tensor([0, 1, 0])).shape == (3, 6, 6)
    found = squares(torch.tensor([0, 1, 2]))
    assert masks.read == reads
    expected = np.stack(list(Painted().read_all([0, 1, 2], 6)))
    assert found.dtype == torch.int32 and (found.numpy() == expected).all()


def test_many_classes_are_kept_apart() -> None:
    class Many(Painted):
        num_classes = 300

        def read_all(self, numbers: Sequence[int], side: int | None = None) -> Iterator[NDArray[np.int32]]:
            return (np.array([[VOID, 299], [254, 255]], dtype=np.int32) for _ in numbers)

    assert SquareMasks(Many(), 2)(torch.tensor([5])).tolist() == [[[VOID, 299], [254, 255]]]
