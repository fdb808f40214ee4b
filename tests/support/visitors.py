"""A person with a browser of their own, for the tests of the pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

PATIENCE_MS = 240_000
"""Generous: the machine may be busy with other things."""
UNHEARD_MS = 40_000
"""After this time without an effect, a press was not heard."""
GATE_IS_OPEN = "window.evalkitGate?.look()"


class Visitor:
    """A person with a browser of their own."""

    def __init__(self, browser: Any, **options: Any) -> None:
        from playwright.sync_api import TimeoutError as Unheard

        self.unheard = Unheard
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.addresses: list[str] = []
        self.frames: list[bytes] = []
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.on("websocket", self._listen)

    def _listen(self, websocket: Any) -> None:
        for event in ("framesent", "framereceived"):
            websocket.on(event, lambda data: self.frames.append(_bytes(data)))

    def open(self, url: str) -> None:
        self.page.goto(url, timeout=PATIENCE_MS)

    def agree(self, *, question: int = 0) -> None:
        self.page.get_by_text("I am an adult").click()
        self.page.get_by_role("button", name="Start").click()
        self.wait_for_question(question)

    def wait_for_question(self, index: int) -> None:
        """Wait until a question is the current one and can be answered."""
        self.page.locator(f".st-key-question-current-{index}").wait_for()
        self.page.wait_for_function(GATE_IS_OPEN)

    def where(self) -> str:
        return str(self.page.locator(".where").inner_text())

    def answer_page(self, first: str = "1", second: str = "1") -> None:
        """Answer both questions by key and wait until the page has moved on."""
        before = self.where()
        current = self.page.locator(".st-key-question-current-1")
        self.press_until(first, lambda: current.wait_for(timeout=UNHEARD_MS))
        self.wait_for_question(1)
        moved = "before => document.querySelector('.where')?.innerText !== before"
        self.press_until(
            second,
            lambda: self.page.wait_for_function(moved, arg=before, timeout=UNHEARD_MS),
        )
        self.page.wait_for_function(f"!document.querySelector('.where') || {GATE_IS_OPEN}")

    def press_until(self, key: str, seen: Callable[[], Any]) -> None:
        """Press again when nothing came of it: on a busy machine a page may not listen yet."""
        for _ in range(PATIENCE_MS // UNHEARD_MS):
            self.page.keyboard.press(key)
            with suppress(self.unheard):
                seen()
                return
        raise AssertionError(f"nothing came of pressing {key}")

    def close(self) -> None:
        self.context.close()


def _bytes(data: Any) -> bytes:
    return data if isinstance(data, bytes) else str(data).encode()
