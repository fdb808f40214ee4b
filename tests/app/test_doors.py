"""What strangers may not do: fill the memory, read metrics, take all places."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import drawbench.pages
from drawbench.exchange.exports import raters_frame
from drawbench.pages.web import MAX_OPEN_PAGES, ClosedDoors, is_open
from drawbench.rating.serving import page_environment
from drawbench.store import Store

pytestmark = [
    # Streamlit's test runner leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NUM_FILES = 400
FILE_BYTES = 900_000
ALLOWED_GROWTH_BYTES = 60_000_000
"""A sixth of what the files hold: a server that keeps them grows by all of it."""


@pytest.fixture(params=["rate.py", "results.py"])
def any_server(
    request: pytest.FixtureRequest, make_server: Callable[..., Any], store: Store
) -> Iterator[Any]:
    """Either server."""
    script = Path(drawbench.pages.__path__[0]) / request.param
    made = make_server(str(script), {"EVALKIT_RESULTS_PASSWORD": "p"})
    made.start()
    yield made
    made.kill()


@pytest.mark.xdist_group("browser")
def test_a_stranger_with_an_open_page_can_not_upload_400_files(any_server: Any) -> None:
    sync = pytest.importorskip("websockets.sync.client")
    address = f"ws://127.0.0.1:{any_server.port}/_stcore/stream"
    process = psutil.Process(any_server.process.pid)
    body = b"x" * FILE_BYTES
    with sync.connect(address, subprotocols=["streamlit"]) as page:
        session = _open_session(page)
        before = process.memory_info().rss
        statuses = set()
        for number in range(NUM_FILES):
            path = f"/_stcore/upload_file/{session}/{number}"
            statuses.add(_put(any_server.port, path, body))
        grown = process.memory_info().rss - before
    assert statuses == {404}
    assert grown < ALLOWED_GROWTH_BYTES


def _open_session(page: Any) -> str:
    """Ask for the page as a browser does, and return the id of the session."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    ask = BackMsg()
    ask.rerun_script.query_string = ""
    page.send(ask.SerializeToString())
    read, session = ForwardMsg(), ""
    while read.WhichOneof("type") != "script_finished":
        read.ParseFromString(page.recv(timeout=240))
        session = session or str(read.new_session.initialize.session_id)
    assert session
    return session


def _put(port: int, path: str, body: bytes) -> int:
    """Send a file as the form that Streamlit's own uploader sends; return the status."""
    head = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        with suppress(BrokenPipeError, ConnectionResetError):  # answered before the body was read
            connection.request("PUT", path, head + body + b"\r\n--b--\r\n", headers)
        try:
            return connection.getresponse().status
        except (ConnectionResetError, http.client.BadStatusLine):
            return 404
    finally:
        connection.close()


@pytest.mark.xdist_group("browser")
def test_metrics_are_closed_and_health_is_open(any_server: Any) -> None:
    def get(path: str, method: str = "GET") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", any_server.port, timeout=60)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        finally:
            connection.close()

    assert get("/_stcore/health") == 200
    for path in (
        "/_stcore/metrics",
        "/_stcore/metrics/",
        "/_stcore/%6detrics",
        "/x/_stcore/metrics",
    ):
        assert get(path) == 404, path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/_stcore/health", "/_stcore/upload_file/a/b", "/picture/x"):
            assert get(path, method) == 404, (method, path)


@pytest.mark.parametrize("path", ["/", "/static/js/a.js", "/media/a.png", "/_stcore/stream"])
def test_what_the_pages_read_is_open(path: str) -> None:
    assert is_open("GET", path)
    assert is_open("HEAD", path)
    assert not is_open("POST", path)


def test_one_client_has_a_limited_number_of_pages_open() -> None:
    async def stay(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()

    page = Starlette(
        routes=[
            WebSocketRoute("/_stcore/stream", stay),
            Route("/", lambda _request: PlainTextResponse("page")),
        ]
    )
    doors = ClosedDoors(page)
    server = Starlette(middleware=[Middleware(lambda app: doors)])
    doors._num_open["testclient"] = MAX_OPEN_PAGES - 1
    with TestClient(server) as client, client.websocket_connect("/_stcore/stream"):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream"):
            pass
        assert client.get("/").text == "page"
    assert doors._num_open["testclient"] == MAX_OPEN_PAGES - 1, "a closed page is not counted"


def test_one_client_can_not_take_every_place(
    in_process: Callable[..., Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_JOIN_LIMIT", "3")
    monkeypatch.setattr("drawbench.pages.look.client_address", lambda: "192.0.2.1")
    for number in range(5):
        page = in_process("rating_page.py")
        page.checkbox[0].check().run()
        page.button(key="start").click().run()
        if number >= 3:
            assert "Too many people have joined from your network" in page.warning[0].value
    assert len(raters_frame(store)) == 3
    monkeypatch.setattr("drawbench.pages.look.client_address", lambda: "192.0.2.2")
    page = in_process("rating_page.py")
    page.checkbox[0].check().run()
    page.button(key="start").click().run()
    assert len(raters_frame(store)) == 4


def test_the_proxy_in_front_is_named_to_the_web_server() -> None:
    assert "FORWARDED_ALLOW_IPS" not in page_environment(None, "")
    assert page_environment(None, "", proxies="10.0.0.2")["FORWARDED_ALLOW_IPS"] == "10.0.0.2"
