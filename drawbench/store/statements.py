"""Plain SQL statements for storing an answer, the one step in which raters wait for one another.

With tables instead of mapped objects they take a tenth of the time, under a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from drawbench.store.tables import CellRow, HistoryRow, RaterRow, VoteRow

Outcome = Literal["recorded", "changed", "unchanged"]

_CELLS, _RATERS, _VOTES, _HISTORY = (
    cast("Table", row.__table__) for row in (CellRow, RaterRow, VoteRow, HistoryRow)
)
_LAYOUT = (
    select(
        _CELLS.c.rater_id, _CELLS.c.item_id, _CELLS.c.a_first, _CELLS.c.position, _CELLS.c.done_at
    )
    .where(_CELLS.c.id == bindparam("cell"), _CELLS.c.study_id == bindparam("study"))
    .with_for_update()
)
_VOTES_ON_ITEM = select(_VOTES.c.id, _VOTES.c.question, _VOTES.c.answer).where(
    _VOTES.c.rater_id == bindparam("rater"), _VOTES.c.item_id == bindparam("item")
)
_NEW_VOTE = insert(_VOTES).values(num_changes=0)
_CHANGE_VOTE = (
    update(_VOTES)
    .where(_VOTES.c.id == bindparam("vote"))
    .values(num_changes=_VOTES.c.num_changes + 1)
)
_NEW_HISTORY = insert(_HISTORY)
_RENEW = (
    update(_RATERS).where(_RATERS.c.id == bindparam("rater")).values(lease_until=bindparam("until"))
)
_DONE = update(_CELLS).where(_CELLS.c.id == bindparam("cell")).values(done_at=bindparam("now"))
_PROGRESS = (
    select(
        func.count().filter(_CELLS.c.done_at.is_not(None), _CELLS.c.slot.is_not(None)),
        func.count().filter(_CELLS.c.done_at.is_(None)),
        func.max(_RATERS.c.num_assigned),
    )
    .select_from(_CELLS.join(_RATERS, _RATERS.c.id == _CELLS.c.rater_id))
    .where(_CELLS.c.rater_id == bindparam("rater"))
)
_FINISH = (
    update(_RATERS)
    .where(_RATERS.c.id == bindparam("rater"), _RATERS.c.finished_at.is_(None))
    .values(finished_at=bindparam("now"))
)


def layout(connection: Connection, *, study_id: int, cell_id: int) -> Any:
    """Return a cell's rater, item, side and position, or None; lock it until the commit.

    The static type of a row differs between versions of SQLAlchemy, hence `Any`.
    """
    return connection.execute(_LAYOUT, {"cell": cell_id, "study": study_id}).one_or_none()


def votes_on_item(connection: Connection, *, rater_id: int, item_id: int) -> dict[str, Any]:
    """Return a rater's votes on an item, by question."""
    rows = connection.execute(_VOTES_ON_ITEM, {"rater": rater_id, "item": item_id})
    return {row.question: row for row in rows}


def write_vote(connection: Connection, vote: Mapping[str, Any], before: Any) -> Outcome:
    """Insert or change a vote and log it in the history, unless the same answer is stored."""
    if before is not None and before.answer == vote["answer"]:
        return "unchanged"
    if before is None:
        connection.execute(_NEW_VOTE, dict(vote))
    else:
        connection.execute(_CHANGE_VOTE, {**vote, "vote": before.id})
    kept = ("rater_id", "item_id", "question", "shown", "response_s")
    entry: dict[str, Any] = {name: vote[name] for name in kept}
    entry["event"] = "vote" if before is None else "change"
    connection.execute(_NEW_HISTORY, {**entry, "at": vote["answered_at"]})
    return "recorded" if before is None else "changed"


def renew_lease(connection: Connection, *, rater_id: int, until: float) -> None:
    """Extend a rater's lease."""
    connection.execute(_RENEW, {"rater": rater_id, "until": until})


def mark_done(connection: Connection, *, cell_id: int, now: float) -> None:
    """Mark a cell whose questions are all answered."""
    connection.execute(_DONE, {"cell": cell_id, "now": now})


def finish_if_done(connection: Connection, *, rater_id: int, now: float) -> bool:
    """Mark a rater as finished if they rated everything they were assigned; return whether."""
    done, left, assigned = connection.execute(_PROGRESS, {"rater": rater_id}).one()
    if left or done < assigned:
        return False
    connection.execute(_FINISH, {"rater": rater_id, "now": now})
    return True
