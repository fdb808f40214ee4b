"""Folders of pipelines in diffusers' format: a local one, the hub's cache, or a download.

Checks fail fast: whether a folder or a repository exists is known before torch is imported, and
without a network within 5 s.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.downloads import require_network, sha256_of
from evalkit.core.errors import ConfigError, MissingWeightsError, NetworkError, WeightsError
from evalkit.core.registry import require

INDEX = "model_index.json"
WEIGHTS_SUFFIXES = (".safetensors", ".bin")
"""Of tensors that are read without executing anything."""
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "Processor", "FeatureExtractor")
"""Endings of the classes of components that have a configuration only."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A pipeline's place: a folder, or a repository on the hub."""

    place: str
    """Path of the folder, or `owner/name`."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None: the cached one, or else the main branch."""
    name: str = ""
    """Its name in `--weights`; empty: it has none."""

    @property
    def is_folder(self) -> bool:
        """Whether it is on this machine."""
        return Path(self.place).is_dir()

    @property
    def title(self) -> str:
        """Its last part, for reports."""
        return Path(self.place).resolve().name if self.is_folder else self.place.split("/")[-1]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """The files of a pipeline on this machine."""

    folder: Path
    source: str
    """Where they came from, with the commit, for the fingerprint."""

    def index(self) -> dict[str, Any]:
        """Read the list of the pipeline's components.

        Raises:
            WeightsError: The folder is not a pipeline in diffusers' format.
        """
        path = self.folder / INDEX
        found = read_json(path)
        if not isinstance(found.get("_class_name"), str):
            raise WeightsError(
                f"{path}: _class_name is {found.get('_class_name')!r}, expected the name of a "
                "class in diffusers. Pipelines with code of their own are not run."
            )
        return found

    def sha256(self) -> str:
        """Return one hash of all weights and configurations, independent of the order on disk."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.rglob("*")):
            if file.suffix in (*WEIGHTS_SUFFIXES, ".json") and file.is_file():
                digest.update(f"{file.relative_to(self.folder)} {_sha256(file)}\n".encode())
        return digest.hexdigest()

    def component(self, name: str) -> dict[str, Any]:
        """Read a component's configuration; empty if it has none."""
        for file in ("config.json", "scheduler_config.json"):
            if (self.folder / name / file).is_file():
                return read_json(self.folder / name / file)
        return {}


def _sha256(file: Path) -> str:
    """Return a file's hash: of a large file in the hub's cache, its name there.

    The hub checks it at the download; gigabytes would be read at each start otherwise.
    """
    blob = file.resolve()
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name
    return sha256_of(file)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: The file is missing or holds something else.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise WeightsError(
            f"{path.parent} holds no {path.name}; expected a pipeline in diffusers' format, as "
            "save_pretrained writes it."
        ) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read as JSON ({error}).") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, expected a JSON object.")
    return found


def parse_repositories(text: str) -> tuple[Repository, ...]:
    """Parse `PATH` or `OWNER/NAME[@REVISION]`; `+` joins a cascade's parts.

    >>> [(r.place, r.revision) for r in parse_repositories("lab/base@v2+lab/up")]
    [('lab/base', 'v2'), ('lab/up', None)]

    Raises:
        ConfigError: Neither a folder nor the name of a repository.
    """
    if _folder(text).is_dir():
        return (Repository(place=str(_folder(text))),)
    return tuple(_parsed(part) for part in text.split("+"))


def _parsed(text: str) -> Repository:
    if _folder(text).is_dir():
        return Repository(place=str(_folder(text)))
    place, at, revision = text.partition("@")
    if not _REPOSITORY.fullmatch(place) or place.startswith(".") or (at and not revision):
        raise ConfigError(
            f"diffusers:{text}: no such folder, and not the name of a repository. Give the folder "
            "of a pipeline, or OWNER/NAME[@REVISION] on the hub."
        )
    return Repository(place=place, revision=revision or None)


def check(name: str, weights: Mapping[str, Path]) -> None:
    """Check that the place of `diffusers:PLACE` is there or reachable, without torch.

    Raises:
        ConfigError: Neither a folder nor the name of a repository, or it has no such weights.
        MissingWeightsError: Neither cached nor downloadable.
        WeightsError: Not a pipeline in diffusers' format.
    """
    places = parse_repositories(name.partition(":")[2])
    for place in with_overrides(name, places, weights):
        require_repository(place, instead="glide:tiny")


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def with_overrides(
    name: str, repositories: tuple[Repository, ...], weights: Mapping[str, Path]
) -> tuple[Repository, ...]:
    """Replace repositories by the folders of `--weights`.

    Raises:
        ConfigError: The model has no such weights.
        MissingWeightsError: A path is not a folder.
    """
    known = [repository.name for repository in repositories if repository.name]
    for part, path in weights.items():
        if part not in known:
            has = f"it has: {', '.join(known)}" if known else "it is named by its place"
            raise ConfigError(f"{name} has no weights {part!r}; {has}.")
        if not path.is_dir():
            raise MissingWeightsError(f"--weights {part}={path} is not a folder.")
    return tuple(
        Repository(place=str(weights[one.name]), name=one.name) if one.name in weights else one
        for one in repositories
    )


def require_repository(repository: Repository, *, instead: str) -> None:
    """Check, without torch, that a pipeline is on this machine or that the hub is reachable.

    Raises:
        MissingExtraError: diffusers is not installed.
        MissingWeightsError: It is neither cached nor downloadable.
        WeightsError: The folder is not a pipeline.
    """
    from importlib.util import find_spec

    if find_spec("diffusers") is None:
        require("diffusers", extra="diffusers", what=f"{repository.place} through diffusers")
    if repository.is_folder:
        Fetched(folder=Path(repository.place), source="").index()
    elif _cached(repository) is None:
        try:
            _require_hub()
        except NetworkError as error:
            raise _missing(repository, str(error), instead) from error


def fetch_repository(repository: Repository, *, instead: str) -> Fetched:
    """Return the files of a pipeline; only those that it needs are downloaded.

    Raises:
        MissingWeightsError: It is neither cached nor downloadable, or its licence isn't accepted.
        WeightsError: It is not a pipeline.
    """
    if repository.is_folder:
        source = f"given: {repository.name}" if repository.name else f"folder {repository.title}"
        return Fetched(folder=Path(repository.place), source=source)
    cached = _cached(repository)
    if cached is not None and _is_complete(cached):
        return _of_snapshot(repository, cached)
    try:
        _require_hub()
        return _of_snapshot(repository, _download(repository, instead))
    except NetworkError as error:
        raise _missing(repository, str(error), instead) from error


def _of_snapshot(repository: Repository, folder: Path) -> Fetched:
    return Fetched(folder=folder, source=f"{repository.place}@{folder.name}")


def _cached(repository: Repository) -> Path | None:
    """Return the cached snapshot, which may lack files, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository.place, INDEX, revision=repository.revision)
    return Path(found).parent if isinstance(found, str) else None


def _is_complete(folder: Path) -> bool:
    """Return whether each component of a snapshot has its files."""
    index = read_json(folder / INDEX)
    for name, value in components(index):
        if not any((folder / name).glob("*")):
            return False
        if value[1].endswith(_WITHOUT_WEIGHTS) or "Tokenizer" in value[1]:
            continue
        files = {file.name for file in (folder / name).iterdir()}
        lists = [folder / name / file for file in files if file.endswith(".index.json")]
        shards = {s for file in lists for s in read_json(file).get("weight_map", {}).values()}
        if shards - files or not any(file.endswith(WEIGHTS_SUFFIXES) for file in files):
            return False
    return True


def components(index: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the name of each component of a pipeline, with its library and class."""
    for name, value in index.items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
            yield name, (value[0], value[1])


def _require_hub() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise NetworkError("HF_HUB_OFFLINE is set")
    require_network(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


def _download(repository: Repository, instead: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place, revision = repository.place, repository.revision
    try:
        hf_hub_download(place, INDEX, revision=revision)
        diffusers = require("diffusers", extra="diffusers", what=f"{place} through diffusers")
        return Path(diffusers.DiffusionPipeline.download(place, revision=revision))
    except GatedRepoError as error:
        raise MissingWeightsError(
            f"{place} is gated: its licence is not accepted, or no token was sent. Accept it at "
            f"https://huggingface.co/{place}, then set HF_TOKEN to a token of that account."
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingWeightsError(
            f"The hub has no repository {place}, or it is private. Check the name, or set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise MissingWeightsError(
            f"{place} has no revision {revision!r}. Give a branch, tag or commit of it."
        ) from error
    except EntryNotFoundError as error:
        raise WeightsError(
            f"{place} holds no {INDEX}, so it is not a pipeline in diffusers' format. Give the "
            "repository of a whole pipeline."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise _missing(repository, str(error), instead) from error


def _missing(repository: Repository, why: str, instead: str) -> MissingWeightsError:
    reason = (why.strip().splitlines() or ["no reason given"])[0].rstrip(".")
    place = repository.place + (f"@{repository.revision}" if repository.revision else "")
    given = f"pass --weights {repository.name}=FOLDER" if repository.name else "give its folder"
    return MissingWeightsError(
        f"{place} not found in the cache, and the download failed: {reason}. Fetch it (some "
        f"repositories require accepting a licence) and {given}, or use {instead}, which needs no "
        "download."
    )
