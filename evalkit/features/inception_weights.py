"""Find the weights of Inception-2015, without importing torch."""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.catalog import INCEPTION_SHA256_PREFIX
from evalkit.core.downloads import cache_root, existing_file, fetch, sha256_of
from evalkit.core.errors import MissingWeightsError, NetworkError, WeightsError, as_clause
from evalkit.core.files import refuse_foreign_weights
from evalkit.core.progress import ProgressFactory, silent

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
_SAME_WEIGHTS = (WEIGHTS_FILE, "pt_inception-2015-12-05-6726825d.pth")
WEIGHTS_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHTS_FILE


def find_inception_weights(
    path: Path | str | None = None, *, progress: ProgressFactory = silent
) -> Path:
    """Find the weights: the given file, else the cache or torch's hub folder, else a download.

    Raises:
        MissingWeightsError: There is none and it can't be downloaded; says where to put it.
        WeightsError: A cached or downloaded file has another hash, or the given one is no weights.
    """
    if path is not None:
        given = existing_file(Path(path), what="--inception-weights")
        refuse_foreign_weights(given)
        return given
    found = cached_inception_weights()
    if found is not None:
        return _checked(found)
    cached = _cache_file()
    try:
        with progress(f"downloading {WEIGHTS_FILE}") as report:
            return fetch(WEIGHTS_URL, cached, sha256_prefix=INCEPTION_SHA256_PREFIX, report=report)
    except NetworkError as error:
        raise MissingWeightsError(
            f"Inception weights {WEIGHTS_FILE} (sha256 {INCEPTION_SHA256_PREFIX}...) are not "
            f"cached, and the download failed ({as_clause(error)}). Put the file at {cached}, pass "
            "--inception-weights PATH, or use --features shapes-clip."
        ) from error


def cached_inception_weights() -> Path | None:
    """Return the weights file in the cache or in torch's hub folder, or None."""
    hub = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    folders = (_cache_file().parent, hub / "hub" / "checkpoints")
    candidates = (folder / name for folder in folders for name in _SAME_WEIGHTS)
    return next((file for file in candidates if file.is_file()), None)


def _cache_file() -> Path:
    return cache_root() / "weights" / WEIGHTS_FILE


def _checked(path: Path) -> Path:
    found = sha256_of(path)
    if not found.startswith(INCEPTION_SHA256_PREFIX):
        raise WeightsError(
            f"{path}: sha256 starts with {found[:8]}, expected {INCEPTION_SHA256_PREFIX}. "
            "Delete it to download it again, or pass it as --inception-weights PATH to use it "
            "anyway."
        )
    return path
