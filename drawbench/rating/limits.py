"""How often one client may do something within a time, kept in memory and nowhere else."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import deque
from collections.abc import Callable

MAX_CLIENTS = 50_000
"""More clients than this are forgotten, oldest first, so that many addresses fill no memory."""
IPV6_NETWORK_BITS = 64
"""A home has a network of this size, so its addresses count as one client."""


class ClientLimit:
    """At most `count` events per client within `window_s` seconds.

    Args:
        count: Events allowed; 0 allows any number.
        window_s: Length of the time, in seconds.
        clock: Seconds that never go back; tests set their own.
    """

    def __init__(
        self, count: int, window_s: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.count = count
        self.window_s = window_s
        self._clock = clock
        self._events: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def admits(self, client: str) -> bool:
        """Return whether one more event of a client is allowed; this counts none."""
        with self._lock:
            return not self.count or len(self._recent(client)) < self.count

    def take(self, client: str) -> bool:
        """Count an event of a client if it is allowed, and return whether it is."""
        with self._lock:
            recent = self._recent(client)
            if self.count and len(recent) >= self.count:
                return False
            recent.append(self._clock())
            return True

    def give_back(self, client: str) -> None:
        """Take back the last event of a client: nothing came of it."""
        with self._lock:
            recent = self._recent(client)
            if recent:
                recent.pop()

    def _recent(self, client: str) -> deque[float]:
        key = network_of(client)
        events = self._events.pop(key, None) or deque()
        self._events[key] = events  # the client that was seen last comes last
        while len(self._events) > MAX_CLIENTS:
            del self._events[next(iter(self._events))]
        while events and events[0] <= self._clock() - self.window_s:
            events.popleft()
        return events


def network_of(client: str) -> str:
    """Return what counts as one client: an IPv4 address, or the network of an IPv6 address.

    >>> network_of("203.0.113.9"), network_of("2001:db8:1:2:3::4"), network_of("")
    ('203.0.113.9', '2001:db8:1:2::/64', '')
    """
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_NETWORK_BITS), strict=False))
