"""Names of classes: reading them from a file, and finding the classes of a task among those of a probe.

A score under another order of the classes is noise that looks like a bad encoder, so classes are matched by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.files import lines_of
from bench.core.inputs import CLASS_NAMES, read_json, read_text, read_yaml

Names = tuple[str, ...]


def are_numbers(names: Sequence[str]) -> bool:
    """Whether the names say nothing: the labels 0, 1, 2, ... themselves, or the placeholders LABEL_0, LABEL_1, ..."""
    return list(names) in ([f"{prefix}{i}" for i in range(len(names))] for prefix in ("", "LABEL_"))


def read_class_names(path: Path) -> Names:
    """The names in label order: one a line, or JSON or YAML with a list, `id: name` or `name: id` (with or without
    quotes round the id), also under the key id2label as in a Hugging Face config.json.

    Raises BenchError for anything else, a name given twice, and labels with gaps.
    """
    try:
        if path.suffix == ".json":
            content = read_json(path, CLASS_NAMES)
        elif path.suffix in (".yaml", ".yml"):
            content = read_yaml(path, CLASS_NAMES)
        else:
            content = [line for _, line in lines_of(read_text(path, CLASS_NAMES, "utf-8-sig"))]
    except FileNotFoundError as error:
        raise BenchError("no such file of class names", where=str(path), fix="check --probe-classes") from error
    except BenchError as error:
        raise _unreadable(path, f"cannot be read: {error.what}") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, "cannot be read") from error
    return names_in_order(content, where=path)


def names_in_order(content: Any, *, where: Path) -> Names:
    """The names of a list or a mapping, checked; `where` is the file that it is from."""
    if isinstance(content, Mapping) and "id2label" in content:
        content = content["id2label"]
    names = _by_label(content, where) if isinstance(content, Mapping) else content
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise _unreadable(where, "holds no list of names")
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise _unreadable(where, f"names '{repeated}' twice")
    return tuple(name.strip() for name in names)


def _by_label(content: Mapping[Any, Any], where: Path) -> list[Any]:
    pairs = list(content.items())
    if not all(_is_label(key) for key, _ in pairs):
        pairs = [(label, name) for name, label in pairs]
    if not all(_is_label(label) for label, _ in pairs):
        raise _unreadable(where, "maps neither labels to names nor names to labels")
    by_label = {int(label): name for label, name in pairs}
    if sorted(by_label) != list(range(len(pairs))):
        raise _unreadable(where, f"does not name the labels 0 to {len(pairs) - 1}, each once")
    return [by_label[label] for label in range(len(pairs))]


def _is_label(value: Any) -> bool:
    return re.fullmatch(r"[0-9]{1,7}", str(value)) is not None and not isinstance(value, bool)


def _unreadable(path: Path, what: str) -> BenchError:
    return BenchError(f"the file of class names {what}", where=str(path), fix=CLASS_NAMES.fix)


def match(task: Names, probe: Names, *, where: str) -> tuple[int, ...]:
    """The number of each of the task's classes among the probe's, which are as many.

    Names are compared without regard to case, brackets, and underscores for spaces. Raises BenchError where the two do
    not name the same classes.
    """
    ours, theirs = ([_plain(name) for name in names] for names in (task, probe))
    if len(set(theirs)) < len(theirs) or len(set(ours)) < len(ours):
        ours, theirs = list(task), list(probe)
    numbers = {name: number for number, name in enumerate(theirs)}
    missing = [name for name, key in zip(task, ours, strict=True) if key not in numbers]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise BenchError(
            f"of the task's classes, the probe does not know '{missing[0]}'{more}; its first is '{probe[0]}'",
            where=where,
            fix="give the probe's classes under the task's names with --probe-classes FILE",
        )
    return tuple(numbers[name] for name in ours)


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[\[\]]", "", name).replace("_", " ").casefold().split())
