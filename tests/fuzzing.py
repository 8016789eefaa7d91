"""Files with bytes changed, removed and put in: what the fuzz tests of tests/faults feed the readers with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench.core.errors import BenchError

Value = TypeVar("Value")

TOKENS = [
    b"", b"\0", b"\xff\xfe", b"\n", b" ", b",", b";", b'"', b"'", b"{", b"}", b"[", b"]", b"[" * 1100, b":", b"-",
    b"-1", b"0", b"1", b"7", b"0.5", b"99999999999999999999", b"9" * 5000, "\u0663".encode(), "\u00b2".encode(),
    b"1e300", b"1e999", b"NaN", b"null", b"true", b"../", b"/etc/passwd", b"00:99:99.9", b"2026-99-99", b"&a", b"*a",
    b"!!python/object/apply:os.system [true]", b"0b_", b"\xe2\x80\xae", b"<script>", b"%n",
]  # fmt: skip
"""What readers stumble over."""

WORD = -1
"""Stands for the length of a whole number or name, so that what comes in its place is read in its sense."""
_WORD = re.compile(rb"[\w.+-]+")

Edit = tuple[float, int, bytes]
"""Where (share of the length), how many bytes go (or the WORD there), and what comes in their place."""

edits = st.lists(
    st.tuples(st.floats(0, 1), st.just(WORD) | st.integers(0, 40), st.sampled_from(TOKENS) | st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, changes: list[Edit]) -> bytes:
    """`content` after the edits, one after another."""
    for share, gone, new in changes:
        place = int(share * len(content))
        if gone == WORD:
            words = [word.span() for word in _WORD.finditer(content)] or [(place, place)]
            place, end = words[min(int(share * len(words)), len(words) - 1)]
            gone = end - place
        content = content[:place] + new + content[place + gone :]
    return content


def fuzz(strategy: st.SearchStrategy[Value], check: Callable[[Value], None], *, examples: int) -> None:
    """Call `check` with so many examples. A BenchError is an answer; every other exception is a failure."""

    def answered(value: Value) -> None:
        try:
            check(value)
        except BenchError as error:
            assert "\n" not in str(error)

    limits = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    limits(given(strategy)(answered))()
