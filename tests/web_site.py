"""A web server in a thread that has one file and misbehaves as told: one behaviour a request, then it is honest."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and what was asked."""

    content: bytes
    behaviours: list[Callable[[Request], None]] = field(default_factory=list)
    """Of the next requests, in their order."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The headers of each, names in lower case."""
    url: str = ""
    validators: bool = True

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    @property
    def ranges(self) -> list[str | None]:
        """The `Range` of each request."""
        return [request.get("range") for request in self.requests]


class Request(BaseHTTPRequestHandler):
    """One request; the behaviours are made of its methods."""

    site: Site

    def do_GET(self) -> None:
        self.site.requests.append({name.lower(): value for name, value in self.headers.items()})
        behaviour = self.site.behaviours.pop(0) if self.site.behaviours else honest
        behaviour(self)

    def log_message(self, *_: object) -> None:
        """Silence."""

    def start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if self.site.validators and "ETag" not in headers:
            self.send_header("ETag", self.site.etag)
        self.end_headers()

    @property
    def offset(self) -> int:
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def rest(self, *, upto: int | None = None, total: int | None = None) -> None:
        """What comes behind the offset asked for, of which only `upto` is sent."""
        body, end = self.site.content[self.offset :], len(self.site.content)
        span = f"bytes {self.offset}-{end - 1}/{total or end}"
        self.start(206, Content_Length=len(body), Content_Range=span)
        self.wfile.write(body[:upto])

    def whole(self, *, upto: int | None = None, announced: int | None = None, **headers: object) -> None:
        """All of the file, of which only `upto` is sent; `announced` as its length."""
        length = len(self.site.content) if announced is None else announced
        self.start(200, Content_Length=length, **headers)
        self.wfile.write(self.site.content[:upto])


def honest(request: Request) -> None:
    """As RFC 9110 wants it."""
    if "Range" not in request.headers or request.headers.get("If-Range", request.site.etag) != request.site.etag:
        request.whole()
    elif request.offset >= len(request.site.content):
        request.start(416, Content_Range=f"bytes */{len(request.site.content)}", Content_Length=0)
    else:
        request.rest()


def cut_after(num_bytes: int) -> Callable[[Request], None]:
    """Honest, but the connection ends after some bytes."""

    def behave(request: Request) -> None:
        if "Range" in request.headers:
            request.rest(upto=num_bytes)
        else:
            request.whole(upto=num_bytes)

    return behave


def refusing(status: int, **headers: object) -> Callable[[Request], None]:
    """No file but a status."""
    return lambda request: request.start(status, Content_Length=0, **headers)


@contextmanager
def serving(content: bytes) -> Iterator[Site]:
    """A site at http://127.0.0.1 on a free port."""
    site = Site(content)
    handler = type("Handler", (Request,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/far.pth.tar"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
