"""`bench fetch`: names -> the weights they stand for, each downloaded from where its authors offer it."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Sequence

from bench.core.errors import BenchError, nearest
from bench.core.progress import Reporter
from bench.encoders.catalog import model_cards
from bench.encoders.fetch.weights import Fetched, fetch_file

_MADE = ("random", "pixels")
"""Kinds of encoder that have no weights to read."""


def fetch(
    names: Sequence[str], reporter: Reporter, *, check: bool = False, wait: Callable[[float], None] = time.sleep
) -> list[Fetched]:
    """Download what is not here of the encoders that `names` stand for, and check what is.

    A name is one of the catalog, a wildcard, or a Hugging Face repository, hf:OWNER/NAME. With `check` nothing is
    downloaded or written, and a name without wildcards must be here. Every name is tried; raises BenchError where one
    fails. `wait` pauses for a number of seconds between attempts.
    """
    results: list[Fetched] = []
    problems: list[BenchError] = []
    for name in _chosen(names):
        try:
            result = _fetch(name, reporter, check, wait)
            if result.state == "not here" and name in names:
                raise BenchError("the weights are not here", where=result.path or name, fix=f"run `bench fetch {name}`")
            results.append(result)
        except BenchError as problem:
            problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        for each in problems:
            reporter.say(str(each))
        tried = len(problems) + len(results)
        raise BenchError(f"{len(problems)} of {tried} names failed", where="bench fetch", fix="see the lines above")
    return results


def _chosen(names: Sequence[str]) -> list[str]:
    """The names, each once, with wildcards replaced by what they match. Raises BenchError for what no card has."""
    cards = model_cards()
    known = {card.name for card in cards} | {card.hf for card in cards if card.hf}
    chosen: list[str] = []
    for name in names:
        if glob.has_magic(name):
            found = [card.name for card in model_cards(name)]
        else:
            found = [name] if name in known or name.partition(":")[0] in (*_MADE, "hf") else []
        if not found:
            raise BenchError(f"no encoder is called '{name}'", where="bench fetch", fix=nearest(name, known))
        chosen += found
    return list(dict.fromkeys(chosen))


def _fetch(name: str, reporter: Reporter, check: bool, wait: Callable[[float], None]) -> Fetched:
    card = next((card for card in model_cards() if card.name == name), None)
    licence = card.licence if card else None
    if name.partition(":")[0] in _MADE or (card and card.is_built_in):
        return Fetched(name=name, state="nothing to fetch", licence=licence)
    if card and (card.url or not card.hf):
        return fetch_file(card, reporter, check=check, wait=wait)
    from bench.encoders.fetch.hub import fetch_folder

    repository = card.hf if card and card.hf else name.removeprefix("hf:")
    return fetch_folder(name, repository, check=check, licence=licence)
