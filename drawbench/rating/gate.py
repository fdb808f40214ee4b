"""The door of the results page: a password, few tries, and a ticket for those who are in."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from drawbench.rating.limits import ClientLimit

WRONG_PASSWORD_WAIT_S = 1.0
MAX_WRONG_PASSWORDS = 10
WRONG_PASSWORDS_S = 900.0
TICKET_S = 12 * 3600.0


@dataclass
class Gate:
    """A password check that takes constant time, with a delay after a wrong password.

    After `MAX_WRONG_PASSWORDS` within `WRONG_PASSWORDS_S`, a client is turned away unheard. Who was
    admitted gets a ticket, which is valid for `TICKET_S` or until the server ends.
    """

    password: str
    """If empty, nobody is admitted."""
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)

    def __post_init__(self) -> None:
        self._wrong = ClientLimit(MAX_WRONG_PASSWORDS, WRONG_PASSWORDS_S, clock=self.clock)
        self._tickets: dict[str, float] = {}

    def hears(self, client: str) -> bool:
        """Return whether a client may try a password."""
        return self._wrong.admits(client)

    def admits(self, given: str, client: str = "") -> bool:
        """Return whether a password is right, and the client had not given too many wrong ones."""
        if not self._wrong.take(client):
            return False
        if self.password and hmac.compare_digest(given.encode(), self.password.encode()):
            self._wrong.give_back(client)
            return True
        self.sleep(WRONG_PASSWORD_WAIT_S)
        return False

    def issue_ticket(self) -> str:
        """Return a ticket for somebody who was admitted."""
        now = self.clock()
        self._tickets = {ticket: end for ticket, end in self._tickets.items() if end > now}
        ticket = secrets.token_hex(16)
        self._tickets[_digest(ticket)] = now + TICKET_S
        return ticket

    def knows(self, ticket: str) -> bool:
        """Return whether a ticket is valid."""
        return bool(ticket) and self._tickets.get(_digest(ticket), 0.0) > self.clock()


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()
