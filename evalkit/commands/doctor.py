"""`evalkit doctor`: what is installed, cached and reachable, and the device in use."""

from __future__ import annotations

import os
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich import box
from rich.table import Table

from evalkit import __version__
from evalkit.core.downloads import cache_root, require_network
from evalkit.core.errors import NetworkError, as_clause
from evalkit.core.progress import print_list
from evalkit.features.hub_weights import cached_clip
from evalkit.features.inception_weights import cached_inception_weights
from evalkit.options.measuring import DEFAULT_CLIP

LIBRARIES = {
    "torch": "",
    "torchvision": "",
    "open_clip_torch": "",
    "transformers": "",
    "accelerate": "train",
    "streamlit": "app",
    "SQLAlchemy": "app",
    "evalica": "study",
    "psycopg": "postgresql",
}
"""Optional packages, and the extra that installs each."""
HOSTS = {
    "Hugging Face hub": "https://huggingface.co",
    "GLIDE's weights": "https://openaipublic.blob.core.windows.net",
    "Inception's weights": "https://github.com",
}


def doctor() -> None:
    """Print the findings; change and download nothing."""
    table = Table(
        "what", "finding", title="evalkit doctor", title_justify="left", box=box.SIMPLE_HEAD
    )
    for what, finding in _findings():
        table.add_row(what, finding)
    print_list(table)


def _findings() -> list[tuple[str, str]]:
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        reached = list(pool.map(_reachable, HOSTS.values()))
    return [
        ("evalkit", __version__),
        ("Python", platform.python_version()),
        ("device", _device()),
        ("cores", str(os.cpu_count())),
        *[(name, _installed(name, extra)) for name, extra in LIBRARIES.items()],
        ("cache", _cache()),
        ("Inception weights", _file(cached_inception_weights())),
        (f"CLIP {DEFAULT_CLIP} weights", _file(cached_clip(DEFAULT_CLIP))),
        ("GLIDE weights", _cached("weights", "glide-*")),
        ("COCO", _coco()),
        *zip(HOSTS, reached, strict=True),
    ]


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name(0)})"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads != 1)} (torch sees no GPU)"


def _installed(name: str, extra: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"not installed: pip install 'evalkit[{extra}]'" if extra else "not installed"


def _cache() -> str:
    root = cache_root()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    return f"{root} ({free_gb:.0f} GB free)"


def _file(path: Path | None) -> str:
    return str(path) if path else "not cached"


def _cached(folder: str, pattern: str) -> str:
    found = sorted(path.name for path in (cache_root() / folder).glob(pattern))
    return ", ".join(found) if found else "not cached"


def _coco() -> str:
    named = os.environ.get("EVALKIT_COCO")
    root = Path(named) if named else cache_root() / "coco"
    there = (root / "annotations" / "captions_val2014.json").is_file()
    return f"{root}" if there else f"not in {root}"


def _reachable(url: str) -> str:
    try:
        require_network(url)
    except NetworkError as error:
        return as_clause(error)
    return "reachable"
