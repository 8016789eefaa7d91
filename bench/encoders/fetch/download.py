"""One file from a web server: taken up where it was cut off, retried, never put together from two versions.

The bytes gather in `part/` beside the place they are meant for, under the file's own name, so that what tells a
format by the name works on them. What the server said of the file is noted beside them, and the next attempt goes on
only with the same file. Whether the bytes are the right ones is for the caller to check.
"""

from __future__ import annotations

import http.client
import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from bench.core.errors import BenchError
from bench.core.files import atomic_write
from bench.core.progress import Reporter
from bench.core.space import human_bytes
from bench.encoders.fetch import web

TRIES = 6
"""Attempts in a row that bring less than `_HEADWAY_BYTES`."""
LONGEST_PAUSE_S = 300.0
"""A server that asks for a longer one is taken to be closed for now."""

_HEADWAY_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20


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
    web.check_address(wanted.url, pinned=wanted.sha256 is not None)
    wanted.part.parent.mkdir(parents=True, exist_ok=True)
    at_first, failures = _gathered(wanted), 0
    while True:
        before = _gathered(wanted)
        try:
            _attempt(wanted, reporter)
            return
        except web.PassingError as problem:
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


def _given_up(wanted: Wanted, problem: web.PassingError) -> BenchError:
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
        discard(wanted)  # nothing would tell the rest of this file from that of another
    offset = _gathered(wanted)
    if noted and offset and offset == noted.size_bytes:
        return
    with web.ask(wanted.url, offset=offset, validator=noted.validator if noted else None) as response:
        version = web.version_of(wanted.url, response)
        _refuse_others(wanted, response, version)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if not noted or not web.is_rest(response, version, noted, offset):
                raise web.PassingError("the file on the server has changed", pause_s=0, begin_again=True)
            reporter.say(f"{wanted.name}: going on after {human_bytes(offset)}")
        else:
            if noted and offset:
                reason = "the server cannot resume" if version.may_be(noted) else "the file on the server has changed"
                reporter.say(f"{wanted.name}: {reason}; it begins again")
            offset = 0
        _check_room(wanted, offset, version.size_bytes or wanted.size_bytes)
        if not offset:
            discard(wanted)
            with atomic_write(wanted.notes) as temporary:
                temporary.write_text(json.dumps(asdict(version)), encoding="utf-8")
        _copy(wanted, response, offset, version.size_bytes, reporter)


def _refuse_others(wanted: Wanted, response: http.client.HTTPResponse, version: web.Version) -> None:
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


def _check_room(wanted: Wanted, offset: int, size_bytes: int | None) -> None:
    """Raise BenchError where the rest does not fit on the disk; what is overwritten makes room."""
    free, gathered = shutil.disk_usage(wanted.part.parent).free, _gathered(wanted)
    needed = (size_bytes or 0) - gathered
    if needed > free:
        raise BenchError(
            f"{human_bytes((size_bytes or 0) - offset)} are to come, and {human_bytes(free)} are free",
            where=str(wanted.part.parent),
            fix="free some space, or choose another disk with BENCH_CACHE",
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
                raise web.PassingError(
                    f"the connection broke after {human_bytes(done)} ({web.words_of(error)})"
                ) from error
            if not block:
                break
            file.write(block)
            done += len(block)
            rate = (done - offset) / max(time.monotonic() - began, 1e-3)
            report_bytes(reporter, f"fetching {wanted.name}", done, size_bytes or done, f"{human_bytes(rate)}/s")
    if size_bytes is not None and done < size_bytes:
        raise web.PassingError(f"the connection was cut after {human_bytes(done)} of {human_bytes(size_bytes)}")
    if size_bytes is not None and done > size_bytes:
        raise web.PassingError("the server sent more than it announced", begin_again=True)


def _gathered(wanted: Wanted) -> int:
    """Bytes that have come."""
    return wanted.part.stat().st_size if wanted.part.is_file() else 0


def _noted(wanted: Wanted) -> web.Version | None:
    """The version that the bytes in `part` are of; None where none were, or where that is not known any more."""
    try:
        version = web.Version(**json.loads(wanted.notes.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return version if version.url == wanted.url else None
