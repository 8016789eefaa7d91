"""Weights from Hugging Face, into its own cache, where every program that knows Hugging Face finds them.

huggingface_hub resumes, retries and locks. Its cache names weights by the digest that Hugging Face states: that is
compared here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.files import file_digest
from bench.encoders.fetch.weights import Fetched

_FILES = ["*.json", "*.safetensors"]
"""Configurations and weights as data; no pickles, no code."""


def fetch_folder(name: str, repository: str, *, check: bool, licence: str | None = None) -> Fetched:
    """The folder of a repository (OWNER/NAME): downloaded as far as it is not here, and its weights compared with their
    digests. `name` is what the user calls it.

    With `check` nothing is downloaded. No credentials are sent. Raises BenchError where it cannot be had.
    """
    here = _folder(name, repository, only_local=True)
    before = _digests(here) if here else {}
    folder = here if check else _folder(name, repository, only_local=False)
    url = f"https://huggingface.co/{repository}"
    if folder is None:
        return Fetched(name=name, state="not here", licence=licence, url=url)
    after = _digests(folder)
    weights = [file for file in after if file.suffix == ".safetensors"]
    if not weights:
        raise BenchError("no safetensors in this repository", where=url, fix="only weights as data are fetched")
    for file in weights:
        stated = after[file]
        if stated and file_digest(file) != stated:
            blob = str(file.resolve())
            raise BenchError("not the digest that Hugging Face states", where=blob, fix="delete it and fetch again")
    return Fetched(
        name=name,
        state="already here" if after == before else "fetched",
        licence=licence,
        url=url,
        path=str(folder),
        size_bytes=sum(file.stat().st_size for file in after),
        agrees_with="Hugging Face" if all(after[file] for file in weights) else None,
    )


def _folder(name: str, repository: str, *, only_local: bool) -> Path | None:
    """Where the repository's files are; None where they are not here and only those are asked for."""
    # Its usage statistics are no part of a download.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    url = f"https://huggingface.co/{repository}"
    try:
        return Path(snapshot_download(repository, allow_patterns=_FILES, token=False, local_files_only=only_local))
    except LocalEntryNotFoundError as error:
        if only_local:
            return None
        reason = (str(error.__cause__ or "").strip().splitlines() or ["no connection"])[0]
        raise BenchError(
            f"cannot be fetched: {reason}",
            where=url,
            fix=f"elsewhere run `hf download {repository}`, bring the folder here, and give its path as the model",
        ) from error
    except RepositoryNotFoundError as error:
        raise BenchError("no such repository, or not a public one", where=url, fix="check the spelling") from error
    except HFValidationError as error:
        raise BenchError(f"'{repository}' is no repository name", where=name, fix="give hf:OWNER/NAME") from error


def _digests(folder: Path) -> dict[Path, str | None]:
    """The files of a folder of the cache, each with the digest it is filed under; None where that is none."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file: _hex_name(file.resolve().name) for file in files}


def _hex_name(name: str) -> str | None:
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None
