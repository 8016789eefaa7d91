"""One file from a web server: taken up where it was cut off, retried, never put together from two versions.

The bytes gather in `part/` beside the place they are meant for, under the file's own name, so that what tells a
format by the name works on them. What the server said of the file is noted beside them, and the next attempt goes on
only with the same file. Whether the bytes are the right ones is for the caller to check.

Resuming follows RFC 9110: `Range` with `If-Range` (13.1.5, 14.2), so that the rest of one file is never taken for that
of another. huggingface_hub's client (its `http_get`, 2.4) sends `Range` alone, and appends whatever comes: a file that
was replaced between two attempts came out as 400 kB of the old and 600 kB of the new one, without an error, and these
weights have no published digest that would tell. It also keeps what has come in pieces of 10 MB only, takes a login
page for the file, and follows redirects to plain HTTP. urllib does all that is needed below: proxies, certificates,
redirects.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import shlex
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from bench.core.errors import BenchError
from bench.core.files import atomic_write, check_space, human_bytes
from bench.core.progress import Reporter
from bench.core.version import __version__

TRIES = 6
"""Attempts in a row that bring less than `_HEADWAY_BYTES`."""
LONGEST_PAUSE_S = 300.0
"""A server that asks for a longer one is taken to be closed for now."""

_HEADWAY_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_SILENCE_S = 60.0
"""A server that says nothing for so long has gone."""
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_NO_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file: where it can be had, where it goes, and what is known of it beforehand."""

    name: str
    """What the user calls it."""
    url: str
    path: Path
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def part(self) -> Path:
        """Where the bytes gather."""
        return self.path.parent / "part" / self.path.name

    @property
    def notes(self) -> Path:
        """Where it is noted which version of the file they are of."""
        return self.part.with_name(f"{self.part.name}.json")

    @property
    def where(self) -> str:
        """What error messages call it."""
        return f"{self.name} ({self.url})"

    @property
    def by_hand(self) -> str:
        """What to do on a machine without a connection."""
        return (
            f"elsewhere run `curl -L -C - -o {shlex.quote(self.path.name)} {shlex.quote(self.url)}`, put the file at "
            f"{self.path}, and run `bench fetch {self.name}` again, which checks it"
        )


def download(wanted: Wanted, reporter: Reporter, wait: Callable[[float], None] = time.sleep) -> None:
    """Bring every byte of the file to `wanted.part`; `wait` pauses for a number of seconds.

    What an interrupted call left is taken up. Raises BenchError where the file cannot be had; what has come stays.
    """
    check_address(wanted.url, pinned=wanted.sha256 is not None)
    wanted.part.parent.mkdir(parents=True, exist_ok=True)
    at_first, failures = _gathered(wanted), 0
    while True:
        before = _gathered(wanted)
        try:
            _attempt(wanted, reporter)
            return
        except PassingError as problem:
            failures = 1 if _gathered(wanted) - before >= _HEADWAY_BYTES else failures + 1
            if problem.begin_again:
                discard(wanted)
            pause_s = 2.0 ** (failures - 1) if problem.pause_s is None else problem.pause_s
            # Without a network from the start there is nothing to wait for; one that went away may come back.
            hopeless = problem.offline and _gathered(wanted) == at_first
            if hopeless or failures == TRIES or pause_s > LONGEST_PAUSE_S:
                raise _given_up(wanted, problem) from problem
            reporter.say(f"{wanted.name}: {problem}; attempt {failures + 1} of {TRIES} in {pause_s:.0f} s")
            wait(pause_s)


def discard(wanted: Wanted) -> None:
    """Forget what has come of the file."""
    wanted.part.unlink(missing_ok=True)
    wanted.notes.unlink(missing_ok=True)


def report_bytes(reporter: Reporter, stage: str, done: int, total: int, detail: str = "") -> None:
    """Tell how far a stage is that is counted in bytes."""
    reporter.stage(f"{stage} (MiB)", done >> 20, total >> 20, detail)


def _given_up(wanted: Wanted, problem: PassingError) -> BenchError:
    gathered = _gathered(wanted)
    kept = f"; {human_bytes(gathered)} are kept for the next time" if gathered else ""
    later = "" if problem.offline else "try again later, or "
    return BenchError(
        f"cannot be fetched: {problem}{kept}",
        where=f"{wanted.name} ({urlsplit(wanted.url).hostname})",
        fix=f"{later}{wanted.by_hand}",
    )


def _attempt(wanted: Wanted, reporter: Reporter) -> None:
    """One request, and all that it brings. Raises PassingError where another one may go on."""
    noted = _noted(wanted)
    if not noted or not (noted.validator or wanted.sha256):
        discard(wanted)  # nothing identifies the file whose rest would follow
    offset = _gathered(wanted)
    if noted and offset and offset == noted.size_bytes:
        return
    with ask(wanted.url, offset=offset, validator=noted.validator if noted else None) as response:
        version = version_of(wanted.url, response)
        _refuse_others(wanted, response, version)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if not noted or not is_rest(response, version, noted, offset):
                raise PassingError("the file on the server has changed", pause_s=0, begin_again=True)
            reporter.say(f"{wanted.name}: going on after {human_bytes(offset)}")
        else:
            if noted and offset:
                reason = "the server cannot resume" if version.may_be(noted) else "the file on the server has changed"
                reporter.say(f"{wanted.name}: {reason}; it begins again")
            offset = 0
        needed = (version.size_bytes or wanted.size_bytes or 0) - _gathered(wanted)  # what is overwritten makes room
        fix = "free some space, or choose another disk with BENCH_CACHE"
        check_space(wanted.part.parent, needed, what=f"what is to come of {wanted.name} takes", fix=fix)
        if not offset:
            discard(wanted)
            with atomic_write(wanted.notes) as temporary:
                temporary.write_text(json.dumps(asdict(version)), encoding="utf-8")
        _copy(wanted, response, offset, version.size_bytes, reporter)


def _refuse_others(wanted: Wanted, response: http.client.HTTPResponse, version: Version) -> None:
    """Raise BenchError where the answer cannot be the file, before it takes the place of what has come."""
    if response.headers.get_content_type() == "text/html":
        raise BenchError(
            "the server sent a web page, not the file",
            where=wanted.where,
            fix=f"open any page in a browser in case this network wants a login, or {wanted.by_hand}",
        )
    if wanted.size_bytes and version.size_bytes and version.size_bytes != wanted.size_bytes:
        raise BenchError(
            f"the server has a file of {version.size_bytes:,} bytes, not of {wanted.size_bytes:,} as the card says",
            where=wanted.where,
            fix="it was replaced there, or something on the way interferes: report this line",
        )


def _copy(
    wanted: Wanted, response: http.client.HTTPResponse, offset: int, size_bytes: int | None, reporter: Reporter
) -> None:
    """Append what comes. Raises PassingError where it is less or more than was announced."""
    done, began = offset, time.monotonic()
    with wanted.part.open("ab") as file:
        while True:
            try:
                block = response.read1(_BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise PassingError(f"the connection broke after {human_bytes(done)} ({words_of(error)})") from error
            if not block:
                break
            file.write(block)
            done += len(block)
            rate = (done - offset) / max(time.monotonic() - began, 1e-3)
            report_bytes(reporter, f"fetching {wanted.name}", done, size_bytes or done, f"{human_bytes(rate)}/s")
    if size_bytes is not None and done < size_bytes:
        raise PassingError(f"the connection was cut after {human_bytes(done)} of {human_bytes(size_bytes)}")
    if size_bytes is not None and done > size_bytes:
        raise PassingError("the server sent more than it announced", begin_again=True)


def _gathered(wanted: Wanted) -> int:
    """Bytes that have come."""
    return wanted.part.stat().st_size if wanted.part.is_file() else 0


def _noted(wanted: Wanted) -> Version | None:
    """The version that the bytes in `part` are of; None where none were, or where that is not known any more."""
    try:
        version = Version(**json.loads(wanted.notes.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return version if version.url == wanted.url else None


class PassingError(Exception):
    """A failure that another attempt may not meet."""

    def __init__(
        self, what: str, *, pause_s: float | None = None, offline: bool = False, begin_again: bool = False
    ) -> None:
        super().__init__(what)
        self.pause_s = pause_s
        """What the server asked for, or 0 where waiting changes nothing; None for the usual pause."""
        self.offline = offline
        """Whether this machine has no network, as far as that can be told."""
        self.begin_again = begin_again
        """Whether what has come is of no use."""


@dataclass(frozen=True)
class Version:
    """What a server stated of the file that it sent: it identifies the file when the rest is fetched."""

    url: str
    etag: str | None
    last_modified: str | None
    size_bytes: int | None

    @property
    def validator(self) -> str | None:
        """What `If-Range` takes: a strong tag, or else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    def may_be(self, other: Version) -> bool:
        """Whether nothing that both say differs."""
        pairs = (
            (self.etag, other.etag),
            (self.last_modified, other.last_modified),
            (self.size_bytes, other.size_bytes),
        )
        return all(mine is None or its is None or mine == its for mine, its in pairs)


def check_address(url: str, *, pinned: bool = False, local: bool = True) -> None:
    """Raise BenchError for an address that is not asked: only https, without credentials.

    Plain http can be changed by anyone on the way. It is for servers on this machine (where `local`), and for files
    with a known digest (`pinned`).
    """
    parts = urlsplit(url)
    on_this_machine = local and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and (on_this_machine or pinned)):
        raise BenchError("weights are fetched over https only", where=url, fix="report this address")
    if parts.username or parts.password:
        raise BenchError("the address holds credentials", where=f"{parts.hostname}", fix="use one without")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_address(newurl, local=req.type == "http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(url: str, *, offset: int = 0, validator: str | None = None) -> http.client.HTTPResponse:
    """The answer to a request for the file from byte `offset` on, or for all of it where it is no longer the one that
    `validator` stands for.

    Raises PassingError where another attempt may succeed, and BenchError where none will.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"vjepa-bench/{__version__}"})  # noqa: S310 - checked
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if validator:
            request.add_header("If-Range", validator)
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        return cast(http.client.HTTPResponse, opener.open(request, timeout=_SILENCE_S))
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _silence(url, error) from error


def version_of(url: str, response: http.client.HTTPResponse) -> Version:
    """What an answer says of the whole file."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        whole = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    else:
        whole = response.headers.get("Content-Length") or ""
    size_bytes = int(whole) if whole.isdecimal() else None
    return Version(url, response.headers.get("ETag"), response.headers.get("Last-Modified"), size_bytes)


def is_rest(response: http.client.HTTPResponse, version: Version, noted: Version, offset: int) -> bool:
    """Whether a partial answer is the rest of the noted file. Servers that know `Range` but not `If-Range` exist."""
    start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    return start is not None and int(start.group(1)) == offset and version.may_be(noted)


def words_of(error: object) -> str:
    """What went wrong with a connection, in few words."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """The error for an answer that is not the file."""
    said = f"the server says {error.code} {error.reason}"
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        return PassingError("the file on the server is shorter than what has come", pause_s=0, begin_again=True)
    if error.code in _PASSING:
        return PassingError(said, pause_s=_asked_pause_s(error.headers))
    return BenchError(said, where=url, fix="look whether a browser can open it; the file may have moved")


def _asked_pause_s(headers: Message) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as a date; None where it says nothing."""
    asked = headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
    except (ValueError, TypeError):  # TypeError: Python 3.10 and older, where it is no date
        return None
    return max(0.0, (until.astimezone(timezone.utc) - datetime.now(timezone.utc)).total_seconds())


def _silence(url: str, error: Exception) -> Exception:
    """The error for a connection that brought no answer."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return BenchError(
            f"the server cannot be trusted ({reason.verify_message})",
            where=url,
            fix="check the clock and the network of this machine",
        )
    offline = isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _NO_NETWORK
    return PassingError(f"no connection ({words_of(reason)})", offline=offline)
