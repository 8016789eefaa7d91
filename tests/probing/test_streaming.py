"""A probe that is trained on a stream is the one that a cache gives, however the stream is cut or interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probing.sources import ArraySource, ArrayStream, learnable
from torch import Tensor

from bench.cards.load import ProbeCard
from bench.core.errors import BenchError
from bench.probing import FittedProbe, blocks, fit
from bench.probing.checkpoints import Checkpoint, Checkpoints
from bench.probing.objectives import OneLabel
from bench.probing.source import HeldOut, stratified_split
from bench.probing.streaming import num_streamed

ONE = [3e-3]
THREE = [1e-3, 3e-3, 1e-2]


def card(lr: list[float], *, streaming: bool = True, num_blocks: int = 1, refit: bool = True, **more: Any) -> ProbeCard:
    optimisation = {"epochs": 4, "batch_size": 16, "lr": lr, "weight_decay": [0.01], "clip_norm": 1.0, **more}
    selection = {"held_out": 0.2, "refit": refit} if len(lr) > 1 else None
    fields = {"name": "test", "title": "test", "kind": "attentive", "version": 1, "num_blocks": num_blocks}
    return ProbeCard.model_validate(
        {**fields, "streaming": streaming, "optimisation": optimisation, "selection": selection}
    )


def held_out(tokens: Tensor, labels: np.ndarray) -> HeldOut:
    """A fifth of the samples, as the cached route holds them out."""
    _, rows = stratified_split(labels, 0.2, seed=0)
    return HeldOut(rows, rows, ArraySource(tokens[:, torch.from_numpy(rows)]))


def weights(fitted: FittedProbe) -> Tensor:
    return torch.cat([weight.flatten() for _, weight in sorted(fitted.probe.state_dict().items())])


def train(recipe: ProbeCard, data: ArraySource | ArrayStream, labels: np.ndarray, **options: Any) -> FittedProbe:
    return fit(recipe, data, OneLabel(labels, 3), 2, seed=0, **options)


@pytest.mark.parametrize(("num_blocks", "views"), [(1, 1), (1, 4), (2, 4)])
def test_a_stream_gives_the_probe_of_the_cache_to_the_bit(num_blocks: int, views: int) -> None:
    """As many cached views as there are epochs are what a stream shows; one is what it shows without augmentation."""
    source, labels = learnable(40, views=views)
    streamed = train(card(ONE, num_blocks=num_blocks), ArrayStream(source.tokens), labels)
    cached = train(card(ONE, num_blocks=num_blocks, streaming=False), source, labels)
    assert torch.equal(weights(streamed), weights(cached))
    assert streamed.heads[0].train_loss == pytest.approx(cached.heads[0].train_loss, rel=1e-6)
    assert (streamed.steps, streamed.epochs, streamed.batch_size) == (cached.steps, cached.epochs, cached.batch_size)
    assert streamed.streamed is not None and streamed.streamed.clips == 4 * 40 and cached.streamed is None


def test_a_sweep_with_its_choice_is_that_of_the_cache() -> None:
    source, labels = learnable(60)
    stream = ArrayStream(source.tokens)
    streamed = train(card(THREE), stream, labels, chosen_on=held_out(source.tokens, labels))
    cached = train(card(THREE, streaming=False), source, labels)
    assert torch.equal(weights(streamed), weights(cached))
    assert (streamed.chosen, streamed.num_held_out) == (cached.chosen, cached.num_held_out)
    assert [h.loss for h in streamed.heads] == [h.loss for h in cached.heads]
    assert stream.counts.clips == num_streamed(card(THREE), 60) == 4 * 48 + 4 * 60


@pytest.mark.parametrize("num_blocks", [1, 2])
def test_chunks_of_a_batch_change_nothing_but_the_order_of_sums(num_blocks: int) -> None:
    source, labels = learnable(40)
    recipe = card([1e-3], num_blocks=num_blocks, decay_biases=True)
    whole, *cut = (train(recipe, ArrayStream(source.tokens, size=size), labels) for size in (1000, 1, 3))
    for fitted in cut:
        for name, weight in whole.probe.state_dict().items():
            # A bias of the keys cancels in the softmax: its gradient is rounding, which AdamW blows up.
            part = slice(12, None) if name.endswith(".kv.bias") else slice(24, None) if "qkv.bias" in name else ...
            torch.testing.assert_close(fitted.probe.state_dict()[name][part], weight[part], rtol=0, atol=1e-6, msg=name)


def test_a_sweep_is_its_settings_trained_one_by_one() -> None:
    source, labels = learnable(40)
    rates = [1e-4, 3e-4, 1e-3]
    out = held_out(source.tokens, labels)
    together = train(card(rates, refit=False), ArrayStream(source.tokens, size=5), labels, chosen_on=out)
    # A single setting has nothing to choose, so each is given twice.
    alone = [
        train(card([lr, lr], refit=False), ArrayStream(source.tokens, size=5), labels, chosen_on=out) for lr in rates
    ]
    for head, single in zip(together.heads, alone, strict=True):
        assert head.train_loss == pytest.approx(single.heads[0].train_loss, rel=1e-5)
        assert head.loss == pytest.approx(single.heads[0].loss, rel=1e-5)
    torch.testing.assert_close(weights(together), weights(alone[together.chosen]), rtol=0, atol=1e-6)


def test_unreadable_samples_are_listed_and_their_batches_are_means_over_the_others() -> None:
    source, labels = learnable(16)
    stream = ArrayStream(source.tokens, size=5, broken=(3, 11))
    fitted = train(card(ONE), stream, labels)
    rest = np.setdiff1d(np.arange(16), [3, 11])
    without = train(card(ONE, batch_size=14), ArrayStream(source.tokens[:, torch.from_numpy(rest)]), labels[rest])
    assert fitted.streamed is not None and fitted.streamed.failures == {3: "broken", 11: "broken"}
    torch.testing.assert_close(weights(fitted), weights(without), rtol=0, atol=1e-5)


def test_a_batch_without_readable_samples_is_passed_over() -> None:
    source, labels = learnable(17)
    fitted = train(card(ONE), ArrayStream(source.tokens, broken=tuple(range(1, 17))), labels)
    assert fitted.steps == 8 and not fitted.heads[0].diverged


def interrupted(recipe: ProbeCard, tokens: Tensor, labels: np.ndarray, at: list[int], **options: Any) -> FittedProbe:
    """Stopped at these chunks, started again each time, and in the end left to finish."""
    for stop in at:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, ArrayStream(tokens, size=7, stop=stop), labels, **options)
    return train(recipe, ArrayStream(tokens, size=7), labels, **options)


@pytest.mark.parametrize("interval_s", [0.0, 1e9])
def test_an_interrupted_training_goes_on_to_the_same_bits(interval_s: float, tmp_path: Path) -> None:
    """Of 36 chunks; the state is kept after every step, or after every epoch of 3 steps in 9 chunks."""
    source, labels = learnable(40, views=4)
    recipe = card(ONE)
    expected = train(recipe, ArrayStream(source.tokens, size=7), labels)
    first = int(np.random.RandomState().randint(1, 28))
    checkpoints = Checkpoints(tmp_path / "training", interval_s=interval_s)
    fitted = interrupted(recipe, source.tokens, labels, [first, 5], checkpoints=checkpoints)
    assert torch.equal(weights(fitted), weights(expected)), f"interrupted at chunk {first}"
    assert fitted.heads == expected.heads
    assert fitted.streamed is not None and fitted.streamed.clips == 160


def test_groups_and_refit_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished is not trained again, though less memory is free than when the training began."""
    source, labels = learnable(40, views=4)
    recipe = card(THREE, num_blocks=2)
    options = {"chosen_on": held_out(source.tokens, labels)}
    expected = train(recipe, ArrayStream(source.tokens, size=7), labels, **options)
    sizes = iter([2, 1, 3])
    monkeypatch.setattr(blocks, "settings_at_once", lambda num_weights, device: next(sizes))
    # Five chunks an epoch: group 1 takes 20, group 2 as many, the refit 6 x 4.
    options["checkpoints"] = Checkpoints(tmp_path / "training")
    fitted = interrupted(recipe, source.tokens, labels, [27, 30], **options)
    assert torch.equal(weights(fitted), weights(expected)) and fitted.heads == expected.heads
    assert sorted(path.name for path in (tmp_path / "training").iterdir()) == [
        f"refit-{fitted.chosen}-{fitted.chosen}.safetensors",
        "settings_at_once",
        "sweep-0-1.safetensors",
        "sweep-2-2.safetensors",
    ]


def test_a_finished_training_reads_nothing_of_the_stream(tmp_path: Path) -> None:
    source, labels = learnable(20)
    once = train(card(ONE), ArrayStream(source.tokens), labels, checkpoints=Checkpoints(tmp_path))
    stream = ArrayStream(source.tokens)
    again = train(card(ONE), stream, labels, checkpoints=Checkpoints(tmp_path))
    assert torch.equal(weights(once), weights(again)) and not stream.seen


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    source, labels = learnable(20)
    (tmp_path / "train-0-0.safetensors").write_bytes(b"not tensors")
    with pytest.raises(BenchError, match=r"train-0-0.*remove the file"):
        train(card(ONE), ArrayStream(source.tokens), labels, checkpoints=Checkpoints(tmp_path))
    assert Checkpoint(tmp_path / "none").load() is None


def test_held_out_samples_are_not_streamed_before_the_choice() -> None:
    source, labels = learnable(60)
    out = held_out(source.tokens, labels)
    unreadable = HeldOut(out.rows, out.readable[1:], ArraySource(out.tokens.tokens[:, 1:]))  # type: ignore[attr-defined]
    stream = ArrayStream(source.tokens)
    fitted = train(card(THREE, refit=False), stream, labels, chosen_on=unreadable)
    assert set(stream.seen) == set(range(60)) - set(out.rows.tolist())
    assert fitted.num_held_out == len(out.rows) - 1


def test_a_choice_on_cached_views_is_made_on_other_clips_where_they_are_given() -> None:
    source, labels = learnable(60, views=2)
    plain = learnable(60, seed=1)[0].tokens
    out = held_out(plain, labels)
    train(card(THREE, streaming=False, refit=False), source, labels, chosen_on=out)
    assert not {row for _, *rows in source.seen for row in rows} & set(out.rows.tolist())
    assert {row for _, *rows in out.tokens.seen for row in rows} == set(range(len(out.rows)))  # type: ignore[attr-defined]
