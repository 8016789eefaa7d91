"""Encoders of the user's own: a function that returns an `Encoder`, named on the command line.

    package.module:function[@FILE]     a function of a module that Python finds, the current folder included
    NAME[@FILE]                        an entry point of the group `bench.encoders` of an installed package

The function is called without arguments, or with the path of FILE. Its module is run, as any import is: it is the
user's own code, and nothing else runs code that a model spec names. The contract is in docs/extending.md.

Such an encoder is known by what it answers and by its source, so that editing its code makes it another encoder.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bench.core.errors import BenchError, nearest
from bench.core.hashing import text_digest
from bench.core.inputs import CODE, read_bytes
from bench.core.tensors import token_scale
from bench.encoders.catalog import registered_encoders
from bench.encoders.contract import Encoder, EncoderFacts
from bench.encoders.known_input import known_digest, moving_clips

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


_ORDINARY_SPREAD = (2.0**-4, 2.0**4)
"""Spread of a token's channels that is left as it is. Narrower than what epsilons and half precision ask for: the
V-JEPA 2 probe adds to the tokens as they are, so that their scale has a meaning to it."""


def known_by_its_answer(encoder: Encoder, code: str) -> Encoder:
    """The encoder with the digest and the scale that its answer to the known clips gives; returns itself.

    `code` is the digest of its source. The clips are `moving_clips`, encoded one by one on its device.
    """
    encoder.token_scale = 1.0  # of what it is made of, which its own now takes the place of
    with full_precision():
        tokens = torch.cat([encoder(clip[None]) for clip in moving_clips(encoder.input_spec)]).nan_to_num()
    encoder.report["known_input"] = known_digest(tokens[:2])
    answer = f"{encoder.report['known_input']} {known_digest(tokens[2:])}"
    return encoder.known_by(answer, code, token_scale(tokens[:2], _ORDINARY_SPREAD))


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 within: an answer must be the same on a CPU and on a GPU up to the last bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


_INSTALLED = {"site-packages", "dist-packages"}
_SUITE = "bench"


def code_digest(module: str, encoder: nn.Module) -> str:
    """SHA-256 of the sources behind an encoder that a function of `module` returned: that module, which is imported
    already, and what it imports of the same project or package.

    Imports are read from the text of the files, not from what happens to be loaded, so that the answer is the same in
    every process. What is installed (torch, timm, ...) is left out, and so are files that are read without an import.
    """
    top = module.partition(".")[0]
    roots = _roots(top)
    installed = any(_INSTALLED & set(root.parts) for root in roots)
    waiting = [module, *(type(part).__module__ for part in encoder.modules())]
    files: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        of_her_own = name.partition(".")[0] == top or not installed
        if name in files or not of_her_own or (name.partition(".")[0] == _SUITE and name != module):
            continue
        path = _file(name, roots)
        if path is None:
            continue
        files[name] = read_bytes(path, CODE)
        waiting += [name.rpartition(".")[0], *_imported(name, path, files[name])]
    lines = (f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(files.items()))
    return text_digest("".join(lines))


def _roots(top: str) -> list[Path]:
    """The folders that the package or module `top` lies in."""
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    places: Iterable[str] = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return [Path(place).resolve().parent for place in places]


def _file(name: str, roots: Sequence[Path]) -> Path | None:
    """The source of a module in one of these folders; None for a module that is not there."""
    if not name:
        return None
    for root in roots:
        place = root.joinpath(*name.split("."))
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                return path
    return None


def _imported(name: str, path: Path, source: bytes) -> Iterator[str]:
    """Every module that an import anywhere in the source may mean."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # never imported, or it would have failed
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
