"""Folders of published repositories: a given one, the cached one, or a download."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from evalkit.core.downloads import require_network, sha256_of
from evalkit.core.errors import MissingWeightsError, NetworkError

PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Never a pickle."""


def hub_folder(name: str, repository: str, given: Path | None, *, instead: str) -> Path:
    """Return the folder of a repository's files.

    Args:
        name: Its name in `--weights`; empty: it has none.
        repository: On the hub, `owner/name`.
        given: A local folder to use instead.
        instead: A model that needs no download, for the error message.

    Raises:
        MissingWeightsError: The repository is neither cached nor downloadable.
    """
    if given is not None:
        if not given.is_dir():
            raise MissingWeightsError(f"--weights {name}={given} is not a folder.")
        return given
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
            raise NetworkError("HF_HUB_OFFLINE is set")
        require_network(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
        return Path(snapshot_download(repository, allow_patterns=list(PATTERNS)))
    except (NetworkError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise MissingWeightsError(
            f"{repository} not found in the cache, and the download failed: {reason}. Fetch it "
            "(some repositories require accepting a licence) and "
            f"{f'pass --weights {name}=FOLDER' if name else 'give its folder'}, or use {instead}, "
            "which needs no download."
        ) from error


def folder_sha256(folder: Path) -> str:
    """Return one hash of all weights in a folder, independent of the order on disk."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(f"{file.relative_to(folder)} {sha256_of(file)}\n".encode())
    return digest.hexdigest()
