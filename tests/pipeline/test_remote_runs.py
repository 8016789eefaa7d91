"""Runs on data and caches in a bucket: the predictions of local files, nothing fetched or encoded twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from standins import standin
from worlds import run_world

import bench
from bench import BenchError
from bench.data import staging
from bench.data.links import tree_of
from bench.features import remote as features
from bench.pipeline.estimate.rough import forecast
from bench.pipeline.plan import make_plan
from bench.records.schema import Record, read_record
from bench.tasks.options import make_options

pytestmark = pytest.mark.slow

QUICK = {"probe.epochs": 1, "probe.min_steps": 10, "probe.lr": 0.01, "probe.weight_decay": 0.01}
QUICK_ARGUMENTS = [
    "--set=probe.epochs=1",
    "--set=probe.min_steps=10",
    "--set=probe.lr=0.01",
    "--set=probe.weight_decay=0.01",
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    standin("custom", folder, train=8, test=4)
    return folder


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is fetched from here on: files of the data, and of the features."""
    names: list[str] = []
    for module, name in ((staging, "_fetch_one"), (features, "_download")):
        plain = getattr(module, name)

        def noted(*given: Any, plain: Any = plain) -> Any:
            names.append(Path(given[1] if len(given) > 1 else given[0].relative).name)
            return plain(*given)

        monkeypatch.setattr(module, name, noted)
    return names


def run(folder: Path, data: object, cache: object = None, **options: Any) -> Record:
    given = {"task": "custom", "workers": 0, "settings": QUICK, "device": "cpu", "data": data, "model": "pixels"}
    return bench.evaluate(**given, cache=cache or folder / "cache", results=folder / "results", **options)


def predictions(folder: Path, record: Record) -> bytes:
    return (folder / "results" / record.run_id / "predictions.parquet").read_bytes()


def test_a_run_on_a_bucket_gives_the_predictions_of_local_files(
    clips: Path, bucket: Any, tmp_path: Path, fetched: list[str]
) -> None:
    local, local_again = run(tmp_path / "local", clips), run(tmp_path / "local", clips)
    bucket.upload(clips, "ssv2")
    first = run(tmp_path / "s3", f"{bucket.url}/ssv2")
    assert predictions(tmp_path / "s3", first) == predictions(tmp_path / "local", local)
    assert (first.scores, first.digests, first.heads) == (local.scores, local.digests, local.heads)
    assert first.arguments["data"] == f"{bucket.url}/ssv2"
    assert len(fetched) == 2 + 12
    fetched.clear()
    second = run(tmp_path / "s3", f"{bucket.url}/ssv2")
    assert predictions(tmp_path / "s3", second) == predictions(tmp_path / "local", local_again)
    assert (fetched, second.cost.encoder_clips) == ([], 0)


def test_only_the_samples_of_a_limited_run_are_fetched(
    clips: Path, bucket: Any, tmp_path: Path, fetched: list[str]
) -> None:
    bucket.upload(clips, "data")
    run(tmp_path, f"{bucket.url}/data", limit=4)
    assert sorted(name for name in fetched if name.endswith(".csv")) == ["train.csv", "val.csv"]
    assert len(fetched) == 2 + 4 + 4


def test_a_dry_run_counts_what_is_listed_and_fetches_what_it_times(
    clips: Path, bucket: Any, tmp_path: Path, fetched: list[str]
) -> None:
    bucket.upload(clips, "data")
    bucket.system.rm_file(f"{bucket.name}/data/my clips/train 0_1.mp4")
    given = {"task": "custom", "data": f"{bucket.url}/data", "cache": tmp_path, "model": "pixels", "max_failed": 0.5}
    expected = forecast(make_plan(make_options(given)))
    assert [(part.present, part.missing) for part in expected.files] == [(7, 1), (4, 0)]
    assert len(fetched) <= 2 + 5 and expected.decode_s > 0


def test_a_changed_object_is_fetched_again_and_a_missing_one_is_a_failed_sample(
    clips: Path, bucket: Any, tmp_path: Path, fetched: list[str]
) -> None:
    bucket.upload(clips, "data")
    run(tmp_path, f"{bucket.url}/data")
    fetched.clear()
    changed, lost = "my clips/test 0_0.mp4", "my clips/test 1_1.mp4"
    bucket.put(f"data/{changed}", (clips / "my clips" / "train 1_0.mp4").read_bytes())
    bucket.system.rm_file(f"{bucket.name}/data/{lost}")
    record = run(tmp_path, f"{bucket.url}/data", max_failed=0.3)
    assert fetched == ["test 0_0.mp4"]
    assert "1 test videos have the same bytes as a training video" in record.notes
    assert [(failure.sample, "no such file" in failure.reason) for failure in record.failures] == [(lost, True)]
    with pytest.raises(BenchError, match="1 of 4 test files are missing or empty"):
        run(tmp_path, f"{bucket.url}/data")


def test_a_second_machine_encodes_and_trains_nothing(
    clips: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = f"{bucket.url}/cache"
    records = []
    for machine in ("one", "two"):
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / machine / "local"))
        records.append(run(tmp_path / machine, clips, cache))
    one, two = records
    assert (one.cost.encoder_clips, two.cost.encoder_clips, two.cost.cached_clips) == (12, 0, 12)
    assert (one.cost.cached_probe, two.cost.cached_probe) == (False, True)
    again = run(tmp_path / "two", clips, cache)
    assert predictions(tmp_path / "two", two) == predictions(tmp_path / "two", again)
    assert two.scores == one.scores
    shards = {key.rpartition("/")[2] for key in bucket.keys("cache/features")} - {"space.json"}
    assert len(shards) == 4 and {Path(shard).suffix for shard in shards} == {".npy", ".json"}


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_remote_shard_is_told_encoded_again_and_replaced(
    clips: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    cache = f"{bucket.url}/cache"
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "one" / "local"))
    run(tmp_path / "one", clips, cache)
    before = {key: bucket.system.cat(f"{bucket.name}/cache/{key}") for key in bucket.keys("cache")}
    damaged = next(key for key in sorted(before) if key.endswith(suffix) and "space" not in key)
    bucket.put(f"cache/{damaged}", before[damaged][:-2] + b"??")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "two" / "local"))
    said: list[str] = []
    reporter = staging.Silent()
    monkeypatch.setattr(reporter, "say", said.append)
    record = run(tmp_path / "two", clips, cache, reporter=reporter)
    assert record.cost.encoder_clips in (4, 8)
    assert [line for line in said if "damaged" in line and Path(damaged).stem in line]
    assert {key: bucket.system.cat(f"{bucket.name}/cache/{key}") for key in bucket.keys("cache")} == before


def test_features_of_a_run_without_the_remote_cache_are_uploaded_by_the_next(
    clips: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "local"))
    with monkeypatch.context() as broken:
        broken.setattr(features._Space, "_upload_one", lambda *_: None)
        run(tmp_path, clips, f"{bucket.url}/cache")
    assert {key.rpartition("/")[2] for key in bucket.keys("cache/features")} == {"space.json"}
    record = run(tmp_path, clips, f"{bucket.url}/cache")
    assert record.cost.encoder_clips == 0
    assert sum(key.endswith(".npy") for key in bucket.keys("cache/features")) == 2


def test_two_processes_give_the_record_of_one(clips: Path, bucket: Any, tmp_path: Path) -> None:
    bucket.upload(clips, "data")
    local = run(tmp_path / "local", clips)
    given = ["run", "--task=custom", f"--data={bucket.url}/data", f"--cache={bucket.url}/cache", "--model=pixels"]
    given += ["--device=cpu", "--workers=0", *QUICK_ARGUMENTS]
    for machine in ("one", "two"):
        variables = {**bucket.variables, "BENCH_CACHE": str(tmp_path / machine / "local")}
        ended = run_world(tmp_path / machine, given, given, environment=variables)
        assert [one.code for one in ended] == [0, 0], ended
        (path,) = (tmp_path / machine / "results").glob("*/record.json")
        record = read_record(path)
        assert (record.scores, record.digests) == (local.scores, local.digests)
        if machine == "one":
            assert predictions(tmp_path / machine, record) == predictions(tmp_path / "local", local)
        assert record.cost.encoder_clips == (12 if machine == "one" else 0)


def killed_at_the_fifth_file() -> None:
    fetch, calls = staging._download, []

    def counted(file: Any, target: Path) -> None:
        calls.append(1)
        if len(calls) > 4:
            target.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        fetch(file, target)

    staging.AT_ONCE = 1
    staging._download = counted


def test_a_process_killed_while_it_fetches_leaves_no_half_files(
    clips: Path, bucket: Any, tmp_path: Path, fetched: list[str]
) -> None:
    bucket.upload(clips, "data")
    given = ["extract", "--task=custom", f"--data={bucket.url}/data", "--cache=cache", "--model=pixels", "--workers=0"]
    (ended,) = run_world(tmp_path, given, fault=killed_at_the_fifth_file, faulty=0, environment=bucket.variables)
    assert ended.code == -signal.SIGKILL
    tree = tree_of(tmp_path / "cache", f"{bucket.url}/data")
    there = [path for path in tree.rglob("*") if path.is_file()]
    assert len(there) == 4
    assert all(path.read_bytes() == (clips / path.relative_to(tree)).read_bytes() for path in there)
    run(tmp_path, f"{bucket.url}/data")
    assert len(fetched) == 14 - 4


def test_what_the_user_can_mend_is_one_line(
    clips: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BenchError, match=r"s3://no-such-bucket/x: not there .* - check the name of the bucket"):
        run(tmp_path, "s3://no-such-bucket/x")
    with pytest.raises(BenchError, match=r"s3://bucket-.*/empty: no files here - check the name of the bucket"):
        run(tmp_path, f"{bucket.url}/empty")
    with pytest.raises(BenchError, match=r"s3://no-such-bucket/features/.*: not there") as error:
        run(tmp_path, clips, "s3://no-such-bucket")
    assert "\n" not in str(error.value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    type(bucket.system).clear_instance_cache()
    with pytest.raises(BenchError, match=r"no credentials .* - set AWS_ACCESS_KEY_ID"):
        run(tmp_path, f"{bucket.url}/data")
