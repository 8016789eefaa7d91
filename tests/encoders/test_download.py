"""Downloads: the right file or none, whatever the server and the line do."""

from __future__ import annotations

import errno
import shutil
import socket
import time
from collections import namedtuple
from email.utils import formatdate

import pytest
from fetch_lab import NEWER, RIGHT, Lab, sha256
from web_site import Request, cut_after, refusing

from bench import BenchError
from bench.encoders.download import TRIES, check_address
from bench.encoders.fetch import fetch


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
        patch.setattr("bench.encoders.fetch.check_weights", interrupt)
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


def test_a_disk_without_room_is_told_before_the_first_byte(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    lab.refuses("what is to come of far takes 1.0 MiB, and 1000 bytes are free")
    assert lab.holds_nothing()


def test_a_disk_that_runs_full_is_not_a_broken_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bench.encoders.download.report_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        lab.fetch()
    assert not lab.pauses


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
