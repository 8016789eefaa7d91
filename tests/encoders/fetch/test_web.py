"""Which addresses are asked, first and after a redirect."""

from __future__ import annotations

import pytest
from fetch_lab import Lab
from web_site import refusing

from bench import BenchError
from bench.encoders.fetch.web import check_address


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
