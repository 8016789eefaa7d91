"""Extraction: each clip once, resumed where it stopped, every failure listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import write_video

from bench import BenchError
from bench.encoders import Encoder, load_encoder
from bench.features import extract as module
from bench.features.extract import ExtractOptions, extract, space_fields
from bench.features.spec import ClipTokens, item_key
from bench.features.store import Store, space_key
from bench.video import views
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.clips import segment_indices
from bench.video.contents import CHANGED, changed_since, content_ids
from bench.video.decode import read_frames

PLAN = ClipPlan(
    frames_per_clip=8, frame_step=1, num_segments=1, views=1, size=16, sampling="center", seed=0,
    short_side=16, decoder="auto",
)  # fmt: skip
SPEC = ClipTokens()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoItem]:
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    paths = [write_video(folder / f"{i}.mp4", rng.integers(0, 255, (9, 16, 16, 3), np.uint8)) for i in range(5)]
    ids = content_ids(folder, [str(p) for p in paths])
    return [VideoItem(id=ids[str(p)], path=str(p)) for p in paths]


def run(  # type: ignore[no-untyped-def]
    cache: Path,
    items: list[VideoItem],
    plan: ClipPlan = PLAN,
    encoder: Encoder | None = None,
    changed: Callable[[Iterable[str]], Collection[str]] = lambda paths: (),
    **options: Any,
):
    encoder = encoder or load_encoder("random")
    store = Store(cache, space_fields(encoder, plan, SPEC))
    how = ExtractOptions(**{"num_workers": 0, **options})
    requests = [SPEC.request(item) for item in items]
    return store, extract(encoder, requests, plan, SPEC, store, how, changed=changed)


def test_tokens_are_those_of_a_plain_loop(tmp_path: Path, videos: list[VideoItem]) -> None:
    store, done = run(tmp_path, videos, batch_size=2)
    encoder = load_encoder("random")
    for item in videos:
        frames = read_frames(item.path, range(8))
        clip = views.test_views(frames, 16, 1, short_side=16)
        expected = encoder(clip)[0]
        assert torch.allclose(torch.from_numpy(store.item(item_key(item))[0].copy()).float(), expected, atol=4e-3)
    assert (done.encoded_clips, done.cached_clips, done.failures) == (5, 0, {})


def test_clips_are_normalised_as_the_plan_says(tmp_path: Path, videos: list[VideoItem]) -> None:
    own = load_encoder("pixels")
    mean, std = (0.5, 0.4, 0.3), (0.5, 1.0, 0.25)
    encoder = own.as_planned(own.facts.normalising(mean, std))
    store, _ = run(tmp_path, videos[:1], encoder=encoder)
    clip = views.test_views(read_frames(videos[0].path, range(8)), 16, 1, mean=mean, std=std, short_side=16)
    found = torch.from_numpy(store.item(item_key(videos[0]))[0].copy()).float()
    assert torch.allclose(found, own(clip)[0], atol=4e-3)
    fields = space_fields(encoder, PLAN, SPEC)
    assert (fields["mean"], fields["std"]) == (mean, std) and fields != space_fields(own, PLAN, SPEC)
    same = own.facts.normalising(own.input_spec.mean, None)
    assert space_fields(own.as_planned(same), PLAN, SPEC) == space_fields(own, PLAN, SPEC)


def test_segments_are_joined_in_order_and_views_kept_apart(tmp_path: Path, videos: list[VideoItem]) -> None:
    """protocol.md 4.3: the tokens of the K clips of a view follow each other."""
    plan = ClipPlan(
        frames_per_clip=2, frame_step=1, num_segments=2, views=3, size=16, sampling="center", seed=0,
        short_side=None, decoder="auto",
    )  # fmt: skip
    store, done = run(tmp_path, videos[:1], plan)
    tokens = store.item(item_key(videos[0]))
    assert tokens.shape == (3, 2 * 16, 64) and done.encoded_clips == 6
    encoder = load_encoder("random")
    indices = segment_indices(9, 2, 1, 2)
    first, second = (views.test_views(read_frames(videos[0].path, i), 16, 3) for i in indices)
    expected = torch.cat([encoder(first), encoder(second)], dim=1)
    assert torch.allclose(torch.from_numpy(tokens.copy()).float(), expected, atol=4e-3)


def test_a_second_extraction_encodes_nothing(tmp_path: Path, videos: list[VideoItem]) -> None:
    run(tmp_path, videos[:3])
    _, done = run(tmp_path, videos)
    assert (done.encoded_clips, done.cached_clips) == (2, 3)


def test_equal_files_are_encoded_once(tmp_path: Path, videos: list[VideoItem]) -> None:
    _, done = run(tmp_path, [videos[0], videos[0], videos[1]])
    assert done.encoded_clips == 2


def test_an_interrupted_extraction_goes_on_at_the_last_finished_shard(
    tmp_path: Path, videos: list[VideoItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "items_per_shard", lambda item_bytes: 2)
    encoder = load_encoder("random")
    forward, calls = encoder.module.forward, []

    def stop_at_the_fourth(clips: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(clips)  # type: ignore[no-any-return]

    encoder.module.forward = stop_at_the_fourth
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, videos, encoder=encoder, batch_size=1)
    _, done = run(tmp_path, videos, batch_size=1)
    assert (done.cached_clips, done.encoded_clips) == (2, 3)


def test_unreadable_items_are_listed_and_the_others_kept(tmp_path: Path, videos: list[VideoItem]) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    items = [videos[0], VideoItem(id="bad", path=str(empty)), videos[1], VideoItem(id="gone", path="gone.mp4")]
    store, done = run(tmp_path, items)
    assert set(done.failures) == {"bad/0", "gone/0"}
    assert "empty" in done.failures["bad/0"]
    assert set(store.locations) == {item_key(videos[0]), item_key(videos[1])}


def test_a_corrupted_shard_is_encoded_again(tmp_path: Path, videos: list[VideoItem]) -> None:
    store, _ = run(tmp_path, videos)
    intact = [store.item(item_key(item)).copy() for item in videos]
    shard = next(store.folder.glob("*.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 0x10
    shard.write_bytes(content)
    store, done = run(tmp_path, videos)
    assert done.encoded_clips == 5 and "damaged shard" in done.notes[0]
    assert all(np.array_equal(store.item(item_key(i)), t) for i, t in zip(videos, intact, strict=True))


def test_on_a_cpu_no_clip_shares_a_batch(tmp_path: Path, videos: list[VideoItem]) -> None:
    encoder = load_encoder("random")
    forward, sizes = encoder.module.forward, []

    def count(clips: torch.Tensor) -> torch.Tensor:
        sizes.append(len(clips))
        return forward(clips)  # type: ignore[no-any-return]

    encoder.module.forward = count
    _, done = run(tmp_path, videos, change(num_segments=2, views=3), encoder, batch_size=4)
    assert set(sizes) == {1} and sum(sizes) == done.encoded_clips == 30


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64}, {"num_workers": 2}])
def test_batches_and_workers_do_not_change_the_tokens(
    tmp_path: Path, videos: list[VideoItem], options: dict[str, int]
) -> None:
    reference, _ = run(tmp_path / "a", videos, batch_size=3)
    store, _ = run(tmp_path / "b", videos, **options)
    for item in videos:
        assert np.allclose(store.item(item_key(item)), reference.item(item_key(item)), atol=2e-3)


def test_a_video_that_changes_while_it_is_read_fails_and_leaves_no_tokens(
    tmp_path: Path, videos: list[VideoItem]
) -> None:
    paths = [shutil.copy2(item.path, tmp_path) for item in videos]
    contents = content_ids(tmp_path, paths)
    items = [VideoItem(id=contents[path], path=path) for path in paths]
    shutil.copyfile(paths[3], paths[2])
    store, done = run(tmp_path, items, changed=lambda read: changed_since(tmp_path, contents, read))
    assert done.failures == {item_key(items[2]): CHANGED} and done.encoded_clips == 4
    assert store.locations.keys() == {item_key(item) for item in items} - done.failures.keys()


def test_tokens_that_are_not_finite_are_refused(tmp_path: Path, videos: list[VideoItem]) -> None:
    encoder = load_encoder("random")
    encoder.module.norm.weight.fill_(1e6)
    with pytest.raises(BenchError, match="not finite"):
        run(tmp_path, videos, encoder=encoder)


def test_a_full_disk_is_noticed_before_anything_is_encoded(
    tmp_path: Path, videos: list[VideoItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(BenchError, match=r"the features take 40\.0 KiB, and 1000 bytes are free"):
        run(tmp_path, videos)


def change(**fields: object) -> ClipPlan:
    from dataclasses import replace

    return replace(PLAN, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "plan",
    [
        change(frames_per_clip=4), change(frame_step=2), change(num_segments=2), change(views=3), change(size=32),
        change(short_side=None), change(sampling="random"), change(decoder="decord"),
    ],
)  # fmt: skip
def test_what_changes_the_tokens_changes_the_space(plan: ClipPlan) -> None:
    encoder = load_encoder("random")
    assert space_fields(encoder, plan, SPEC) != space_fields(encoder, PLAN, SPEC)


def test_what_does_not_change_the_tokens_does_not_change_the_space() -> None:
    encoder = load_encoder("random")
    assert space_fields(encoder, change(seed=5), SPEC) == space_fields(encoder, PLAN, SPEC), "the centre draws nothing"
    assert space_fields(encoder, change(decoder="pyav"), SPEC) == space_fields(encoder, PLAN, SPEC)


def test_encoder_and_precision_are_in_the_space() -> None:
    fields = [space_fields(load_encoder(m).to("cpu", p), PLAN, SPEC) for m, p in
              (("random", "fp32"), ("random", "bf16"), ("pixels", "fp32"))]  # fmt: skip
    assert len({str(f) for f in fields}) == 3


def test_content_ids_follow_the_bytes_not_the_name(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in "abc"]
    ids = content_ids(tmp_path, paths)
    assert ids[paths[0]] == ids[paths[1]] != ids[paths[2]]
    (tmp_path / "a").write_bytes(b"three")
    assert content_ids(tmp_path, [*paths, "missing"])[paths[0]] not in ids.values()
    (tmp_path / "contents.sqlite").write_bytes(b"this is not a database, whatever its name says" * 100)
    assert content_ids(tmp_path, paths)[paths[1]] == ids[paths[1]]


def test_preprocessing_is_a_part_of_the_key_where_it_is_not_the_official_one() -> None:
    encoder = load_encoder("random")
    official = space_fields(encoder, PLAN, SPEC)
    assert not {"interpolation", "squash", "fps", "duration_s"} & official.keys(), "keys of cached features"
    others = [replace(PLAN, interpolation="bicubic"), replace(PLAN, squash=True), replace(PLAN, short_side=18)]
    spaces = {space_key(space_fields(encoder, plan, SPEC)) for plan in [PLAN, *others]}
    assert len(spaces) == 4


def test_a_step_by_time_is_a_part_of_the_key_in_place_of_the_step_by_frames() -> None:
    encoder = load_encoder("random")
    plans = [PLAN, replace(PLAN, fps=4.0), replace(PLAN, fps=8.0), replace(PLAN, duration_s=4.0)]
    assert len({space_key(space_fields(encoder, plan, SPEC)) for plan in plans}) == 4
    assert space_fields(encoder, replace(PLAN, fps=4.0, frame_step=9), SPEC) == space_fields(encoder, plans[1], SPEC)
