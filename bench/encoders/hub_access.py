"""The Hugging Face hub for the libraries that load from it: quiet, and without waiting where there is no network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextmanager
def hub_access() -> Iterator[bool]:
    """While it lasts, huggingface_hub keeps its warnings to itself, and reads its cache alone where the hub's name
    cannot be resolved: by itself it would ask six times in 23 s for each file, one that is in the cache included.

    Gives whether the hub is asked at all.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    verbosity, offline = logging.get_verbosity(), constants.HF_HUB_OFFLINE
    online = not offline and _can_be_found(constants.ENDPOINT)
    logging.set_verbosity(ERROR)
    constants.HF_HUB_OFFLINE = not online
    try:
        yield online
    finally:
        logging.set_verbosity(verbosity)
        constants.HF_HUB_OFFLINE = offline


def _can_be_found(address: str) -> bool:
    """Whether the name in an address has a number; behind a proxy, it is the proxy that looks it up."""
    parts = urlsplit(address)
    if parts.scheme in getproxies():
        return True
    try:
        socket.getaddrinfo(parts.hostname, parts.port or parts.scheme)
    except OSError:
        return False
    return True
