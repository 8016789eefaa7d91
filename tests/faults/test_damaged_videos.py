"""One video in ten is damaged, in six ways: each is listed with its reason, and the score is that of the good ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
from fault_lab import LINEAR, Bench, make_clips


def without_frames(path: Path) -> bytes:
    """A whole MP4 file of sound alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def damaged(kind: str, good: bytes, scratch: Path) -> bytes:
    """The bytes of a damaged video of a kind."""
    content = bytearray(good)
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    rng = np.random.default_rng(0)
    if kind == "truncated":
        return good[: len(good) * 3 // 4]
    if kind == "zero bytes":
        return b""
    if kind == "text":
        return b"this is no video\n" * 100
    if kind == "no frames":
        return without_frames(scratch)
    if kind == "wrong codec data":
        content[start:end] = rng.bytes(end - start)
    for place in rng.integers(start, end, (end - start) // 8) if kind == "bit flips" else ():
        content[place] ^= 1 << rng.integers(8)
    return bytes(content)


KINDS = ("truncated", "zero bytes", "wrong codec data", "text", "bit flips", "no frames")


def test_every_damaged_video_is_accounted_for(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips", train=54, test=54)
    good = Bench(data, tmp_path / "good")
    expected = good.run().record

    everything = Path(shutil.copytree(data, tmp_path / "all"))
    bad = {}
    for split, listed in (("train", "train.csv"), ("test", "val.csv")):
        rows = (everything / listed).read_text().splitlines(keepends=True)
        for number, kind in enumerate(KINDS):
            name = f"clips/{split}_bad_{number}.mp4"
            source = (everything / "clips" / f"{listed.split('.')[0]}_{number}.mp4").read_bytes()
            (everything / name).write_bytes(damaged(kind, source, tmp_path / "scratch.mp4"))
            rows.insert(9 * number + 4, f"{name} {number % 2}\n")
            bad[split, name] = kind
        (everything / listed).write_text("".join(rows))

    found = Bench(everything, tmp_path / "found")
    record = found.run(*LINEAR, "--max-failed", "0.2", "--workers", 2).record
    assert {(failure["split"], failure["sample"]) for failure in record["failures"]} == bad.keys()
    assert all(failure["reason"] for failure in record["failures"])
    assert (record["num_train"], record["scores"][0]["n"], record["scores"][0]["failed"]) == (54, 54, 6)
    assert {**record["scores"][0], "failed": 0} == expected["scores"][0]
    assert found.predictions(record) == good.predictions(expected)
