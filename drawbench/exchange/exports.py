"""Export the votes of a store as tables for statistics, reports and other programs.

Pairwise votes have the columns of `drawbench.votes`; answers about single sets, which have no
second model, have a table of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from sqlalchemy import select

from drawbench.store import Store
from drawbench.store.tables import CellRow, HistoryRow, ItemRow, RaterRow, ReportRow, VoteRow
from drawbench.study.folder import Item
from drawbench.votes import REQUIRED_COLUMNS

RatedVote = tuple[Item, VoteRow, RaterRow, Mapping[str, Any]]

_OF_THE_ANSWER = (
    "response_s",
    "images_missing",
    "answered_at",
    "prompt",
    "partial",
    "complete",
    "checks_shown",
    "checks_failed",
    "rater_status",
    "simulated",
)
VOTE_COLUMNS = (*REQUIRED_COLUMNS, "item_id", "left_model", *_OF_THE_ANSWER)
RATING_COLUMNS = (
    *("rater_id", "prompt_id", "category", "model", "question", "answer", "score", "item_id"),
    *_OF_THE_ANSWER,
)
RATER_COLUMNS = (
    "rater_id",
    "external_id",
    "state",
    "block",
    "num_assigned",
    "num_done",
    "checks_shown",
    "checks_failed",
    "num_changes",
    "joined_at",
    "finished_at",
    "completion_code",
    "rater_status",
    "simulated",
)
QUOTA_COLUMNS = ("item_id", "block", "category", "prompt_id", "wanted", "done", "in_work", "open")
REPORT_COLUMNS = ("rater_id", "model", "prompt_id", "sample_index", "image_key", "reason", "at")


def votes_frame(store: Store) -> pd.DataFrame:
    """Return all pairwise votes on rated items, as `drawbench.votes.validate_votes` expects.

    `partial` marks raters who have not finished their hand, `complete` items on which the rater
    answered every question (only these count toward the quota), `images_missing` counts the images
    of the page that the rater could not see (empty if that was not recorded).
    """
    rows = []
    for item, vote, rater, facts in _rated_votes(store):
        if item.kind == "pair":
            rows.append(
                {
                    **_common(store, item, vote, rater, facts),
                    "model_a": item.model_a,
                    "model_b": item.model_b,
                    "left_model": item.model_a if vote.a_first else item.model_b,
                }
            )
    return pd.DataFrame(rows, columns=list(VOTE_COLUMNS))


def ratings_frame(store: Store) -> pd.DataFrame:
    """Return all answers about single sets, with their scores where the question has any."""
    rows = []
    for item, vote, rater, facts in _rated_votes(store):
        if item.kind == "single":
            rows.append(
                {
                    **_common(store, item, vote, rater, facts),
                    "model": item.model_a,
                    "score": _score(store, item, vote.question, vote.answer),
                }
            )
    return pd.DataFrame(rows, columns=list(RATING_COLUMNS))


def raters_frame(store: Store) -> pd.DataFrame:
    """Return one row per rater: progress, and results of attention checks."""
    with store.database.reading() as session:
        raters = session.scalars(
            select(RaterRow).where(RaterRow.study_id == store.study_id).order_by(RaterRow.number)
        ).all()
    done = _num_done(store)
    checks, changes = _checks(store), _changes(store)
    rows = []
    for rater in raters:
        shown, failed = checks.get(rater.id, (0, 0))
        rows.append(
            {
                "rater_id": rater.name,
                "external_id": rater.external_id or "",
                "state": store.view(rater).state,
                "block": rater.block or "",
                "num_assigned": rater.num_assigned,
                "num_done": done[rater.id],
                "checks_shown": shown,
                "checks_failed": failed,
                "num_changes": changes[rater.id],
                "joined_at": _time(rater.consented_at),
                "finished_at": _time(rater.finished_at),
                "completion_code": rater.completion_code if rater.finished_at else "",
                "rater_status": rater.platform_status,
                "simulated": rater.simulated,
            }
        )
    return pd.DataFrame(rows, columns=list(RATER_COLUMNS))


def quota_frame(store: Store) -> pd.DataFrame:
    """Return one row per rated item: complete ratings required, done, in work and open."""
    with store.database.reading() as session:
        cells = session.execute(
            select(ItemRow.name, CellRow.rater_id, CellRow.done_at, RaterRow.lease_until)
            .join(ItemRow, ItemRow.id == CellRow.item_id)
            .outerjoin(RaterRow, RaterRow.id == CellRow.rater_id)
            .where(CellRow.study_id == store.study_id, CellRow.slot.is_not(None))
        ).all()
    now = store.clock()
    counts: dict[str, list[int]] = {}
    for name, rater_id, done_at, lease_until in cells:
        count = counts.setdefault(name, [0, 0])
        count[0] += done_at is not None
        count[1] += done_at is None and rater_id is not None and lease_until >= now
    wanted = store.study.config.raters_per_item
    rows = [
        (
            item.id,
            item.block,
            item.category,
            item.prompt_id,
            wanted,
            done,
            working,
            wanted - done - working,
        )
        for item in store.study.items.values()
        if item.role == "rated"
        for done, working in [counts[item.id]]
    ]
    return pd.DataFrame(rows, columns=list(QUOTA_COLUMNS))


def reports_frame(store: Store) -> pd.DataFrame:
    """Return the images that raters reported, with their models."""
    entries = {entry.key: entry for entry in store.study.images}
    with store.database.reading() as session:
        rows = session.execute(
            select(ReportRow, RaterRow.name)
            .join(RaterRow, RaterRow.id == ReportRow.rater_id)
            .where(RaterRow.study_id == store.study_id)
            .order_by(ReportRow.id)
        ).all()
    table = [
        (
            name,
            entries[report.image_key].source,
            entries[report.image_key].prompt_id,
            entries[report.image_key].sample_index,
            report.image_key,
            report.reason,
            _time(report.at),
        )
        for report, name in rows
    ]
    return pd.DataFrame(table, columns=list(REPORT_COLUMNS))


def _rated_votes(store: Store) -> list[RatedVote]:
    """Return votes on rated items in order, with columns about item and rater."""
    with store.database.reading() as session:
        found = session.execute(
            select(ItemRow.name, VoteRow, RaterRow)
            .join(ItemRow, ItemRow.id == VoteRow.item_id)
            .join(RaterRow, RaterRow.id == VoteRow.rater_id)
            .where(RaterRow.study_id == store.study_id)
            .order_by(VoteRow.answered_at, VoteRow.id)
        ).all()
    answered = Counter((vote.rater_id, vote.item_id) for _, vote, _ in found)
    checks, done = _checks(store), _num_done(store)
    rows: list[RatedVote] = []
    for name, vote, rater in found:
        item = store.study.items[name]
        if item.role != "rated":
            continue
        shown, failed = checks.get(rater.id, (0, 0))
        complete = answered[vote.rater_id, vote.item_id] == len(store.study.questions(item))
        partial = rater.finished_at is None or done[rater.id] < rater.num_assigned
        facts = {
            "complete": complete,
            "partial": partial,
            "checks_shown": shown,
            "checks_failed": failed,
        }
        rows.append((item, vote, rater, facts))
    return rows


def _num_done(store: Store) -> Counter[int | None]:
    """Count the rated items that each rater finished."""
    with store.database.reading() as session:
        return Counter(
            session.scalars(
                select(CellRow.rater_id).where(
                    CellRow.study_id == store.study_id,
                    CellRow.slot.is_not(None),
                    CellRow.done_at.is_not(None),
                )
            ).all()
        )


def _common(
    store: Store, item: Item, vote: VoteRow, rater: RaterRow, facts: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "rater_id": rater.name,
        "prompt_id": item.prompt_id,
        "category": item.category,
        "question": vote.question,
        "answer": vote.answer,
        "item_id": item.id,
        "response_s": vote.response_s,
        "images_missing": "" if vote.images_missing is None else vote.images_missing,
        "answered_at": _time(vote.answered_at),
        "prompt": item.prompt,
        "rater_status": rater.platform_status,
        "simulated": rater.simulated,
        **facts,
    }


def _score(store: Store, item: Item, question_id: str, value: str) -> float | None:
    for question in store.study.questions(item):
        for answer in question.answers:
            if (question.id, answer.value) == (question_id, value):
                return answer.score
    return None


def _checks(store: Store) -> dict[int, tuple[int, int]]:
    """Count answered and failed attention checks by rater; one wrong answer fails a check."""
    checks = {item.id: item for item in store.study.extras("check")}
    if not checks:
        return {}
    with store.database.reading() as session:
        rows = session.execute(
            select(VoteRow.rater_id, ItemRow.name, VoteRow.question, VoteRow.answer)
            .join(ItemRow, ItemRow.id == VoteRow.item_id)
            .where(ItemRow.study_id == store.study_id, ItemRow.name.in_(list(checks)))
        ).all()
    right: dict[tuple[int, str], bool] = {}
    for rater_id, name, question, answer in rows:
        expected = checks[name].expected.get(question, answer)
        # The intact set of a check is model A of its item, on whichever side it was shown.
        wanted = "a" if checks[name].kind == "pair" and expected == "first" else expected
        right[rater_id, name] = right.get((rater_id, name), True) and answer == wanted
    counts: dict[int, tuple[int, int]] = {}
    for (rater_id, _), is_right in right.items():
        shown, failed = counts.get(rater_id, (0, 0))
        counts[rater_id] = (shown + 1, failed + (not is_right))
    return counts


def _changes(store: Store) -> Counter[int]:
    """Count the changed and undone votes of each rater."""
    with store.database.reading() as session:
        return Counter(
            session.scalars(
                select(HistoryRow.rater_id)
                .join(RaterRow, RaterRow.id == HistoryRow.rater_id)
                .where(RaterRow.study_id == store.study_id, HistoryRow.event != "vote")
            ).all()
        )


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
