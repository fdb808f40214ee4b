"""Batches are stored while the next one is generated, in order and without losing an error."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from evalkit.core.run import Outcome, WorkItem
from evalkit.engine import OneBehind


def batch(number: int) -> list[WorkItem]:
    return [WorkItem(index=number, caption_id=str(number), sample_index=0, seed=0, prompt=None)]


NOTHING: list[Outcome] = []


def test_a_batch_is_stored_while_the_next_one_is_made() -> None:
    started, released, stored = threading.Event(), threading.Event(), list[int]()

    def store(items: Sequence[WorkItem], outcomes: Any, elapsed_s: float) -> None:
        del outcomes, elapsed_s
        started.set()
        assert released.wait(30)
        stored.append(items[0].index)

    with OneBehind(store) as writer:
        writer.put(batch(0), NOTHING, 1.0)
        assert started.wait(30)
        assert stored == []  # still being stored, and this thread goes on
        released.set()
        writer.put(batch(1), NOTHING, 1.0)
        assert stored[0] == 0
    assert stored == [0, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_what_can_not_be_stored_is_an_error_of_the_next_batch_or_of_the_end(count: int) -> None:
    def store(items: Sequence[WorkItem], outcomes: Any, elapsed_s: float) -> None:
        del outcomes, elapsed_s
        raise OSError(f"disk full at {items[0].index}")

    def write() -> None:
        with OneBehind(store) as writer:
            for number in range(count):
                writer.put(batch(number), NOTHING, 1.0)

    with pytest.raises(OSError, match="disk full at 0"):
        write()


def test_an_interrupt_waits_for_the_batch_that_is_being_stored() -> None:
    stored = []

    def store(items: Sequence[WorkItem], outcomes: Any, elapsed_s: float) -> None:
        del outcomes, elapsed_s
        stored.append(items[0].index)

    def write() -> None:
        with OneBehind(store) as writer:
            writer.put(batch(0), NOTHING, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert stored == [0]
