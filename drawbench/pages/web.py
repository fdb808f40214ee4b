"""The web server of the rating page: it serves the study's pictures and sets privacy headers.

Pictures are served under their random names, without file dates. A date would reveal the model,
since all copies of one model were written before those of the next.
"""

from __future__ import annotations

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from drawbench.pages.opening import shared_store
from evalkit.core.errors import EvalkitError

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
ROUTES = [Route("/picture/{key}", serve_picture)]
MIDDLEWARE = [Middleware(PrivacyHeaders)]
