"""The cache folder and downloads, with a quick answer where there is no network.

Imports nothing else of ours but the errors, so that every package may use it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from evalkit.errors import MissingWeightsError, NetworkError, WeightsError

# Together under 5 s, the time in which a missing network must be reported.
_RESOLVE_S = 2.5
_CONNECT_S = 2.0
_BLOCK = 1 << 20


def cache_root() -> Path:
    """Where downloads are kept: `$EVALKIT_CACHE`, or `~/.cache/evalkit`."""
    chosen = os.environ.get("EVALKIT_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "evalkit"


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def require_network(url: str) -> None:
    """Stop within 5 s when the host of an address (or the proxy in front of it) can't be reached.

    Raises:
        NetworkError: Names the host.
    """
    host, port = _first_hop(url)
    started = time.monotonic()
    address = _resolve(host, port)
    if address is None:
        raise NetworkError(f"no network: can't find {host}")
    left = max(0.5, _RESOLVE_S + _CONNECT_S - (time.monotonic() - started))
    try:
        socket.create_connection(address, timeout=min(_CONNECT_S, left)).close()
    except OSError as error:
        raise NetworkError(f"no network: can't connect to {host}") from error


def fetch(
    url: str,
    target: Path,
    *,
    sha256_prefix: str,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Download a file, check its hash, and only then give it its name.

    Raises:
        NetworkError: The host can't be reached or the transfer broke.
        WeightsError: What arrived has another hash.
    """
    require_network(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _download(url, temporary, report)
        found = sha256_of(temporary)
        if not found.startswith(sha256_prefix):
            raise WeightsError(
                f"{url}: sha256 starts with {found[:8]}, expected {sha256_prefix}; nothing was "
                "kept; try again, or fetch the file by other means"
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def existing_file(path: Path, *, what: str) -> Path:
    """The path, if a file is there.

    Raises:
        MissingWeightsError: There is none.
    """
    if not path.is_file():
        raise MissingWeightsError(f"{what}: no file {path}; give the path of an existing file")
    return path


def _first_hop(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _resolve(host: str, port: int) -> tuple[str, int] | None:
    found: list[tuple[str, int]] = []

    def look_up() -> None:
        try:
            for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((str(info[4][0]), port))
        except OSError:
            return

    # A resolver without a network may block for half a minute and can't be interrupted.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_RESOLVE_S)
    return found[0] if found else None


def _download(url: str, path: Path, report: Callable[[int, int], None]) -> None:
    try:
        # The addresses are literals of this package, so the scheme is known.
        with urllib.request.urlopen(url, timeout=30) as response, path.open("wb") as handle:  # noqa: S310
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while block := response.read(_BLOCK):
                handle.write(block)
                done += len(block)
                report(done, total)
            handle.flush()
            os.fsync(handle.fileno())
    except (urllib.error.URLError, OSError) as error:
        raise NetworkError(f"{url}: download failed ({error})") from error
