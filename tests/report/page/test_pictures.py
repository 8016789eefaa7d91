"""Key frames in the report: what a run has kept, and a report all the same where it kept nothing or it is damaged."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_lab import HOSTILE, key_frames, write_runs
from support import Run

from bench.analysis.select import Choice
from bench.core.errors import BenchError
from bench.records.key_frames import FOLDER, read_key_frames, write_key_frames
from bench.report.page.page import to_page
from bench.report.page.parts import gather
from bench.report.page.pictures import key_frames as galleries


@pytest.fixture(autouse=True)
def no_plots() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.plots.KINDS", {})
        yield


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models, of which the first has kept key frames of one task."""
    (record, *_) = write_runs(tmp_path / "results", {"vjepa-nano": 0.9, "random": 0.4})
    write_key_frames(tmp_path / "results" / record.run_id, key_frames(6))
    return tmp_path / "results"


def page(results: Path) -> str:
    return to_page(gather([results], Choice()))


def test_pictures_are_inlined_with_what_is_in_them(results: Path) -> None:
    (gallery,) = galleries(gather([results], Choice()))
    assert gallery.title == "digits-motion, attentive: vjepa-nano"
    picture = gallery.pictures[1]
    assert picture.title == f"{HOSTILE}, second 901"
    assert picture.alt == (
        f"Key frame {HOSTILE}, second 901, with boxes. 1: annotated walk, {HOSTILE}; predicted walk 20 %, right."
        f" 2: annotated no action; predicted {HOSTILE} 90 %, wrong. 3: annotated sit; not looked for."
        f" 4: nobody annotated; predicted {HOSTILE} 90 %, wrong."
    )
    assert base64.b64decode(picture.source.partition(",")[2]) == key_frames(1)[0][1]
    text = page(results)
    assert text.count("<img ") == 6 and HOSTILE not in text
    assert text.index("annotated: unbroken") < text.index("<img ") < text.index("2 more key frames")
    assert text.index("2 more key frames") < text.rindex("<img ")


def test_a_run_without_pictures_gives_a_report_without(results: Path) -> None:
    shutil.rmtree(next(results.glob(f"*/{FOLDER}")))
    text = page(results)
    assert "<img" not in text and "Key frames" not in text and "vjepa-nano" in text


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("key_frames.json", b'{"frames": [{}]}', "validation error"),
        ("key_frames.json", b"\xff\x00", "validation error"),
        ("02.jpg", b"<svg onload='alert(1)'/>", "02.jpg is no JPEG"),
        ("03.jpg", None, "No such file"),
    ],
)
def test_damaged_pictures_are_named_and_the_rest_is_there(
    results: Path, name: str, content: bytes | None, word: str
) -> None:
    path = next(results.glob(f"*/{FOLDER}")) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BenchError, match=word):
        read_key_frames(path.parent.parent)
    text = page(results)
    assert "Not shown: " in text and "not readable key frames" in text
    assert "<img" not in text and "Runs and commands" in text


def test_frames_can_be_left_out(results: Path, tmp_path: Path, bench_command: Run) -> None:
    done = bench_command("report", "-o", tmp_path / "r.html", "--results", results, "--no-frames")
    assert done.returncode == 0
    assert "<img src" not in (tmp_path / "r.html").read_text(encoding="utf-8")
