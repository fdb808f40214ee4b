"""The researchers' page: shut without its password, and true to the votes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drawbench.pages.opening import shared_gate
from drawbench.rating.gate import (
    MAX_WRONG_PASSWORDS,
    TICKET_S,
    WRONG_PASSWORD_WAIT_S,
    WRONG_PASSWORDS_S,
    Gate,
)
from drawbench.report.live import disputed_prompts, look, win_rate_table
from drawbench.store import Store

pytestmark = [
    # Streamlit's test runner leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_gate() -> Iterator[None]:
    """Forget the password and the tickets of another test."""
    shared_gate.cache_clear()
    yield
    shared_gate.cache_clear()


def _rate(store: Store, preferred: str) -> None:
    rater = store.join(simulated=True).rater
    for place in store.hand(rater.id):
        for question in store.study.questions(place.item):
            shown = "first" if place.a_first == (preferred == "a") else "second"
            store.submit(rater.id, place.cell_id, question.id, shown, response_s=5.0)


def test_the_page_is_shut_without_a_password(
    in_process: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVALKIT_RESULTS_PASSWORD", raising=False)
    page = in_process("results_page.py")
    assert "This page is closed" in page.error[0].value
    assert not page.text_input


def test_a_wrong_password_shows_nothing_and_the_right_one_everything(
    in_process: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        _rate(store, "a")
    _rate(store, "b")
    monkeypatch.setenv("EVALKIT_RESULTS_PASSWORD", "open sesame")
    page = in_process("results_page.py")
    page.text_input[0].set_value("sesame")
    page.button[0].click().run()
    assert "Wrong password" in page.error[0].value
    assert not page.metric
    page.text_input[0].set_value("open sesame")
    page.button[0].click().run()
    assert not page.exception
    assert page.metric[0].value == "12 of 36"
    assert "SIMULATED" in page.error[0].value
    assert "The study is not complete" in page.warning[0].value


def test_the_gate_is_slow_for_wrong_passwords_and_shut_without_one() -> None:
    waits: list[float] = []
    gate = Gate("p", sleep=waits.append)
    assert gate.admits("p")
    assert not gate.admits("P")
    assert not gate.admits("é")
    assert waits == [WRONG_PASSWORD_WAIT_S] * 2
    assert not Gate("", sleep=waits.append).admits("")


def test_a_client_with_many_wrong_passwords_is_turned_away_for_a_while() -> None:
    seconds = [0.0]
    gate = Gate("p", sleep=lambda _: None, clock=lambda: seconds[0])
    for _ in range(MAX_WRONG_PASSWORDS):
        assert gate.hears("192.0.2.1")
        assert not gate.admits("guess", "192.0.2.1")
    assert not gate.hears("192.0.2.1")
    assert not gate.admits("p", "192.0.2.1"), "not even the right one is heard"
    assert gate.admits("p", "192.0.2.2"), "others are not locked out"
    seconds[0] = WRONG_PASSWORDS_S
    assert gate.admits("p", "192.0.2.1")


def test_right_passwords_are_not_counted() -> None:
    gate = Gate("p", sleep=lambda _: None)
    assert all(gate.admits("p", "c") for _ in range(2 * MAX_WRONG_PASSWORDS))


def test_a_ticket_is_valid_for_its_time_only() -> None:
    seconds = [0.0]
    gate = Gate("p", clock=lambda: seconds[0])
    ticket = gate.issue_ticket()
    assert gate.knows(ticket)
    assert not gate.knows("")
    assert not gate.knows(ticket[:-1])
    assert not Gate("p").knows(ticket)
    seconds[0] = TICKET_S
    assert not gate.knows(ticket)


def test_a_look_counts_what_is_there(store: Store) -> None:
    assert look(store).analysis is None
    for preferred in "aab":
        _rate(store, preferred)
    live = look(store)
    assert live.analysis is not None
    assert live.quotas["done"].tolist() == [9]
    assert not live.is_complete
    table = win_rate_table(live.analysis).set_index(["question", "where"])
    assert table.loc[("quality", "overall"), "win_rate"] == pytest.approx(200 / 3)
    assert table.loc[("quality", "overall"), "votes"] == 9
    disputed = disputed_prompts(store, live.analysis)
    assert len(disputed) == 3
    assert all(len(item.images_a) == len(item.images_b) == 2 for item in disputed)
    assert disputed[0].share_a == pytest.approx(2 / 3)
