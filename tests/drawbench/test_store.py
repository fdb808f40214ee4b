"""The vote store, on SQLite and on PostgreSQL: votes, leases, quotas, history, withdrawal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from drawbench.errors import RefusedError, StudyError
from drawbench.exchange.exports import (
    quota_frame,
    raters_frame,
    ratings_frame,
    reports_frame,
    votes_frame,
)
from drawbench.store.store import Store, hash_token, open_store
from drawbench.store.tables import CellRow, HistoryRow, RaterRow, VoteRow
from drawbench.study import Study, load_study
from drawbench.votes import validate_votes
from evalkit.core.errors import MissingDataError

NewStudy = Callable[..., Study]
NewStore = Callable[[Study], Store]
RateAll = Callable[..., None]


def _history(store: Store) -> list[tuple[str, str]]:
    with store.database.reading() as session:
        rows = session.execute(select(HistoryRow.event, HistoryRow.shown).order_by(HistoryRow.id))
        return [tuple(row) for row in rows]


def _count(store: Store, table: Any) -> int:
    with store.database.reading() as session:
        return len(session.scalars(select(table)).all())


def test_a_vote_is_stored_once_however_often_it_is_sent(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study())
    rater = store.join().rater
    place = store.hand(rater.id)[0]
    first = store.submit(rater.id, place.cell_id, "quality", "first", response_s=4.5)
    again = store.submit(rater.id, place.cell_id, "quality", "first", response_s=9.0)
    assert (first.outcome, again.outcome) == ("recorded", "unchanged")
    votes = votes_frame(store)
    assert len(votes) == 1
    assert votes["response_s"].tolist() == [4.5]
    assert _history(store) == [("vote", "first")]


def test_a_change_of_mind_replaces_the_vote_and_is_kept(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study())
    rater = store.join().rater
    place = store.hand(rater.id)[0]
    for shown in ("first", "tie", "second"):
        outcome = store.submit(rater.id, place.cell_id, "quality", shown).outcome
    assert outcome == "changed"
    (answer,) = votes_frame(store)["answer"]
    assert answer == ("b" if place.a_first else "a")
    assert _history(store) == [("vote", "first"), ("change", "tie"), ("change", "second")]
    assert raters_frame(store)["num_changes"].tolist() == [2]


def test_answers_are_turned_from_sides_into_models(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    """Whoever prefers model A, wherever it stands, gives the answer "a" on every item."""
    store = new_store(new_study())
    joined = store.join()
    sides = {place.a_first for place in store.hand(joined.rater.id)}
    assert sides == {True, False}
    rate_all(store, joined.rater.id, lambda place, _: "first" if place.a_first else "second")
    votes = votes_frame(store)
    assert set(votes["answer"]) == {"a"}
    left = votes["left_model"].tolist()
    assert {"north-model", "south-model"} == set(left)


def test_the_sets_shown_are_those_of_the_models(new_study: NewStudy, new_store: NewStore) -> None:
    study = new_study()
    store = new_store(study)
    owner = {entry.key: (entry.source, entry.prompt_id) for entry in study.images}
    for place in store.hand(store.join().rater.id):
        a, b = (place.first, place.second) if place.a_first else (place.second, place.first)
        assert {owner[key] for key in a} == {(place.item.model_a, place.item.prompt_id)}
        assert {owner[key] for key in b} == {(place.item.model_b, place.item.prompt_id)}


def test_quotas_fill_exactly_and_then_the_study_is_full(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    store = new_store(new_study())
    for _ in range(6):  # two categories, three raters each
        rate_all(store, store.join().rater.id)
    with pytest.raises(RefusedError, match="This study is full"):
        store.join()
    quotas = quota_frame(store)
    assert set(quotas["done"]) == {3}
    assert set(quotas["open"]) == {0}
    votes = validate_votes(votes_frame(store))
    assert len(votes) == 5 * 3 * 2
    assert set(raters_frame(store)["state"]) == {"finished"}
    balance = votes[votes["question"] == "quality"].groupby("prompt_id")["left_model"]
    assert balance.value_counts().unstack().max(axis=1).max() <= 2


def test_drop_outs_are_refilled_when_their_lease_has_run_out(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll, clock: Any
) -> None:
    store = new_store(new_study(rows=[(f"prompt {k}", "one") for k in range(4)]))
    leaver = store.join().rater
    rate_all(store, leaver.id, pages=1)
    place = store.hand(leaver.id)[1]
    store.submit(leaver.id, place.cell_id, "quality", "tie")
    for _ in range(2):
        rate_all(store, store.join().rater.id)
    with pytest.raises(RefusedError):
        store.join()
    clock.now += store.study.config.lease_minutes * 60 + 1
    successor = store.join().rater
    assert successor.num_assigned == 3
    rate_all(store, successor.id)
    assert set(quota_frame(store)["done"]) == {3}
    votes = votes_frame(store)
    complete = votes[votes["complete"]].groupby(["prompt_id", "question"]).size()
    assert set(complete) == {3}
    partial = votes[votes["rater_id"] == leaver.name]
    assert len(partial) == 3
    assert set(partial["partial"]) == {True}
    assert partial["complete"].tolist() == [True, True, False]


def test_whoever_comes_back_in_time_keeps_their_place(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll, clock: Any
) -> None:
    store = new_store(new_study())
    joined = store.join()
    rate_all(store, joined.rater.id, pages=1)
    clock.now += store.study.config.lease_minutes * 60 - 1
    found = store.find_rater(joined.token)
    assert found is not None
    assert found.state == "active"
    rate_all(store, found.id)
    assert store.resume(found.id).state == "finished"


def test_whoever_comes_back_late_gets_what_is_still_free(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll, clock: Any
) -> None:
    store = new_store(new_study(rows=[(f"prompt {k}", "one") for k in range(4)]))
    late = store.join().rater
    rate_all(store, late.id, pages=2)
    clock.now += store.study.config.lease_minutes * 60 + 1
    thief = store.join().rater
    assert [p.item.id for p in store.hand(late.id)] == [
        p.item.id for p in store.hand(late.id) if p.done
    ]
    back = store.resume(late.id)
    assert back.state == "active"
    hand = store.hand(late.id)
    assert len(hand) == 4  # from the slots that nobody has begun
    assert len({place.item.id for place in hand}) == 4
    rate_all(store, late.id)
    rate_all(store, thief.id)
    assert raters_frame(store)["state"].tolist() == ["finished", "finished"]


def test_a_page_that_went_to_somebody_else_takes_no_vote(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll, clock: Any
) -> None:
    store = new_store(new_study(rows=[("one", "x"), ("two", "x")], raters_per_item=1))
    late = store.join().rater
    stale = store.hand(late.id)[0]
    clock.now += store.study.config.lease_minutes * 60 + 1
    rate_all(store, store.join().rater.id)
    with pytest.raises(RefusedError, match="page is no longer yours"):
        store.submit(late.id, stale.cell_id, "quality", "first")
    assert set(quota_frame(store)["done"]) == {1}
    assert late.name not in set(votes_frame(store)["rater_id"])


def test_one_rater_cannot_touch_the_votes_of_another(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    store = new_store(new_study())
    victim, other = store.join().rater, store.join().rater
    rate_all(store, victim.id)
    before = votes_frame(store)
    cell = store.hand(victim.id)[0].cell_id
    key = store.hand(victim.id)[0].first[0]
    with pytest.raises(RefusedError):
        store.submit(other.id, cell, "quality", "second")
    with pytest.raises(RefusedError):
        store.report(other.id, cell, key)
    assert store.undo(other.id) is None
    assert votes_frame(store).equals(before)


@pytest.mark.parametrize(
    ("question", "shown"),
    [("quality", "a"), ("quality", ""), ("colour", "first"), ("quality", "first' OR '1'='1")],
)
def test_answers_that_were_not_offered_are_refused(
    new_study: NewStudy, sqlite_store: NewStore, question: str, shown: str
) -> None:
    store = sqlite_store(new_study())
    rater = store.join().rater
    with pytest.raises(RefusedError):
        store.submit(rater.id, store.hand(rater.id)[0].cell_id, question, shown)
    assert votes_frame(store).empty


def test_undo_takes_back_the_last_vote_and_reopens_its_page(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll, clock: Any
) -> None:
    store = new_store(new_study())
    rater = store.join().rater
    for place in store.hand(rater.id):
        for question in ("quality", "alignment"):
            clock.now += 1
            last = store.submit(rater.id, place.cell_id, question, "tie")
    assert last.hand_done
    assert store.undo(rater.id) == place.cell_id
    reopened = store.hand(rater.id)[-1]
    assert (reopened.done, dict(reopened.answers)) == (False, {"quality": "tie"})
    assert store.resume(rater.id).state == "active"
    assert store.undo(rater.id) == place.cell_id
    assert _history(store)[-2:] == [("undo", "tie"), ("undo", "tie")]
    assert store.submit(rater.id, place.cell_id, "alignment", "first").item_done is False
    assert store.submit(rater.id, place.cell_id, "quality", "first").hand_done


def test_undo_with_nothing_to_take_back(new_study: NewStudy, new_store: NewStore) -> None:
    store = new_store(new_study())
    assert store.undo(store.join().rater.id) is None


def test_tokens_are_128_random_bits_and_only_their_hash_is_kept(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study())
    tokens = [store.join().token for _ in range(3)]
    assert all(len(bytes.fromhex(token)) == 16 for token in tokens)
    assert len(set(tokens)) == 3
    with store.database.reading() as session:
        rows = session.scalars(select(RaterRow)).all()
    kept = repr(
        [{c.name: getattr(row, c.name) for c in RaterRow.__table__.columns} for row in rows]
    )
    assert all(token not in kept for token in tokens)
    assert {row.token_sha256 for row in rows} == {hash_token(token) for token in tokens}
    assert store.find_rater(tokens[0][:-1]) is None
    assert store.find_rater(hash_token(tokens[0])) is None
    assert store.find_rater("") is None


def test_a_person_joins_once(new_study: NewStudy, new_store: NewStore) -> None:
    store = new_store(new_study())
    store.join(external_id="worker-1")
    with pytest.raises(RefusedError, match="joined this study before"):
        store.join(external_id="worker-1")
    store.join()
    store.join()
    assert raters_frame(store)["external_id"].tolist() == ["worker-1", "", ""]


def test_invited_raters_get_their_items_when_they_agree(
    new_study: NewStudy, new_store: NewStore
) -> None:
    store = new_store(new_study())
    joined = store.invite(block="Counting")
    assert joined.rater.state == "invited"
    assert store.hand(joined.rater.id) == []
    rater = store.accept(joined.rater.id)
    assert (rater.state, rater.num_assigned, rater.block) == ("active", 2, "Counting")
    hand = store.hand(rater.id)
    store.accept(rater.id)
    assert store.hand(rater.id) == hand
    with pytest.raises(RefusedError, match=r"no block .Colours.\. Known: Colors, Counting"):
        store.invite(block="Colours")


def test_withdrawal_deletes_everything_and_frees_the_items(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    store = new_store(new_study(num_practice=1, num_checks=1))
    joined = store.join(external_id="worker-1")
    rate_all(store, joined.rater.id)
    place = store.hand(joined.rater.id)[-1]
    store.report(joined.rater.id, place.cell_id, place.first[0], "ugly")
    store.withdraw(joined.rater.id)
    assert [_count(store, t) for t in (RaterRow, VoteRow, HistoryRow)] == [0, 0, 0]
    assert reports_frame(store).empty
    assert set(quota_frame(store)["open"]) == {3}
    assert store.find_rater(joined.token) is None
    with pytest.raises(RefusedError):
        store.withdraw(joined.rater.id)
    successor = store.join(external_id="worker-1").rater
    assert successor.id != joined.rater.id, "a forgotten page must not vote for the next rater"


def test_practice_comes_first_and_checks_are_judged_but_not_counted(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    store = new_store(new_study(num_practice=1, num_checks=2))
    careful, careless = store.join().rater, store.join().rater
    roles = [place.item.role for place in store.hand(careful.id)]
    assert roles[0] == "practice"
    assert roles[1] == "rated"
    assert roles.count("check") == 2

    def clear(place: Any, _: Any) -> str:
        return "first" if place.a_first else "second"

    rate_all(store, careful.id, clear)
    rate_all(store, careless.id, lambda p, q: "tie" if q.id == "alignment" else clear(p, q))
    votes = votes_frame(store)
    assert set(votes["category"]) <= {"Colors", "Counting"}
    table = raters_frame(store).set_index("rater_id")
    assert table.loc[careful.name, ["checks_shown", "checks_failed"]].tolist() == [2, 0]
    assert table.loc[careless.name, ["checks_shown", "checks_failed"]].tolist() == [2, 2]
    assert set(votes[votes["rater_id"] == careless.name]["checks_failed"]) == {2}


def test_answers_about_single_sets_come_in_a_table_of_their_own(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    settings = {"models": ["ours"], "reference": "camera", "images_per_side": 1, "num_checks": 0}
    study = new_study(preset="imagen-coco", items_per_rater=5, raters_per_item=2, **settings)
    store = new_store(study)
    for _ in range(6):
        rate_all(
            store,
            store.join().rater.id,
            lambda place, _: "first" if place.item.kind == "pair" else "somewhat",
        )
    votes, ratings = votes_frame(store), ratings_frame(store)
    assert len(votes) == 5 * 2
    assert set(votes["question"]) == {"photorealism"}
    assert len(ratings) == 5 * 2 * 2
    assert set(ratings["score"]) == {50.0}
    assert ratings.groupby("model").size().to_dict() == {"camera": 10, "ours": 10}


def test_reported_images_say_whose_they_are(new_study: NewStudy, new_store: NewStore) -> None:
    store = new_store(new_study())
    rater = store.join().rater
    place = store.hand(rater.id)[0]
    store.report(rater.id, place.cell_id, place.first[1], "=HYPERLINK(1)" + "x" * 2000)
    (row,) = reports_frame(store).to_dict("records")
    assert row["model"] == (place.item.model_a if place.a_first else place.item.model_b)
    assert len(row["reason"]) == 1000
    with pytest.raises(RefusedError, match="is not on page"):
        store.report(rater.id, place.cell_id, "0" * 32)


def test_simulated_raters_stay_marked(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    store = new_store(new_study())
    rate_all(store, store.join(simulated=True).rater.id)
    rate_all(store, store.join().rater.id)
    marks = votes_frame(store).groupby("rater_id")["simulated"].first()
    assert sorted(marks) == [False, True]


def test_two_studies_share_a_database(
    new_study: NewStudy, new_store: NewStore, rate_all: RateAll
) -> None:
    one, two = new_store(new_study()), new_store(new_study())
    joined = one.join(external_id="worker-1")
    rate_all(one, joined.rater.id)
    two.join(external_id="worker-1")
    assert len(votes_frame(one)) > 0
    assert votes_frame(two).empty
    assert two.find_rater(joined.token) is None
    with pytest.raises(RefusedError):
        two.withdraw(joined.rater.id)


def test_a_study_that_was_edited_after_raters_were_assigned_is_refused(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    study = new_study()
    sqlite_store(study)
    file = study.path / "study.json"
    file.write_text(file.read_text("utf-8").replace("a red car", "a red cat"), "utf-8")
    with pytest.raises(StudyError, match="was changed after raters were assigned"):
        open_store(load_study(study.path))


def test_a_database_that_lacks_the_study_is_refused(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    one, two = new_study(), new_study()
    sqlite_store(one)
    with pytest.raises(MissingDataError, match="does not contain the study"):
        open_store(two, one.default_database)


def test_sides_and_orders_are_logged_and_balanced(new_study: NewStudy, new_store: NewStore) -> None:
    study = new_study(raters_per_item=8, images_per_side=4)
    store = new_store(study)
    with store.database.reading() as session:
        cells = session.scalars(select(CellRow)).all()
    by_item: dict[int, list[Any]] = {}
    for cell in cells:
        by_item.setdefault(cell.item_id, []).append(cell)
    for group in by_item.values():
        assert sum(cell.a_first for cell in group) == 4
        for order in ("order_a", "order_b"):
            places = [getattr(cell, order).split() for cell in group]
            for place in range(4):
                counts = [row[place] for row in places]
                assert sorted(counts) == sorted("01230123")
