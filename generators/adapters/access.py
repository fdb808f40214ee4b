"""How a model behind a server is reached, and how much may be asked of it; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Access:
    """Address and caps of a server. None of it changes an image but the address.

    The key is not among them: it comes from the environment only.
    """

    base_url: str | None = None
    """Address of the API; None: the vendor's."""
    concurrency: int | None = None
    """Requests at once; None: 4."""
    requests_per_minute: int | None = None
    """Most requests a minute; None: not limited."""
    max_requests: int | None = None
    """Most requests in total, retries included."""
    price: float | None = None
    """Price of one request, in the unit of `max_cost`."""
    max_cost: float | None = None
    """Most that all requests may cost, at that price."""
    retries: int | None = None
    """Retries per prompt; None: 6."""
    timeout_s: float | None = None
    """Seconds until a request without an answer counts as failed; None: 300."""

    @property
    def is_given(self) -> bool:
        """Whether anything was chosen."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    @property
    def flags(self) -> str:
        """The options of the command line that were given, for messages."""
        names = {"price": "price-per-image", "timeout_s": "request-timeout"}
        given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        return ", ".join(f"--{names.get(n, n).replace('_', '-')}" for n in given)
