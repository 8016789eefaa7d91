"""A web server is asked for a file, or for its rest: which addresses are asked, and what the answers mean.

Resuming follows RFC 9110: `Range` with `If-Range` (13.1.5, 14.2), so that the rest of one file is never taken for that
of another. None of the libraries that come with the suite sends `If-Range`; urllib does all that is needed below it:
proxies, certificates, redirects.
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import IO, Any, cast
from urllib.parse import urlsplit

from bench import __version__
from bench.core.errors import BenchError

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
    """What a server said of the file that it sent, so that its rest can be told from another file's."""

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
    """What an answer other than the file means."""
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
    """What a connection that brought no answer means."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return BenchError(
            f"the server cannot be trusted ({reason.verify_message})",
            where=url,
            fix="check the clock and the network of this machine",
        )
    offline = isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _NO_NETWORK
    return PassingError(f"no connection ({words_of(reason)})", offline=offline)
