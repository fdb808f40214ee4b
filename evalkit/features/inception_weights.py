"""Where the weights of Inception-2015 are; looking for them imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.downloads import cache_root, existing_file, fetch, sha256_of
from evalkit.errors import MissingWeightsError, NetworkError, WeightsError
from evalkit.features.base import ProgressFactory, silent

WEIGHTS_SHA256_PREFIX = "6726825d"
WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
_SAME_WEIGHTS = (WEIGHTS_FILE, "pt_inception-2015-12-05-6726825d.pth")
WEIGHTS_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/" + WEIGHTS_FILE


def find_inception_weights(
    path: Path | str | None = None, *, progress: ProgressFactory = silent
) -> Path:
    """The weights file: the one given, else from the cache or torch's hub folder, else downloaded.

    Raises:
        MissingWeightsError: There is none and it can't be fetched; says where to put it.
        WeightsError: A cached or downloaded file has another hash.
    """
    if path is not None:
        return existing_file(Path(path), what="--inception-weights")
    cached = cache_root() / "weights" / WEIGHTS_FILE
    for candidate in _candidates(cached):
        if candidate.is_file():
            return _checked(candidate)
    try:
        with progress(f"downloading {WEIGHTS_FILE}") as report:
            return fetch(WEIGHTS_URL, cached, sha256_prefix=WEIGHTS_SHA256_PREFIX, report=report)
    except NetworkError as error:
        raise MissingWeightsError(
            f"the Inception weights {WEIGHTS_FILE} (sha256 {WEIGHTS_SHA256_PREFIX}...) are not "
            f"cached and can't be fetched ({error}); put the file at {cached}, or pass "
            "--inception-weights PATH, or measure with --features shapes-clip"
        ) from error


def _candidates(cached: Path) -> list[Path]:
    hub = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    checkpoints = hub / "hub" / "checkpoints"
    return [
        cached,
        *(folder / name for folder in (cached.parent, checkpoints) for name in _SAME_WEIGHTS),
    ]


def _checked(path: Path) -> Path:
    found = sha256_of(path)
    if not found.startswith(WEIGHTS_SHA256_PREFIX):
        raise WeightsError(
            f"{path}: sha256 starts with {found[:8]}, expected {WEIGHTS_SHA256_PREFIX}; delete it "
            "to fetch it again, or pass it as --inception-weights PATH to use it all the same"
        )
    return path
