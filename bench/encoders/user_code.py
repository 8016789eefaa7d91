"""The source of an encoder of the user's own: its module, and what that imports of the same project or package.

Imports are read from the text of the files, not from what happens to be loaded, so that the answer is the same in every
process. What is installed (torch, timm, ...) is left out, and so are files that are read without an import.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import nn

from bench.core.hashing import text_digest
from bench.core.inputs import CODE, read_bytes

_INSTALLED = {"site-packages", "dist-packages"}
_SUITE = "bench"


def code_digest(module: str, encoder: nn.Module) -> str:
    """SHA-256 of the sources behind an encoder that a function of `module` returned; `module` is imported already."""
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
