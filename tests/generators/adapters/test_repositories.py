"""Repositories on the hub: a cache in the hub's layout, and what the hub may answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from evalkit.core.downloads import sha256_of
from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.adapters import repositories
from generators.adapters.repositories import Repository, fetch_repository
from generators.catalog import load_generator

pytest.importorskip("diffusers")

Pipelines = Callable[[str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "f" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipelines: Pipelines) -> Path:
    """The hub's cache with one repository: the branch main, and a tag of an earlier commit."""
    folder = tmp_path / "models--lab--tiny"
    for commit in (COMMIT, LATER):
        shutil.copytree(pipelines("ddpm"), folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(LATER)
    (folder / "refs" / "v1").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return folder


def test_the_revision_decides_the_commit_in_the_fingerprint(cache: Path) -> None:
    assert load_generator("diffusers:lab/tiny").spec.weights == f"lab/tiny@{LATER}"
    tagged = load_generator("diffusers:lab/tiny@v1").spec
    assert tagged.weights == f"lab/tiny@{COMMIT}"
    assert tagged.name == "diffusers:lab/tiny@v1"
    with pytest.raises(MissingWeightsError, match="lab/tiny@v2 not found in the cache"):
        load_generator("diffusers:lab/tiny@v2")


def test_an_unfinished_download_is_not_taken_for_a_pipeline(cache: Path) -> None:
    weights = cache / "snapshots" / LATER / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    with pytest.raises(MissingWeightsError, match="the download failed: HF_HUB_OFFLINE is set"):
        load_generator("diffusers:lab/tiny")


def answer(kind: type[Exception]) -> Exception:
    """An error of the hub's client, whose classes want the answer of an HTTP library."""
    error = kind.__new__(kind)
    Exception.__init__(error, "the hub said no\nin two lines")
    return error


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            errors.GatedRepoError,
            r"lab/other is gated: .* at https://huggingface\.co/lab/other, then set HF_TOKEN",
        ),
        (errors.RepositoryNotFoundError, "The hub has no repository lab/other, or it is"),
        (errors.RevisionNotFoundError, "lab/other has no revision 'v9'"),
        (errors.HfHubHTTPError, "lab/other@v9 not found .* failed: the hub said no. Fetch"),
    ],
)  # fmt: skip
def test_what_the_hub_answers_is_one_line(
    kind: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise answer(kind)

    monkeypatch.setattr(repositories, "_require_hub", lambda: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(MissingWeightsError, match=message) as caught:
        fetch_repository(Repository(place="lab/other", revision="v9"), instead="glide:tiny")
    assert "\n" not in str(caught.value)


def test_a_repository_without_an_index_is_no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise answer(errors.RemoteEntryNotFoundError)

    monkeypatch.setattr(repositories, "_require_hub", lambda: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(WeightsError, match=r"lab/other holds no model_index\.json"):
        fetch_repository(Repository(place="lab/other"), instead="glide:tiny")


def test_only_the_files_of_the_pipeline_are_fetched(
    monkeypatch: pytest.MonkeyPatch, pipelines: Pipelines
) -> None:
    import diffusers

    asked = []

    def download(place: str, **options: Any) -> str:
        asked.append((place, options))
        return str(pipelines("ddpm"))

    monkeypatch.setattr(repositories, "_require_hub", lambda: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: None)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", download)
    found = fetch_repository(Repository(place="lab/other", revision="v9"), instead="glide:tiny")
    assert found.folder == pipelines("ddpm")
    assert asked == [("lab/other", {"revision": "v9"})]  # diffusers chooses the files


def test_large_files_of_the_cache_are_not_read_for_their_hash(cache: Path) -> None:
    """The hub's cache links to `blobs/SHA256`, whose content was checked at the download."""
    folder = cache / "snapshots" / LATER
    plain = repositories.Fetched(folder=folder, source="").sha256()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    blob = cache / "blobs" / sha256_of(weights)
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)
    assert repositories.Fetched(folder=folder, source="").sha256() == plain
    blob.write_bytes(b"not read")
    assert repositories.Fetched(folder=folder, source="").sha256() == plain
