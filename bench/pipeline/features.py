"""The features of one split of a task: what could be read, its tokens, and what could not, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.core.types import Split
from bench.data.formats import Sample
from bench.encoders.contract import Encoder
from bench.features.extract import Extraction, feature_fields, item_key
from bench.features.remote import shared_features
from bench.features.shared import extract_shared
from bench.features.store import FeatureSet, Store
from bench.pipeline.plan import RunPlan
from bench.video.clip_views import ClipPlan, VideoItem
from bench.video.contents import changed_since
from bench.video.train_views import TrainViews


@dataclass(frozen=True)
class SplitFeatures:
    """The readable samples of a split in list order, and their tokens in the same order."""

    samples: list[Sample]
    tokens: FeatureSet
    keys: list[list[str]]
    """Of each sample: its items in the feature space, one for each draw."""
    failures: dict[str, str]
    """Sample id -> why it could not be read."""
    extraction: Extraction
    contents: list[str]
    """Content id of every sample of the list, readable or not; empty for a file that is not there."""
    space: str
    """Key of the feature space in the cache."""


@dataclass(frozen=True)
class SplitAccount:
    """What a record says of a split, however its clips were encoded."""

    samples: list[Sample]
    """Those that could be read."""
    failures: dict[str, str]
    """Sample id -> why it could not be read."""
    contents: list[str]
    """As in SplitFeatures."""
    space: str
    """Key of everything that decides the tokens of a video, besides the video."""
    encoded_clips: int
    cached_clips: int
    seconds: float
    """Of bringing features into the cache."""
    num_bytes: int
    """Size of the features in the cache."""
    halved_to: int | None = None
    """As in Extraction."""


def account(features: SplitFeatures) -> SplitAccount:
    """What a record says of a split whose clips are in the cache."""
    done = features.extraction
    return SplitAccount(
        features.samples,
        features.failures,
        features.contents,
        features.space,
        done.encoded_clips,
        done.cached_clips,
        done.seconds,
        features.tokens.num_bytes,
        done.halved_to,
    )


def add_accounts(split: SplitAccount, held_out: SplitAccount) -> SplitAccount:
    """The account of a split, and of other clips of some of its samples."""
    failures = {**split.failures, **held_out.failures}
    return replace(
        split,
        samples=[sample for sample in split.samples if sample.id not in failures],
        failures=failures,
        encoded_clips=split.encoded_clips + held_out.encoded_clips,
        cached_clips=split.cached_clips + held_out.cached_clips,
        seconds=split.seconds + held_out.seconds,
        num_bytes=split.num_bytes + held_out.num_bytes,
        halved_to=min((size for size in (split.halved_to, held_out.halved_to) if size), default=None),
    )


def extract_split(
    plan: RunPlan, split: Split, encoder: Encoder, contents: Mapping[str, str], reporter: Reporter
) -> SplitFeatures:
    """Bring the features of a split into the cache. `contents` maps paths to content ids.

    Raises BenchError where more than the allowed share of the samples cannot be read.
    """
    samples = plan.splits.train if split == "train" else plan.splits.test
    clips = plan.train_clips if split == "train" else plan.test_clips
    stage = f"{encoder.name}: encoding {_in_order(clips)}{split} clips"
    items = {sample.id: sample_items(sample, contents, plan.draws(split)) for sample in samples}
    return _extract(plan, split, samples, items, clips, encoder, contents, stage, reporter)


def extract_held_out(
    plan: RunPlan, samples: list[Sample], encoder: Encoder, contents: Mapping[str, str], reporter: Reporter
) -> SplitFeatures:
    """Bring what a setting is chosen on into the cache: `plan.held_out_clips` of these training samples.

    Raises BenchError where more samples cannot be read than the training split may have.
    """
    if plan.held_out_clips is None:
        raise ValueError("the recipe chooses on the clips that it trains on")
    stage = f"{encoder.name}: encoding {_in_order(plan.held_out_clips)}held-out clips"
    items = {sample.id: sample_items(sample, contents, 1) for sample in samples}
    return _extract(plan, "train", samples, items, plan.held_out_clips, encoder, contents, stage, reporter)


def _in_order(clips: ClipPlan | TrainViews) -> str:
    """What a stage calls clips of another frame order."""
    return "" if clips.frame_order == "ordered" else f"{clips.frame_order} "


def _extract(
    plan: RunPlan,
    split: Split,
    samples: list[Sample],
    items: Mapping[str, list[VideoItem]],
    clips: ClipPlan | TrainViews,
    encoder: Encoder,
    contents: Mapping[str, str],
    stage: str,
    reporter: Reporter,
) -> SplitFeatures:
    store = Store(plan.cache, feature_fields(encoder, clips, plan.options.token_bits))
    workers = plan.options.workers
    all_items = [item for draws in items.values() for item in draws]
    with shared_features(store, plan.remote_cache, map(item_key, all_items), plan.world, reporter):
        done = extract_shared(
            encoder,
            all_items,
            clips,
            store,
            world=plan.world,
            num_workers=environment.default_workers() if workers is None else workers,
            timeout_s=plan.options.timeout_s,
            batch_size=plan.options.batch_size,
            progress=lambda finished, total: reporter.stage(stage, finished, total),
            changed=lambda paths: changed_since(plan.cache, contents, paths),
        )
    _report(done, stage, reporter)
    failures = {}
    for sample in samples:
        reasons = [done.failures[key] for key in map(item_key, items[sample.id]) if key in done.failures]
        if reasons:
            failures[sample.id] = reasons[0]
    refuse_too_many(plan, split, samples, failures)
    readable = [sample for sample in samples if sample.id not in failures]
    keys = [[item_key(item) for item in items[sample.id]] for sample in readable]
    identities = [contents.get(sample.path, "") for sample in samples]
    return SplitFeatures(readable, FeatureSet(store, keys), keys, failures, done, identities, store.key)


def sample_items(sample: Sample, contents: Mapping[str, str], draws: int) -> list[VideoItem]:
    """What the loader is asked for: identified by the file's content, so that equal clips share their tokens."""
    identity = contents.get(sample.path, f"unreadable {sample.path}")
    if sample.start_s is not None or sample.end_s is not None:
        identity += f"@{sample.start_s}-{sample.end_s}"
    if sample.fps is not None:
        identity += f"@{sample.fps}fps"
    return [
        VideoItem(id=identity, path=sample.path, draw=draw, start_s=sample.start_s, end_s=sample.end_s, fps=sample.fps)
        for draw in range(draws)
    ]


def _report(done: Extraction, stage: str, reporter: Reporter) -> None:
    for note in done.notes:
        reporter.say(note)
    encoded = f"{done.encoded_clips} clips" if done.encoded_clips else "nothing to do"
    cached = f", {done.cached_clips} read from the cache" if done.cached_clips else ""
    failed = f", {len(done.failures)} unreadable" if done.failures else ""
    reporter.say(f"{stage}: {encoded}{cached}{failed} ({done.seconds:.1f} s)")


def refuse_too_many(plan: RunPlan, split: Split, samples: Sequence[Sample], failures: Mapping[str, str]) -> None:
    """Raise BenchError where none of `samples` can be read, or fewer of the split than --max-failed demands.

    `failures`: sample id -> why it cannot be read.
    """
    count = len(plan.splits.train if split == "train" else plan.splits.test)
    if len(failures) <= plan.options.max_failed * count and len(failures) < len(samples):
        return
    shown = "; ".join(f"{sample}: {reason}" for sample, reason in list(failures.items())[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    raise BenchError(
        f"{len(failures)} of {count} {split} samples cannot be read ({shown}{more})",
        where=f"task {plan.task.name}",
        fix=f"mend or unlist them; no score is given above --max-failed {plan.options.max_failed}",
    )
