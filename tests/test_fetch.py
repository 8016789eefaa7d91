"""`bench fetch`: the right file or none, whatever the server and the line do."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import socket
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import GOLDEN
from web_site import Request, Site, cut_after, refusing, serving

from bench import BenchError, load_encoder
from bench.cli import main
from bench.download import TRIES
from bench.encoders import catalog
from bench.fetch import fetch
from bench.web import check_address
from bench.weights import Fetched

RIGHT = (GOLDEN / "vjepa1.pth.tar").read_bytes()
NEWER = (GOLDEN / "vjepa1_pretrain.pth.tar").read_bytes()
"""Another checkpoint of the same architecture."""
FACTS = {
    "title": "A test",
    "family": "V-JEPA",
    "num_frames": 8,
    "resolution": 64,
    "parameters_m": 0.13,
    "pretrained_on": "nothing",
    "licence": "CC BY-NC 4.0",
    "file": "far.pth.tar",
}


class Diary:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.stages: list[tuple[str, int, int]] = []
        self.on_line: Callable[[str], None] = lambda line: None

    def stage(self, name: str, done: int, total: int, detail: str = "") -> None:
        self.stages.append((name, done, total))

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.on_line(line)

    def __contains__(self, words: str) -> bool:
        return any(words in line for line in self.lines)


class Lab:
    """A catalog of one card, `far`, whose file is on a server of this machine; nobody waits."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.path = folder / "cache" / "weights" / "far.pth.tar"
        self.part = self.path.parent / "part" / "far.pth.tar"
        self.digest_note = self.path.parent / "far.pth.tar.sha256"
        self.diary = Diary()
        self.pauses: list[float] = []
        self.card()

    def card(self, name: str = "far", **facts: Any) -> None:
        text = yaml.safe_dump({"name": name, **FACTS, "url": self.site.url, **facts})
        (self.folder / "cards" / f"{name}.yaml").write_text(text)

    def fetch(self, *names: str, check: bool = False) -> Fetched:
        return fetch(names or ["far"], self.diary, check=check, wait=self.pauses.append)[0]

    def refuses(self, match: str, **options: Any) -> BenchError:
        with pytest.raises(BenchError, match=match) as caught:
            self.fetch(**options)
        assert "\n" not in str(caught.value)
        return caught.value

    def holds_nothing(self) -> bool:
        return not self.path.exists() and not self.part.exists() and not self.digest_note.exists()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for name, constant in (("cards", "_CARDS"), ("weights", "_PACKAGED")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(catalog, constant, tmp_path / name)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(RIGHT) as site:
        yield Lab(tmp_path, site)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# What a fetch leaves


def test_a_fetched_encoder_loads_under_its_name(lab: Lab) -> None:
    with pytest.raises(BenchError, match=r"far\.pth\.tar: the weights of far are not here - run `bench fetch far`"):
        load_encoder("far")
    assert lab.fetch().state == "fetched"
    assert lab.path.read_bytes() == RIGHT and load_encoder("far").name == "far"
    assert [file.name for file in lab.part.parent.iterdir() if file.suffix != ".lock"] == []


def test_the_digest_of_the_first_download_is_noted_and_said(lab: Lab) -> None:
    fetched = lab.fetch()
    assert (fetched.sha256, fetched.agrees_with, fetched.size_bytes) == (sha256(RIGHT), None, len(RIGHT))
    assert lab.digest_note.read_text() == f"{sha256(RIGHT)}  far.pth.tar\n"
    assert "no digest of its authors is known" in lab.diary and "licence CC BY-NC 4.0" in lab.diary


def test_what_is_here_is_checked_and_not_fetched_again(lab: Lab) -> None:
    lab.fetch()
    for check in (False, True):
        again = lab.fetch(check=check)
        assert (again.state, again.agrees_with) == ("already here", "the first download")
    assert len(lab.site.requests) == 1


def test_a_file_brought_by_hand_is_checked_and_noted(lab: Lab) -> None:
    lab.path.parent.mkdir(parents=True)
    lab.path.write_bytes(RIGHT)
    assert lab.fetch(check=True).state == "already here" and not lab.digest_note.exists()
    assert lab.fetch().state == "already here" and lab.digest_note.exists()
    assert not lab.site.requests


def test_progress_counts_bytes_up_to_the_size(lab: Lab) -> None:
    lab.fetch()
    size_mib = len(RIGHT) >> 20
    for stage in ("fetching far (MiB)", "checking far (MiB)"):
        told = [(done, total) for name, done, total in lab.diary.stages if name == stage]
        assert told and told == sorted(told) and told[-1] == (size_mib, size_mib)


# Lines that break


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(lab: Lab) -> None:
    lab.site.behaviours = [cut_after(400_000), cut_after(300_000), cut_after(100_000)]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT
    assert lab.site.ranges == [None, "bytes=400000-", "bytes=700000-", "bytes=800000-"]
    assert {request.get("if-range") for request in lab.site.requests[1:]} == {lab.site.etag}
    assert lab.pauses == [1, 2, 4] and "was cut after 390.6 KiB of 1.0 MiB" in lab.diary


def test_headway_starts_the_count_of_attempts_again(lab: Lab) -> None:
    lab.site.behaviours = [cut_after(10), cut_after(10), cut_after((1 << 20) + 10), cut_after(10)]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and lab.pauses == [1, 2, 1, 2]


def test_an_interrupted_fetch_goes_on_next_time(lab: Lab) -> None:
    lab.site.behaviours = [cut_after(400_000)]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(["far"], lab.diary, wait=interrupt)
    assert lab.part.stat().st_size == 400_000 and not lab.path.exists()
    assert lab.fetch().sha256 == sha256(RIGHT)
    assert lab.site.ranges == [None, "bytes=400000-"] and "going on after 390.6 KiB" in lab.diary


def test_a_fetch_interrupted_after_its_last_byte_asks_for_nothing_more(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("bench.weights.check_weights", interrupt)
        lab.fetch()
    assert not lab.path.exists()
    assert lab.fetch().state == "fetched" and len(lab.site.requests) == 1


def test_a_server_that_stays_away_is_given_up_with_the_command_for_elsewhere(lab: Lab) -> None:
    lab.site.behaviours = [cut_after(400_000)] + [refusing(503)] * TRIES
    error = lab.refuses(r"far \(127\.0\.0\.1\): cannot be fetched: the server says 503 .*390\.6 KiB are kept")
    assert f"curl -L -C - -o far.pth.tar {lab.site.url}" in str(error) and str(lab.path) in str(error)
    assert len(lab.site.requests) == TRIES and lab.pauses == [1, 2, 4, 8, 16]
    assert lab.part.stat().st_size == 400_000


def test_without_a_network_nobody_waits(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    lab.card(url="https://example.org/far.pth.tar")
    error = lab.refuses(r"no connection \(Name or service not known\) - elsewhere run `curl -L -C - -o far\.pth\.tar")
    assert "`bench fetch far` again" in str(error) and not lab.pauses


# Servers that do not tell the truth


def test_a_server_that_announces_too_much_is_given_up(lab: Lab) -> None:
    def too_long(request: Request) -> None:
        if "Range" in request.headers:
            request.rest(upto=0, total=len(RIGHT) + 999)
        else:
            request.whole(announced=len(RIGHT) + 999)

    lab.site.behaviours = [too_long] * TRIES
    lab.refuses("cut after 1.0 MiB of 1.0 MiB")
    assert not lab.path.exists()


def test_a_server_that_learns_its_length_is_asked_again(lab: Lab) -> None:
    lab.site.behaviours = [lambda request: request.whole(announced=len(RIGHT) + 999)]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and "the file on the server is shorter than what has come" in lab.diary
    assert lab.site.ranges == [None, f"bytes={len(RIGHT)}-", None]


def test_a_server_that_announces_too_little_brings_half_a_file_that_is_refused(lab: Lab) -> None:
    lab.site.behaviours = [lambda request: request.whole(announced=500_000, upto=500_000)]
    lab.refuses("not the right file, nothing is kept: not a readable checkpoint, or cut off")
    assert lab.holds_nothing()


def test_a_partial_answer_that_is_longer_than_the_file_is_thrown_away(lab: Lab) -> None:
    def too_much(request: Request) -> None:
        body = RIGHT[request.offset :] + b"more"
        span = f"bytes {request.offset}-{len(RIGHT) - 1}/{len(RIGHT)}"
        request.start(206, Content_Length=len(body), Content_Range=span)
        request.wfile.write(body)

    lab.site.behaviours = [cut_after(400_000), too_much]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and lab.site.ranges[-1] is None


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(lab: Lab) -> None:
    lab.site.behaviours = [cut_after(400_000), lambda request: request.whole()]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and "the server cannot resume" in lab.diary


def test_a_file_that_changed_meanwhile_is_fetched_whole(lab: Lab) -> None:
    def renewed(request: Request) -> None:
        lab.site.content = NEWER
        assert request.headers["If-Range"] != lab.site.etag
        request.whole()

    lab.site.behaviours = [cut_after(400_000), renewed]
    assert lab.fetch().sha256 == sha256(NEWER) and "the file on the server has changed" in lab.diary


@pytest.mark.parametrize("told_by", ["etag", "size"])
def test_two_versions_are_never_put_together(lab: Lab, told_by: str) -> None:
    """A server that knows ranges and no conditions, whose file changes between two attempts."""

    def stitching(request: Request) -> None:
        lab.site.content = NEWER
        lab.site.validators = told_by == "etag"
        request.rest()

    lab.site.behaviours = [cut_after(400_000), stitching]
    assert lab.fetch().sha256 == sha256(NEWER)
    assert lab.site.ranges == [None, "bytes=400000-", None]


def test_a_range_that_begins_elsewhere_is_not_appended(lab: Lab) -> None:
    def misplaced(request: Request) -> None:
        body = RIGHT[1000:]
        request.start(206, Content_Length=len(body), Content_Range=f"bytes 1000-{len(RIGHT) - 1}/{len(RIGHT)}")
        request.wfile.write(body)

    lab.site.behaviours = [cut_after(400_000), misplaced]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT


def test_without_a_tag_or_date_a_cut_file_begins_again(lab: Lab) -> None:
    lab.site.validators = False
    lab.site.behaviours = [cut_after(400_000)]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and lab.site.ranges == [None, None]


def test_a_known_digest_allows_to_resume_without_a_tag(lab: Lab) -> None:
    lab.card(sha256=sha256(RIGHT))
    lab.site.validators = False
    lab.site.behaviours = [cut_after(400_000)]
    assert lab.fetch().agrees_with == "the card" and lab.site.ranges == [None, "bytes=400000-"]


def test_a_weak_tag_is_not_a_condition_and_the_date_is(lab: Lab) -> None:
    date = formatdate(1_700_000_000, usegmt=True)
    lab.site.behaviours = [
        lambda request: request.whole(upto=400_000, ETag='W/"weak"', Last_Modified=date),
        lambda request: request.rest(),
    ]
    lab.site.validators = False
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and lab.site.requests[1]["if-range"] == date


def test_a_note_that_cannot_be_read_begins_again(lab: Lab) -> None:
    lab.part.parent.mkdir(parents=True)
    lab.part.write_bytes(NEWER[:1000])
    lab.part.with_name("far.pth.tar.json").write_text("{")
    assert lab.fetch().sha256 == sha256(RIGHT) and lab.site.ranges == [None]


# Files that are not the encoder


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((GOLDEN / "vjepa1_probe.pth.tar").read_bytes(), "no encoder under the key"),
        ((GOLDEN / "vjepa2.pt").read_bytes(), ""),
        (b"<!doctype html><title>Sign in</title>" * 100, "not a checkpoint"),
        (b"", "the file is empty"),
        (RIGHT[:500_000], "not a readable checkpoint, or cut off"),
        (RIGHT[:500_000] + bytes([RIGHT[500_000] ^ 1]) + RIGHT[500_001:], "does not have its checksum"),
    ],
    ids=["a probe", "another family", "a web page", "nothing", "half of it", "a flipped bit"],
)
def test_other_files_are_refused_and_not_kept(lab: Lab, content: bytes, words: str) -> None:
    lab.site.content = content
    lab.refuses(f"far .*not the right file, nothing is kept: .*{words}")
    assert lab.holds_nothing()


def test_an_encoder_of_another_size_is_refused(lab: Lab) -> None:
    lab.card(parameters_m=303.9)
    lab.refuses(r"another encoder: 0\.1 M parameters for 8x64px instead of 303\.9 M")
    lab.card(resolution=384)
    lab.refuses(r"for 8x64px instead of 0\.13 M for 8x384px")
    assert lab.holds_nothing()


def test_a_login_page_does_not_take_the_place_of_what_has_come(lab: Lab) -> None:
    def login(request: Request) -> None:
        request.start(200, Content_Type="text/html; charset=utf-8", Content_Length=5)
        request.wfile.write(b"Hello")

    lab.site.behaviours = [cut_after(400_000), login]
    lab.refuses("the server sent a web page, not the file")
    assert lab.part.stat().st_size == 400_000
    lab.fetch()
    assert lab.site.ranges[-1] == "bytes=400000-" and lab.path.read_bytes() == RIGHT


def test_a_file_of_another_size_than_the_cards_is_not_begun(lab: Lab) -> None:
    lab.card(size_bytes=len(RIGHT) + 1)
    lab.refuses("a file of 1,086,837 bytes, not of 1,086,838 as the card says")
    assert lab.holds_nothing()


def test_the_cards_digest_decides(lab: Lab) -> None:
    lab.card(sha256=sha256(NEWER), size_bytes=len(RIGHT))
    lab.refuses(f"its SHA-256 is {sha256(RIGHT)} instead of {sha256(NEWER)} as the card says")
    assert lab.holds_nothing()
    lab.card(sha256=sha256(RIGHT), size_bytes=len(RIGHT))
    assert lab.fetch().agrees_with == "the card" and not lab.digest_note.exists()


def test_a_later_download_is_held_to_the_first(lab: Lab) -> None:
    lab.fetch()
    lab.path.unlink()
    lab.site.content = NEWER
    error = lab.refuses("as of the first download")
    assert f"delete {lab.digest_note}" in str(error) and not lab.path.exists()
    lab.digest_note.unlink()
    assert lab.fetch().sha256 == sha256(NEWER)


@pytest.mark.parametrize("check", [False, True])
def test_a_file_that_changed_here_is_an_error(lab: Lab, check: bool) -> None:
    lab.fetch()
    lab.path.write_bytes(NEWER)
    error = lab.refuses("as of the first download - move it away and run `bench fetch far`", check=check)
    assert error.where == str(lab.path) and lab.path.read_bytes() == NEWER


def test_a_damaged_digest_note_is_named(lab: Lab) -> None:
    lab.fetch()
    lab.digest_note.write_text("what?")
    lab.refuses("far.pth.tar.sha256 beside it holds no SHA-256")


# Answers other than the file


def test_a_file_that_is_not_there_is_asked_for_once(lab: Lab) -> None:
    lab.site.behaviours = [refusing(404)]
    lab.refuses("the server says 404")
    assert len(lab.site.requests) == 1 and not lab.pauses


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
def test_a_busy_server_is_given_the_time_it_asks_for(lab: Lab, status: int, as_date: bool) -> None:
    asked = formatdate(time.time() + 100, usegmt=True) if as_date else "100"
    lab.site.behaviours = [refusing(status, Retry_After=asked), refusing(status, Retry_After="soon")]
    lab.fetch()
    assert lab.pauses == [pytest.approx(100, abs=5), 2]


def test_a_server_that_asks_for_too_long_is_given_up(lab: Lab) -> None:
    lab.site.behaviours = [refusing(503, Retry_After=86400)]
    lab.refuses("the server says 503")
    assert not lab.pauses


def test_redirects_are_followed_also_when_resuming(lab: Lab) -> None:
    there = refusing(302, Location=f"{lab.site.url}?signed", ETag="another")
    lab.site.behaviours = [there, cut_after(400_000), there]
    lab.fetch()
    assert lab.path.read_bytes() == RIGHT and lab.site.ranges == [None, None, "bytes=400000-", "bytes=400000-"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://example.org/far", "fetched over https only"),
        ("ftp://example.org/far", "fetched over https only"),
        ("file:///etc/passwd", "the server says 302"),
    ],
)
def test_redirects_to_anything_but_https_are_refused(lab: Lab, target: str, words: str) -> None:
    lab.site.behaviours = [refusing(302, Location=target)]
    lab.refuses(words)
    assert lab.holds_nothing()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://example.org/far", {}),
        ("ftp://example.org/far", {"pinned": True}),
        ("file:///etc/passwd", {}),
        ("http://localhost/far", {"local": False}),
        ("https://someone:secret@example.org/far", {}),
    ],
)
def test_addresses_that_are_not_asked(url: str, options: dict[str, bool]) -> None:
    with pytest.raises(BenchError) as caught:
        check_address(url, **options)
    assert "secret" not in str(caught.value)


def test_addresses_that_are_asked() -> None:
    check_address("https://example.org/far")
    check_address("http://localhost:80/far")
    check_address("http://example.org/far", pinned=True)


# The machine


def test_a_disk_without_room_is_told_before_the_first_byte(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    lab.refuses("1.0 MiB are to come, and 1000 bytes are free")
    assert lab.holds_nothing()


def test_a_disk_that_runs_full_is_not_a_broken_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bench.download.report_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        lab.fetch()
    assert not lab.pauses


def test_two_fetches_at_once_download_once(lab: Lab) -> None:
    second: list[Fetched] = []
    other, waiting = Diary(), threading.Event()
    other.on_line = lambda line: waiting.set() if "waiting for it" in line else None
    thread = threading.Thread(target=lambda: second.extend(fetch(["far"], other)))

    def busy(request: Request) -> None:
        thread.start()
        assert waiting.wait(timeout=30)
        request.whole()

    lab.site.behaviours = [busy]
    assert lab.fetch().state == "fetched"
    thread.join(timeout=30)
    assert [item.state for item in second] == ["already here"] and len(lab.site.requests) == 1


# Names


def test_wildcards_stand_for_all_that_match_in_natural_order(lab: Lab) -> None:
    for number in (10, 2):
        lab.card(f"far{number}", file=f"far{number}.pth.tar")
    fetched = fetch(["far[0-9]*", "far2"], lab.diary)
    assert [item.name for item in fetched] == ["far2", "far10"]


def test_one_name_that_fails_does_not_stop_the_others(lab: Lab) -> None:
    lab.card("gone", url=f"{lab.site.url}?gone", file="gone.pth.tar", parameters_m=9)
    lab.card("lost", url=None)
    with pytest.raises(BenchError, match="2 of 3 names failed"):
        lab.fetch("gone", "lost", "far")
    assert lab.path.read_bytes() == RIGHT
    assert "another encoder" in lab.diary and "lost is a part of the package, and missing" in lab.diary


def test_a_check_names_what_is_not_here_unless_a_wildcard_stands_for_it(lab: Lab) -> None:
    lab.refuses("far.pth.tar: the weights are not here - run `bench fetch far`", check=True)
    assert lab.fetch("f*", check=True).state == "not here"
    assert not lab.site.requests and not lab.path.parent.exists()


@pytest.mark.parametrize("name", ["random", "pixels", "random:vit_large", "pixels:16", "vjepa-nano"])
def test_encoders_without_a_file_to_fetch(name: str) -> None:
    assert fetch([name], Diary())[0].state == "nothing to fetch"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_prints_where_the_file_is(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "fetch", "far") == 0
    assert f"far: fetched, 1.0 MiB, {lab.path}" in capsys.readouterr().out
    assert command(monkeypatch, "fetch", "far", "--check", "--json") == 0
    told = json.loads(capsys.readouterr().out)[0]
    assert told["sha256"] == sha256(RIGHT) and told["url"] == lab.site.url and told["state"] == "already here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fetch", "fra"], "no encoder is called 'fra' - did you mean 'far'?"),
        (["fetch", "x*"], "no encoder is called 'x*'"),
        (["fetch", "timm:vit_base"], "no encoder is called 'timm:vit_base'"),
        (["fetch"], "Missing argument"),
        (["fetch", "far"], "the server says 404"),
    ],
)
def test_problems_are_one_line(
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    lab.site.behaviours = [refusing(404)]
    assert command(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    told = [line for line in shown.err.splitlines() if line.startswith("bench: ")]
    assert not shown.out and len(told) == 1 and words in told[0]
