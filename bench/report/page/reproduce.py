"""The command that makes a run again, from the arguments that its record holds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

DEFAULTS: Mapping[str, Any] = {
    "device": "auto",
    "precision": "auto",
    "compile": "off",
    "token_bits": 16,
    "decoder": "auto",
    "timeout_s": 60.0,
    "seed": 0,
    "max_failed": 0.01,
}
"""What `bench run` does where an option is not given, of the options that are not empty then."""
_ALWAYS = ("task", "model", "probe")
_OF_THE_MACHINE = ("cache", "results", "workers")
"""They say where files lie and how fast it goes, and change no score."""


def command(arguments: Mapping[str, Any]) -> str:
    """One line for a POSIX shell; empty where the record holds no arguments.

    Options at their default and those that only concern a machine are left out.
    """
    if not arguments.get("model"):
        return ""
    words = ["bench", "run"]
    names = [*_ALWAYS, *(name for name in arguments if name not in (*_ALWAYS, *_OF_THE_MACHINE))]
    for name in names:
        value = arguments.get(name)
        if name == "settings":
            for key, setting in dict(value or {}).items():
                words += ["--set", f"{key}={_written(setting)}"]
        elif name in _ALWAYS or value != DEFAULTS.get(name):
            words += _option(name, value)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False or value == []:
        return []
    if value is True:
        return [flag]
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ",".join(map(str, value))
    # A value that begins with a dash would be read as an option.
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _written(setting: Any) -> str:
    """A setting as YAML, which JSON is, on one line; text without quotes where YAML reads it as that text."""
    import yaml

    if isinstance(setting, str):
        try:
            if yaml.safe_load(setting) == setting:
                return setting
        except yaml.YAMLError:
            pass  # such as '{': quotes make it text
    return json.dumps(setting)
