"""An S3-like server in this process, which can refuse requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

BUCKET = "bucket"
Refusal = tuple[str, str]
"""Status line and S3's code of the error."""
SLOW_DOWN = ("503 Slow Down", "SlowDown")
DENIED = ("403 Forbidden", "AccessDenied")


@dataclass
class ObjectStore:
    """A running server."""

    address: str
    refuse: Callable[[int, str, str], Refusal | None] = lambda number, method, path: None
    """Called with the number of a request, its method and its path."""
    num_requests: int = 0
    num_refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Run a server with one bucket."""
    import boto3
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    inner = DomainDispatcherApplication(create_backend_app)
    store = ObjectStore("")

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with store.lock:
            store.num_requests += 1
            number = store.num_requests
        refusal = store.refuse(number, environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if refusal is None:
            found: Iterable[bytes] = inner(environ, start)
            return found
        with store.lock:
            store.num_refused += 1
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"].read(length)
        start(refusal[0], [("Content-Type", "application/xml")])
        return [f"<Error><Code>{refusal[1]}</Code><Message>refused</Message></Error>".encode()]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    store.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = boto3.client(
        "s3", endpoint_url=store.address, aws_access_key_id="test", aws_secret_access_key="test",
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    client.close()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
