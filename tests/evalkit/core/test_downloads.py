"""Downloads that break off go on where they stopped, and only a whole file gets its name."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from evalkit.core.downloads import fetch, require_network
from evalkit.core.errors import NetworkError, WeightsError


class Server(HTTPServer):
    """Serves one file, from a given byte on if asked; breaks off after `cut` bytes of a reply."""

    content = bytes(range(256)) * 40
    tag = '"first"'
    cut: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        content, start = self.server.content, 0
        if wanted and self.headers.get("If-Range") == self.server.tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.server.cut is None else start + self.server.cut
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file"
    server.cut = 4000
    for _ in range(2):
        with pytest.raises(
            NetworkError, match=r"stopped after .* same command again to resume it\."
        ):
            fetch(server.url, target, sha256_prefix="")
        assert not target.exists()
    server.cut = None
    seen: list[tuple[int, int]] = []
    fetch(
        server.url, target, sha256_prefix=digest(server.content), report=lambda *r: seen.append(r)
    )
    assert target.read_bytes() == server.content
    assert server.ranges == [None, "bytes=4000-", "bytes=8000-"]
    assert seen[-1] == (len(server.content), len(server.content))
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith((".part", ".version"))] == []


def test_another_version_on_the_server_starts_anew(server: Server, tmp_path: Path) -> None:
    server.cut = 4000
    with pytest.raises(NetworkError):
        fetch(server.url, tmp_path / "file", sha256_prefix="")
    server.cut, server.tag, server.content = None, '"second"', b"new" * 500
    fetch(server.url, tmp_path / "file", sha256_prefix="")
    assert (tmp_path / "file").read_bytes() == b"new" * 500


def test_a_partial_file_that_is_already_whole(server: Server, tmp_path: Path) -> None:
    """The process was killed between the last byte and the renaming: the server answers 416."""
    (tmp_path / ".file.part").write_bytes(server.content)
    (tmp_path / ".file.part.version").write_text(server.tag)
    fetch(server.url, tmp_path / "file", sha256_prefix=digest(server.content))
    assert (tmp_path / "file").read_bytes() == server.content


def test_another_hash_keeps_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected 0000"):
        fetch(server.url, tmp_path / "file", sha256_prefix="0000")
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith((".lock", ".version"))] == []


def test_a_host_is_tried_by_each_kind_of_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here its IPv6 leads nowhere, and at last its IPv4 neither."""
    known = {socket.AF_INET6: "::1", socket.AF_INET: "127.0.0.1"}
    found = [(kind, 1, 6, "", (address, 443)) for kind, address in known.items()]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    dialled: list[str] = []
    reachable = {"127.0.0.1"}

    def dial(address: tuple[str, int], timeout: float) -> socket.socket:
        assert 0 < timeout < 5
        dialled.append(address[0])
        if address[0] not in reachable:
            raise ConnectionRefusedError
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", dial)
    require_network("https://example.org")
    assert dialled == ["::1", "127.0.0.1"]
    reachable.clear()
    with pytest.raises(NetworkError, match=r"can't connect to example\.org"):
        require_network("https://example.org")
