"""Ctrl-C and SIGTERM: a command says where it stopped, and that it goes on from there."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from evalkit.core.help import HeadedGroup
from evalkit.core.progress import errors, where_it_stopped


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send before they kill."""


@contextmanager
def stopping_at_sigterm() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM inside the block, unless somebody handles the signal already.

    Only the main thread can; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StoppableGroup(HeadedGroup):
    """The commands; a stopped one exits with 130 (Ctrl-C) or 143 (SIGTERM) and one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            place = where_it_stopped()
            errors.print(
                f"evalkit: Stopped{f' at {place}' if place else ''}. The same command goes on from "
                "there.",
                highlight=False,
                markup=False,
            )
            sys.exit(143 if isinstance(stop, Terminated) else 130)


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Terminated
