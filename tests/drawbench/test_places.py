"""Who gets a place: new links for old raters, places kept for invited ones, places set free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from drawbench.errors import RefusedError
from drawbench.exchange.exports import quota_frame, votes_frame
from drawbench.rating.limits import MAX_CLIENTS, ClientLimit
from drawbench.store import Store
from drawbench.study import Study

NewStudy = Callable[..., Study]
NewStore = Callable[[Study], Store]
ONE_BLOCK = [("one", "x"), ("two", "x")]


# Links


def test_a_new_link_replaces_the_old_one_and_keeps_everything_else(
    new_study: NewStudy, new_store: NewStore, rate_all: Callable[..., None]
) -> None:
    store = new_store(new_study())
    old = store.join(external_id="p1")
    rate_all(store, old.rater.id, pages=1)
    new = store.relink(old.rater.id)
    assert store.find_rater(old.token) is None
    assert store.find_rater(new.token) == old.rater
    assert [place.done for place in store.hand(new.rater.id)].count(True) == 1
    with pytest.raises(RefusedError, match="no longer part of this study"):
        store.relink(10**6)


def test_nobody_comes_back_who_was_never_here(new_study: NewStudy, new_store: NewStore) -> None:
    store = new_store(new_study())
    assert store.come_back("p1") is None
    assert store.come_back("") is None
    assert store.come_back("  ") is None


def test_someone_invited_with_an_id_may_come_by_the_platforms_link(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study(rows=ONE_BLOCK, raters_per_item=1))
    invited = store.invite(external_id="p1").rater
    back = store.come_back(" p1 ")
    assert back is not None
    assert back.rater.id == invited.id
    assert back.rater.state == "active"
    assert len(store.hand(invited.id)) == 2


@pytest.mark.parametrize("call", ["join", "invite", "come_back"])
def test_ids_are_cleaned_wherever_they_come_in(
    new_study: NewStudy, new_store: NewStore, call: str
) -> None:
    store = new_store(new_study())
    given = {"external_id": "a\x00b"}
    with pytest.raises(RefusedError, match="valid ID of your crowd platform"):
        getattr(store, call)(**given)
    store.join(external_id=" Ab ")
    assert store.rater_named("Ab ").external_id == "Ab"


# Undo


def test_the_last_vote_is_undone_when_the_clock_has_gone_back(
    new_study: NewStudy, new_store: NewStore, clock: Any
) -> None:
    store = new_store(new_study())
    rater = store.join().rater
    first, second, *_ = store.hand(rater.id)
    store.submit(rater.id, first.cell_id, "quality", "first")
    clock.now -= 3600
    store.submit(rater.id, second.cell_id, "quality", "first")
    assert store.undo(rater.id) == second.cell_id
    assert store.undo(rater.id) == first.cell_id
    assert store.undo(rater.id) is None


def test_a_changed_vote_is_the_last_one(
    new_study: NewStudy, new_store: NewStore, clock: Any
) -> None:
    store = new_store(new_study())
    rater = store.join().rater
    first, second, *_ = store.hand(rater.id)
    for cell, answer in ((first, "first"), (second, "first"), (first, "tie")):
        clock.now -= 10
        store.submit(rater.id, cell.cell_id, "quality", answer)
    assert store.undo(rater.id) == first.cell_id
    assert store.undo(rater.id) == second.cell_id


# Places kept for invited raters


def test_open_joiners_leave_the_places_of_invited_raters(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study(rows=ONE_BLOCK, raters_per_item=3))
    invited = [store.invite().rater for _ in range(2)]
    store.join()
    with pytest.raises(RefusedError, match="study is full"):
        store.join()
    assert store.accept(invited[0].id).state == "active"
    with pytest.raises(RefusedError, match="study is full"):
        store.join()
    assert store.release(idle_s=3600, invitations=True).num_invitations == 1
    store.join()
    with pytest.raises(RefusedError, match="study is full"):
        store.accept(invited[1].id)


def test_a_place_in_a_category_is_kept_in_that_category(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study(rows=[("one", "x"), ("two", "y")], raters_per_item=1))
    kept = store.invite(block="x").rater
    assert store.join().rater.block == "y"
    with pytest.raises(RefusedError, match="study is full"):
        store.join()
    assert store.accept(kept.id).block == "x"


def test_withdrawn_invitations_keep_no_place(new_study: NewStudy, new_store: NewStore) -> None:
    store = new_store(new_study(rows=ONE_BLOCK, raters_per_item=1))
    store.withdraw(store.invite().rater.id)
    store.join()


# Places set free


def test_release_frees_the_pages_of_those_who_are_away_and_keeps_their_answers(
    new_study: NewStudy, new_store: NewStore, clock: Any, rate_all: Callable[..., None]
) -> None:
    store = new_store(new_study(rows=ONE_BLOCK, raters_per_item=2))
    away, busy = store.join().rater, store.join().rater
    rate_all(store, away.id, pages=1)
    clock.now += 20 * 60
    rate_all(store, busy.id, pages=1)
    freed = store.release(idle_s=15 * 60)
    assert (freed.num_raters, freed.num_pages, freed.num_invitations) == (1, 1, 0)
    assert len(votes_frame(store)) == 4
    assert quota_frame(store)["open"].sum() == 1
    assert len(store.hand(busy.id)) == 2
    assert store.release(idle_s=15 * 60).num_pages == 0
    back = store.resume(away.id)
    assert back.state == "active"
    assert len(store.hand(away.id)) == 2, "what is still free is given back"


def test_one_client_that_took_every_place_is_undone_by_release(
    new_study: NewStudy, new_store: NewStore, clock: Any
) -> None:
    store = new_store(new_study(rows=ONE_BLOCK, raters_per_item=3))
    for _ in range(3):
        store.join()
    clock.now += 60
    assert store.release(idle_s=0).num_pages == 6
    assert len(store.hand(store.join().rater.id)) == 2


# Limits


def test_a_limit_of_nothing_is_no_limit() -> None:
    limit = ClientLimit(0, 1.0)
    assert all(limit.take("c") for _ in range(100))


def test_events_count_by_network_and_within_their_time() -> None:
    seconds = [0.0]
    limit = ClientLimit(2, 10.0, clock=lambda: seconds[0])
    assert limit.take("2001:db8::1")
    seconds[0] = 5.0
    assert limit.take("2001:db8::2")
    assert not limit.take("2001:db8::3")
    assert not limit.admits("2001:db8::4")
    assert limit.take("2001:db8:0:1::1"), "another network"
    assert limit.take("::ffff:192.0.2.1")
    assert limit.take("192.0.2.1")
    assert not limit.take("192.0.2.1")
    seconds[0] = 10.0
    assert limit.take("2001:db8::1"), "the first event is forgotten"
    assert not limit.take("2001:db8::1")


def test_many_clients_fill_no_memory() -> None:
    limit = ClientLimit(1, 10.0)
    for number in range(MAX_CLIENTS + 10):
        limit.take(f"client {number}")
    assert len(limit._events) == MAX_CLIENTS
    assert not limit.take(f"client {MAX_CLIENTS}")
