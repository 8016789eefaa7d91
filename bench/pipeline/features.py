"""The features of one split of a task: what could be read, its tokens, and what could not, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.core import machine as environment
from bench.core.errors import BenchError
from bench.core.progress import Reporter
from bench.core.types import Split
from bench.data.missing_files import size_of
from bench.data.sample import Sample
from bench.data.staging import bring_files
from bench.encoders.contract import Encoder
from bench.features.extract import Extraction, ExtractOptions, extract_shared, space_fields
from bench.features.remote import shared_features
from bench.features.spec import Request, sample_items
from bench.features.store import FeatureSet, Store, space_key
from bench.features.stream import ClipStream
from bench.probing.source import Rows
from bench.probing.streaming import StreamCounts
from bench.tasks.kind import RunPlan
from bench.video.clip_views import Views
from bench.video.contents import changed_since, content_ids


@dataclass(frozen=True)
class SplitFeatures:
    """The readable samples of a split in list order, and the tokens of their examples in the same order."""

    samples: list[Sample]
    tokens: FeatureSet | None
    """None where there is no example, such as a box, in any of them."""
    keys: list[list[str]]
    """Items of each example in the feature space, one for each draw."""
    failures: dict[str, str]
    """Sample id -> why it could not be read."""
    extraction: Extraction
    contents: list[str]
    """Content id of every sample of the list, readable or not; empty for a file that is not there."""
    space: str
    """Key of the feature space in the cache."""

    @property
    def num_bytes(self) -> int:
        """Size of all features in the cache."""
        return self.tokens.num_bytes if self.tokens else 0


@dataclass(frozen=True)
class StreamedSplit:
    """A training split that is encoded while a probe is trained on it."""

    samples: list[Sample]
    """Samples that have a file."""
    tokens: ClipStream
    owners: list[int]
    """The number of each example's sample, in the order of the stream."""
    keys: list[list[str]]
    """The item of each example, whatever the epoch draws from it."""
    failures: dict[str, str]
    """Sample id -> why it has no file."""
    contents: list[str]
    """Content id of every sample of the list, as in SplitFeatures."""
    space: str
    """Key of everything that decides the tokens of a video in an epoch, besides the video."""


@dataclass(frozen=True)
class SplitAccount:
    """What a record says of a split, however its clips were encoded."""

    samples: list[Sample]
    """Samples that could be read."""
    failures: dict[str, str]
    """Sample id -> why it could not be read."""
    contents: list[str]
    """As in SplitFeatures."""
    space: str
    """Key of everything that decides the tokens of a video, besides the video."""
    encoded_clips: int
    cached_clips: int
    seconds: float
    """Time that it took to bring the features into the cache."""
    num_bytes: int
    """Size of the features in the cache."""
    num_examples: int
    halved_to: int | None = None
    """As in Extraction."""


def account(features: SplitFeatures) -> SplitAccount:
    """What a record says of a split whose clips are in the cache."""
    done = features.extraction
    return SplitAccount(
        samples=features.samples,
        failures=features.failures,
        contents=features.contents,
        space=features.space,
        encoded_clips=done.encoded_clips,
        cached_clips=done.cached_clips,
        seconds=done.seconds,
        num_bytes=features.num_bytes,
        num_examples=len(features.keys),
        halved_to=done.halved_to,
    )


def streamed_account(split: StreamedSplit, done: StreamCounts, *, encoded_now: bool) -> SplitAccount:
    """What a record says of a split when its stream has `done` this, in an earlier run or now."""
    failed = {split.samples[split.owners[row]].id: reason for row, reason in done.failures.items()}
    return SplitAccount(
        samples=[sample for sample in split.samples if sample.id not in failed],
        failures={**split.failures, **failed},
        contents=split.contents,
        space=split.space,
        encoded_clips=done.clips if encoded_now else 0,
        cached_clips=0,
        seconds=0.0,
        num_bytes=0,
        num_examples=len(split.keys) - len(done.failures),
        halved_to=split.tokens.at_once.halved_to,
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


def content_ids_of(plan: RunPlan, reporter: Reporter) -> dict[str, str]:
    """Content ids of all files of the plan, by path; every process hashes its part, and progress is told of its own."""
    paths = [sample.path for sample in (*plan.splits.train, *plan.splits.test)]
    bring_files(paths, plan.world, reporter)
    distinct, world = list(dict.fromkeys(paths)), plan.world

    def progress(done: int, total: int) -> None:
        reporter.stage("hashing files", done, total)

    parts = world.gather(content_ids(plan.cache, distinct[world.rank :: world.size], progress))
    return {path: digest for part in parts for path, digest in part.items()}


def extract_split(
    plan: RunPlan, split: Split, encoder: Encoder, contents: Mapping[str, str], reporter: Reporter
) -> SplitFeatures:
    """Bring the features of a split into the cache. `contents` maps paths to content ids.

    Raises BenchError where more than the allowed share of the samples cannot be read.
    """
    clips = plan.train_clips if split == "train" else plan.test_clips
    stage = f"{encoder.name}: encoding {_in_order(clips)}{split} {plan.kind.items}"
    return _extract(plan, split, plan.samples(split), plan.draws(split), clips, encoder, contents, stage, reporter)


def extract_held_out(
    plan: RunPlan, samples: list[Sample], encoder: Encoder, contents: Mapping[str, str], reporter: Reporter
) -> SplitFeatures:
    """Bring what a setting is chosen on into the cache: `plan.held_out_clips` of these training samples.

    Raises BenchError where more samples cannot be read than the training split may have.
    """
    if plan.held_out_clips is None:
        raise ValueError("the recipe chooses on the clips that it trains on")
    stage = f"{encoder.name}: encoding {_in_order(plan.held_out_clips)}held-out {plan.kind.items}"
    return _extract(plan, "train", samples, 1, plan.held_out_clips, encoder, contents, stage, reporter)


def _in_order(clips: Views) -> str:
    """What a stage calls clips of another frame order."""
    return "" if clips.frame_order == "ordered" else f"{clips.frame_order} "


def _extract(
    plan: RunPlan,
    split: Split,
    samples: list[Sample],
    draws: int,
    clips: Views,
    encoder: Encoder,
    contents: Mapping[str, str],
    stage: str,
    reporter: Reporter,
) -> SplitFeatures:
    store = Store(plan.cache, space_fields(encoder, clips, plan.spec, plan.options.token_bits))
    asked = {sample.id: requests(plan, sample, contents, draws) for sample in samples}
    everything = [one for of_sample in asked.values() for one in of_sample]
    keys = (key for one in everything for key in one.keys)
    with shared_features(store, plan.remote_cache, keys, plan.world, reporter):
        done = extract_shared(
            encoder,
            everything,
            clips,
            plan.spec,
            store,
            extract_options(plan),
            world=plan.world,
            progress=lambda finished, total: reporter.stage(stage, finished, total),
            changed=lambda paths: changed_since(plan.cache, contents, paths),
        )
    _report(done, stage, plan.kind.items, reporter)
    failures = {}
    for sample in samples:
        reasons = [done.failures[one.id] for one in asked[sample.id] if one.id in done.failures]
        if reasons:
            failures[sample.id] = reasons[0]
    refuse_too_many(plan, split, samples, failures)
    readable = [sample for sample in samples if sample.id not in failures]
    of_samples = (zip(*(one.keys for one in asked[sample.id]), strict=True) for sample in readable)
    examples = [list(draws) for of_sample in of_samples for draws in of_sample]
    if split == "train" and not examples:
        raise BenchError("no box to train on could be read", where=f"task {plan.task.name}")
    identities = [contents.get(sample.path, "") for sample in samples]
    tokens = FeatureSet(store, examples) if examples else None
    return SplitFeatures(readable, tokens, examples, failures, done, identities, store.key)


def requests(plan: RunPlan, sample: Sample, contents: Mapping[str, str], draws: int) -> list[Request]:
    """What the encoder is asked of a sample, one request for each draw."""
    return [plan.spec.request(item, sample) for item in sample_items(sample, contents, draws)]


def extract_options(plan: RunPlan) -> ExtractOptions:
    """How the items of a plan are decoded and encoded."""
    options = plan.options
    workers = environment.default_workers() if options.workers is None else options.workers
    return ExtractOptions(num_workers=workers, timeout_s=options.timeout_s, batch_size=options.batch_size)


def examples_of(plan: RunPlan, samples: Sequence[Sample]) -> list[int]:
    """The number of its sample, for each example of these samples in order."""
    counts = [len(plan.spec.request(sample_items(sample, {}, 1)[0], sample).keys) for sample in samples]
    return [number for number, count in enumerate(counts) for _ in range(count)]


def _report(done: Extraction, stage: str, items: str, reporter: Reporter) -> None:
    for note in done.notes:
        reporter.say(note)
    encoded = f"{done.encoded_clips} {items}" if done.encoded_clips else "nothing to do"
    cached = f", {done.cached_clips} read from the cache" if done.cached_clips else ""
    failed = f", {len(done.failures)} unreadable" if done.failures else ""
    reporter.say(f"{stage}: {encoded}{cached}{failed} ({done.seconds:.1f} s)")


def open_stream(plan: RunPlan, encoder: Encoder, contents: Mapping[str, str]) -> StreamedSplit:
    """The training split of a streaming recipe. `contents` maps paths to content ids.

    Raises BenchError, now or when the stream is read, where more samples fail than --max-failed allows.
    """
    listed = plan.splits.train
    missing = {sample.id: reason for sample in listed if (reason := _missing(sample))}
    refuse_too_many(plan, "train", listed, missing)
    samples = [sample for sample in listed if sample.id not in missing]
    whole = [requests(plan, sample, contents, 1)[0] for sample in samples]
    owners = [number for number, request in enumerate(whole) for _ in request.keys]
    parts = [part for request in whole for part in request.parts()]

    def check(failures: Mapping[int, str]) -> None:
        failed = {samples[owners[row]].id: reason for row, reason in failures.items()}
        refuse_too_many(plan, "train", listed, {**missing, **failed})

    stream = ClipStream(encoder, parts, plan.train_clips, plan.spec, extract_options(plan), check)
    space = space_key(space_fields(encoder, plan.train_clips, plan.spec))
    identities = [contents.get(sample.path, "") for sample in listed]
    keys = [list(part.keys) for part in parts]
    return StreamedSplit(samples, stream, owners, keys, missing, identities, space)


def _missing(sample: Sample) -> str:
    """Why there is nothing to decode; empty where there is."""
    size = size_of(sample)
    if size is None:
        return f"{sample.path}: no such file"
    return "" if size else f"{sample.path}: an empty file, or a folder without frames"


def owners_among(owners: Sequence[int], rows: Rows) -> list[int]:
    """The samples of these examples, each once, rising."""
    return sorted({owners[row] for row in rows.tolist()})


def refuse_too_many(plan: RunPlan, split: Split, samples: Sequence[Sample], failures: Mapping[str, str]) -> None:
    """Raise BenchError where none of `samples` can be read, or fewer of the split than --max-failed demands.

    `failures`: sample id -> why it cannot be read.
    """
    count = len(plan.samples(split))
    if len(failures) <= plan.options.max_failed * count and len(failures) < len(samples):
        return
    shown = "; ".join(f"{sample}: {reason}" for sample, reason in list(failures.items())[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    raise BenchError(
        f"{len(failures)} of {count} {split} samples cannot be read ({shown}{more})",
        where=f"task {plan.task.name}",
        fix=f"mend or unlist them; no score is given above --max-failed {plan.options.max_failed}",
    )
