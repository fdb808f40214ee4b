"""A server with OpenAI's images API on loopback, which misbehaves as a test says."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from evalkit.core.pixels import encode_png

Answer = tuple[int, Any, dict[str, str]]
"""Status, body (bytes, or what becomes JSON) and headers."""


def image_of(prompt: str) -> np.ndarray:
    """The image that the server makes of a prompt."""
    rng = np.random.default_rng(list(prompt.encode()))
    return rng.integers(0, 256, (8, 8, 3), np.uint8)


def good(prompt: str) -> Answer:
    encoded = base64.b64encode(encode_png(image_of(prompt))).decode()
    return 200, {"data": [{"b64_json": encoded}]}, {}


def fault(status: int, message: str, code: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"error": {"message": message, "code": code}}, named


@dataclass
class Log:
    """What the server saw."""

    behave: Callable[[str, int], Answer]
    """The answer to a prompt's n-th request, from 0."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    fetched: list[dict[str, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def serving(behave: Callable[[str, int], Answer]) -> Iterator[Log]:
    """Serve until the block ends."""
    log = Log(behave)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with log.lock:
                number = log.seen[body["prompt"]]
                log.seen[body["prompt"]] += 1
                log.bodies.append(body)
                log.headers.append(dict(self.headers))
                log.times.append(time.monotonic())
                log.at_once += 1
                log.most_at_once = max(log.most_at_once, log.at_once)
            try:
                answer = log.behave(body["prompt"], number)
            finally:  # before the answer, after which the client may ask again
                with log.lock:
                    log.at_once -= 1
            self._send(*answer)

        def do_GET(self) -> None:
            log.fetched.append(dict(self.headers))
            self._send(200, encode_png(image_of(self.path)), {})

        def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                return  # the client has given up

        def log_message(self, *args: Any) -> None:
            return

    server = _Server(("127.0.0.1", 0), Handler)
    log.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
