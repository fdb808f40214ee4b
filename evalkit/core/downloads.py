"""The cache folder and downloads, which fail fast without a network.

It imports only the core's errors, files, locks and progress, so that every package may use it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from email.message import Message
from http import HTTPStatus
from pathlib import Path

from evalkit.core.errors import MissingWeightsError, NetworkError, OutputError, WeightsError
from evalkit.core.files import writing
from evalkit.core.locks import locked
from evalkit.core.progress import ProgressCallback

# In total under 5 s, within which a missing network must be reported.
_RESOLVE_S = 2.5
_CONNECT_S = 2.0
_BLOCK = 1 << 20
CACHE_ADVICE = "Free some space, or choose another cache folder with EVALKIT_CACHE"


def cache_root() -> Path:
    """Return the cache folder: `$EVALKIT_CACHE`, or `~/.cache/evalkit`."""
    chosen = os.environ.get("EVALKIT_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "evalkit"


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def require_network(url: str) -> None:
    """Raise an error within 5 s if the host of an address (or its proxy) is unreachable.

    Raises:
        NetworkError: Names the host.
    """
    host, port = _first_hop(url)
    started = time.monotonic()
    addresses = _resolve(host, port)
    if not addresses:
        raise NetworkError(f"No network: can't resolve {host}.")
    until = started + _RESOLVE_S + _CONNECT_S
    for tried, address in enumerate(addresses):
        # A machine may have an IPv6 address without a route to the internet.
        left = max(0.5, until - time.monotonic()) / (len(addresses) - tried)
        with suppress(OSError):
            socket.create_connection(address, timeout=min(_CONNECT_S, left)).close()
            return
    raise NetworkError(f"No network: can't connect to {host}.")


def fetch(
    url: str,
    target: Path,
    *,
    sha256_prefix: str,
    report: ProgressCallback = lambda done, total: None,
) -> Path:
    """Download a file, check its hash, and only then rename it to its final name.

    A partial download is kept beside the target, and the next call resumes it if the server still
    has the same version of the file.

    Raises:
        NetworkError: The host is unreachable, or the transfer broke.
        WeightsError: The downloaded file has another hash.
    """
    require_network(url)
    with writing(target.parent, CACHE_ADVICE):
        target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    with _alone(partial, target) as first:
        if not first:
            return target
        _download(url, partial, report)
        found = sha256_of(partial)
        if not found.startswith(sha256_prefix):
            partial.unlink()
            raise WeightsError(
                f"{url}: sha256 starts with {found[:8]}, expected {sha256_prefix}. The file was "
                "discarded. Try again, or get the file by other means."
            )
        with writing(target, CACHE_ADVICE):
            partial.replace(target)
        _version_file(partial).unlink(missing_ok=True)
    return target


def existing_file(path: Path, *, what: str) -> Path:
    """Return the path if a file exists there.

    Raises:
        MissingWeightsError: There is none.
    """
    if not path.is_file():
        raise MissingWeightsError(
            f"{what}: {path} does not exist. Give the path of an existing file."
        )
    return path


def _first_hop(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _resolve(host: str, port: int) -> list[tuple[str, int]]:
    """Resolve a host to its first IPv4 and IPv6 address; to none if that takes too long."""
    found: dict[int, tuple[str, int]] = {}

    def look_up() -> None:
        with suppress(OSError):
            for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.setdefault(info[0], (str(info[4][0]), port))

    # A resolver without a network may block for half a minute and can't be interrupted.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(_RESOLVE_S)
    return list(found.values())


@contextmanager
def _alone(partial: Path, target: Path) -> Iterator[bool]:
    """Wait until no other process downloads the file; yield False if it exists by then."""
    lock = partial.with_name(f"{partial.name}.lock")
    there_before = target.exists()
    with ExitStack() as held:
        with writing(lock, CACHE_ADVICE):
            held.enter_context(locked(lock, wait=True))
        yield there_before or not target.exists()


def _download(url: str, partial: Path, report: ProgressCallback) -> None:
    """Download a file, or only the rest of it if `partial` holds a part of the same version."""
    headers, version = {}, _version_file(partial)
    if partial.exists() and version.exists():
        headers = {"Range": f"bytes={partial.stat().st_size}-", "If-Range": version.read_text()}
    try:
        # The addresses are literals of this package, so the scheme is known.
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            goes_on = response.status == HTTPStatus.PARTIAL_CONTENT
            _note_version(response.headers, version)
            done = partial.stat().st_size if goes_on else 0
            length = response.headers.get("Content-Length")
            total = done + int(length or 0)
            with ExitStack() as opened:
                with writing(partial, CACHE_ADVICE):
                    handle = opened.enter_context(partial.open("ab" if goes_on else "wb"))
                while block := response.read(_BLOCK):
                    with writing(partial, CACHE_ADVICE):
                        handle.write(block)
                    done += len(block)
                    report(done, total)
                with writing(partial, CACHE_ADVICE):
                    handle.flush()
                    os.fsync(handle.fileno())
    except OutputError:
        raise
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
            partial.unlink()
            return _download(url, partial, report)
        raise NetworkError(f"{url}: the download failed ({error}).") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise NetworkError(
            f"{url}: the download failed ({error}). Run the same command again to resume it."
        ) from error
    if length is not None and done < total:
        raise NetworkError(
            f"{url}: the download stopped after {done:,} of {total:,} bytes. Run the same command "
            "again to resume it."
        )


def _version_file(partial: Path) -> Path:
    """Return the file that holds the version tag of a partial download."""
    return partial.with_name(f"{partial.name}.version")


def _note_version(headers: Message, version: Path) -> None:
    """Store the tag or date that identifies the server's version of the file."""
    tag = headers.get("ETag") or headers.get("Last-Modified")
    if tag and not tag.startswith("W/"):
        version.write_text(tag)
    else:
        version.unlink(missing_ok=True)
