"""Find the weights of LPIPS's backbone, without importing torch.

LPIPS has two parts: five linear layers, which torchmetrics ships, and torchvision's AlexNet, which
is the file that is found here.
"""

from __future__ import annotations

import os
from pathlib import Path

from evalkit.core.downloads import cache_root, existing_file, fetch, sha256_of
from evalkit.core.errors import MissingWeightsError, NetworkError, WeightsError, as_clause
from evalkit.core.progress import ProgressFactory, silent

ALEXNET_FILE = "alexnet-owt-7be5be79.pth"
ALEXNET_SHA256_PREFIX = "7be5be79"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET_FILE}"


def find_alexnet(path: Path | None = None, *, progress: ProgressFactory = silent) -> Path:
    """Find the weights: the given file, else the cache or torch's hub folder, else a download.

    Args:
        path: A state dict of torchvision's AlexNet; None: the published one.
        progress: Shows a download.

    Raises:
        MissingWeightsError: There is none and it can't be downloaded; says where to put it.
        WeightsError: A cached or downloaded file has another hash.
    """
    if path is not None:
        return existing_file(Path(path), what="--lpips-weights")
    hub = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    target = cache_root() / "weights" / ALEXNET_FILE
    for cached in (target, hub / "hub" / "checkpoints" / ALEXNET_FILE):
        if cached.is_file():
            return _checked(cached)
    try:
        with progress(f"downloading {ALEXNET_FILE}") as report:
            return fetch(ALEXNET_URL, target, sha256_prefix=ALEXNET_SHA256_PREFIX, report=report)
    except NetworkError as error:
        raise MissingWeightsError(
            f"AlexNet weights {ALEXNET_FILE} for LPIPS (sha256 {ALEXNET_SHA256_PREFIX}...) are not "
            f"cached, and the download failed ({as_clause(error)}). Put the file at {target}, or "
            "pass --lpips-weights PATH."
        ) from error


def _checked(path: Path) -> Path:
    found = sha256_of(path)
    if not found.startswith(ALEXNET_SHA256_PREFIX):
        raise WeightsError(
            f"{path}: sha256 starts with {found[:8]}, expected {ALEXNET_SHA256_PREFIX}. Delete it "
            "to download it again, or pass it as --lpips-weights PATH to use it anyway."
        )
    return path
