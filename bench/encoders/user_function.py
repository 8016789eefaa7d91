"""Encoders of the user's own: a function that returns an `Encoder`, named on the command line.

    package.module:function[@FILE]     a function of a module that Python finds, the current folder included
    NAME[@FILE]                        an entry point of the group `bench.encoders` of an installed package

The function is called without arguments, or with the path of FILE. Its module is run, as any import is: it is the
user's own code, and nothing else runs code that a model spec names. The contract is in docs/extending.md.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.core.errors import BenchError, nearest
from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.registered import registered_encoders
from bench.encoders.user_answer import known_by_its_answer
from bench.encoders.user_code import code_digest

_FUNCTION = re.compile(r"(?P<module>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")


def is_own(spec: str) -> bool:
    """Whether a model spec has the form of a function's name, or names an entry point."""
    name = spec.partition("@")[0]
    return bool(_FUNCTION.fullmatch(name)) or name in (encoder.name for encoder in registered_encoders())


def own_facts(spec: str) -> EncoderFacts:
    """The facts of the encoder that the function returns; it is called for them, as there is no other way to know."""
    return load_own(spec).facts


def load_own(spec: str) -> Encoder:
    """The encoder that the function returns. Raises BenchError where there is no such function, it fails, or it returns
    anything else."""
    name, at, file = spec.partition("@")
    function = _find(name)
    try:
        encoder = function(Path(file).expanduser()) if at else function()
    except BenchError:
        raise
    except Exception as error:
        raise _failed(spec, error) from error
    if not isinstance(encoder, Encoder):
        raise BenchError(
            f"returns a {type(encoder).__name__}, not a bench.encoders.Encoder",
            where=f"model {spec}",
            fix="see docs/extending.md",
        )
    return encoder


def identified(spec: str, encoder: Encoder) -> Encoder:
    """An encoder of `load_own`, on its device, with what its code decides: digest and scale of tokens. Returns itself.

    Raises BenchError where it cannot encode the known clips.
    """
    module, _ = _place(spec.partition("@")[0])
    try:
        return known_by_its_answer(encoder, code_digest(module, encoder.module))
    except BenchError:
        raise
    except Exception as error:
        raise _failed(spec, error) from error


def _place(name: str) -> tuple[str, str]:
    """Module and name of the function that a spec without its file stands for."""
    match = _FUNCTION.fullmatch(name)
    if match is not None:
        return match["module"], match["function"]
    found = next(encoder for encoder in registered_encoders() if encoder.name == name)
    return found.module, found.function


def _find(name: str) -> Callable[..., Any]:
    module, attribute = _place(name)
    try:
        namespace = vars(_import(module))
    except BenchError:
        raise
    except Exception as error:
        raise _failed(name, error) from error
    if not callable(namespace.get(attribute)):
        functions = [known for known, value in namespace.items() if callable(value) and not known.startswith("_")]
        raise BenchError(f"no function '{attribute}'", where=f"model {name}", fix=nearest(attribute, functions))
    function: Callable[..., Any] = namespace[attribute]
    return function


def _import(module: str) -> ModuleType:
    """The module, looked for in the current folder too, after the installed packages."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports one that is not
        raise BenchError(
            f"no module '{error.name}' here or among the installed packages",
            where=f"model {module}",
            fix="run bench in the module's folder, install its package, or check the spelling (`bench models`)",
        ) from error


def _failed(spec: str, error: Exception) -> BenchError:
    return BenchError(
        f"{type(error).__name__}: {error}", where=f"model {spec}", fix="a fault in that module; --debug shows where"
    )
