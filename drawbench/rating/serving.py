"""Start the web pages of a study as a server process."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from drawbench.errors import StoreError
from evalkit.core.errors import ConfigError, MissingExtraError

PAGES = Path(__file__).parents[1] / "pages"
JOIN_LIMIT_VARIABLE = "EVALKIT_JOIN_LIMIT"
DEFAULT_JOIN_LIMIT = 20
LOCALHOST = "127.0.0.1"
START_TIMEOUT_S = 120.0


def page_command(results: bool, port: int, address: str) -> list[str]:
    """Return the command line that serves a page.

    Raises:
        MissingExtraError: The packages of the pages are not installed.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("the rating page", "app")
    script = PAGES / ("results.py" if results else "rate.py")
    options = ["--server.port", str(port), "--server.address", address]
    return [sys.executable, "-m", "streamlit", "run", str(script), *options]


def page_environment(
    study: Path | None, database: str, *, join_limit: int | None = None, proxies: str = ""
) -> dict[str, str]:
    """Return the environment in which a page finds its study; without one, the sample study.

    Args:
        study: Folder of the study.
        database: URL of its votes; empty for the default.
        join_limit: Raters who may join from one client within an hour; None for the default.
        proxies: Addresses of proxies that say for whom they ask; the server believes them.
    """
    environment = {**os.environ, "EVALKIT_STUDY": str(study.absolute()) if study else ""}
    given = {
        "EVALKIT_DATABASE": database,
        JOIN_LIMIT_VARIABLE: "" if join_limit is None else str(join_limit),
        "FORWARDED_ALLOW_IPS": proxies,  # read by uvicorn
    }
    return {**environment, **{name: value for name, value in given.items() if value}}


def read_join_limit(text: str) -> int:
    """Return the limit in an environment variable, or the default where it is empty.

    Raises:
        ConfigError: It is not a whole number of at least 0.
    """
    if not text:
        return DEFAULT_JOIN_LIMIT
    if not text.isdecimal():
        raise ConfigError(
            f"{JOIN_LIMIT_VARIABLE} is {text!r}. Set it to the number of raters who may join from "
            "one client within an hour, or 0 for any number."
        )
    return int(text)


@contextmanager
def served(environment: Mapping[str, str], *, results: bool = False) -> Iterator[str]:
    """Serve a page on a free port of this machine until the block ends.

    Yields:
        The address of the page.

    Raises:
        MissingExtraError: The packages of the pages are not installed.
        StoreError: The server does not start.
    """
    port = free_port()
    process = subprocess.Popen(
        page_command(results, port, LOCALHOST),
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://{LOCALHOST}:{port}"
        wait_for(address, process)
        yield address
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        port: int = free.getsockname()[1]
        return port


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server of a page responds.

    Raises:
        StoreError: It ended, or takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise StoreError(
        f"The server of the page did not start within {START_TIMEOUT_S:.0f} s. Start it by hand "
        "to see why: evalkit drawbench rate STUDY"
    )
