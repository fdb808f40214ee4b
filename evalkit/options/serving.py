"""The options of models behind a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evalkit.options.offering import Offer, option
from generators.adapters.access import Access


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Address and caps of a server; the key comes from the environment only."""

    base_url: str | None = option(
        None, "--base-url", "Address of the images API. [default: the vendor's]"
    )
    concurrency: int | None = option(
        None, "--concurrency", "Requests at once. [default: 4]", minimum=1
    )
    requests_per_minute: int | None = option(
        None, "--requests-per-minute", "Most requests a minute. [default: not limited]", minimum=1
    )
    max_requests: int | None = option(
        None, "--max-requests", "Most requests in total, retries included.", minimum=1
    )
    price: float | None = option(
        None, "--price-per-image", "Price of a request, in the unit of --max-cost.", minimum=0
    )
    max_cost: float | None = option(
        None, "--max-cost", "Most that all requests may cost.", minimum=0
    )
    retries: int | None = option(
        None, "--retries", "Retries per prompt, with growing waits. [default: 6]", minimum=0
    )
    timeout_s: float | None = option(
        None, "--request-timeout", "Seconds to wait for an answer. [default: 300]", minimum=0
    )

    def access(self) -> Access:
        """Return them as the generator takes them."""
        return Access(
            base_url=self.base_url,
            concurrency=self.concurrency,
            requests_per_minute=self.requests_per_minute,
            max_requests=self.max_requests,
            price=self.price,
            max_cost=self.max_cost,
            retries=self.retries,
            timeout_s=self.timeout_s,
        )


def _build(fields: dict[str, Any], typed: frozenset[str]) -> ServerOptions:
    del typed
    return ServerOptions(**fields)


serving = Offer(record=ServerOptions, parameter="server", build=_build)
"""Replace a command's parameter `server` by the options of servers."""
