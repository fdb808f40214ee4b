"""The web server of the pages: the study's pictures, privacy headers, and doors that stay closed.

Pictures are served under their random names, without file dates. A date would reveal the model,
since all copies of one model were written before those of the next.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drawbench.pages.opening import shared_store
from drawbench.rating.limits import network_of
from evalkit.core.errors import EvalkitError

MAX_OPEN_PAGES = 200
"""Pages that one client may have open at once; a network address can be a whole university's."""
READING = ("GET", "HEAD", "OPTIONS")
NEEDED_OF_STREAMLIT = ("health", "host-config", "stream", "bidi-components")
"""Segments after `/_stcore/`."""
HEADERS = {
    # The personal link is in the address of the page; it must not leak to other sites.
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-robots-tag": b"noindex, nofollow",
    b"content-security-policy": b"frame-ancestors 'self'",
}


async def serve_picture(request: Request) -> Response:
    """Serve a picture of the study by its blind name, or 404."""
    return await run_in_threadpool(picture_response, str(request.path_params["key"]))


def picture_response(key: str) -> Response:
    """Return the response to a request for a picture."""
    try:
        path = shared_store().study.image_path(key)
    except EvalkitError:
        return Response("The study can't be opened.", status_code=503, media_type="text/plain")
    if path is None:
        return Response("There is no such picture.", status_code=404, media_type="text/plain")
    cache_for_a_day = {"Cache-Control": "private, max-age=86400, immutable"}
    return Response(path.read_bytes(), media_type="image/png", headers=cache_for_a_day)


class ClosedDoors:
    """Middleware that refuses what Streamlit's server offers and no page of ours needs.

    Its upload endpoint keeps files of anybody with an open page in memory, its metrics are public,
    and each open page has its memory. So only reading is allowed, of `/_stcore/` only what the
    pages use, and one client has a limited number of pages open. A refused request is answered
    before its body is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._num_open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or one WebSocket."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http" and not is_open(scope["method"], scope["path"]):
            refusal = Response("There is nothing here.", status_code=404, media_type="text/plain")
            refusal.headers["Connection"] = "close"
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = network_of(scope["client"][0] if scope.get("client") else "")
        if self._num_open[client] >= MAX_OPEN_PAGES:
            await send({"type": "websocket.close", "code": 1013})  # try again later
            return
        self._num_open[client] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._num_open[client] -= 1
            if not self._num_open[client]:
                del self._num_open[client]


def is_open(method: str, path: str) -> bool:
    """Return whether the pages need this.

    >>> is_open("GET", "/_stcore/health"), is_open("PUT", "/_stcore/upload_file/a/b")
    (True, False)
    >>> is_open("GET", "/_stcore/metrics"), is_open("POST", "/")
    (False, False)
    """
    if method not in READING:
        return False
    _, inside, rest = path.partition("/_stcore")
    return not inside or rest.strip("/").partition("/")[0] in NEEDED_OF_STREAMLIT


class PrivacyHeaders:
    """Middleware that adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


RATING_PAGE = Path(__file__).with_name("rating_page.py")
RESULTS_PAGE = Path(__file__).with_name("results_page.py")
ROUTES = [Route("/picture/{key}", serve_picture)]
MIDDLEWARE = [Middleware(PrivacyHeaders), Middleware(ClosedDoors)]
