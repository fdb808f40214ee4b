"""Import ratings into the store, from a CSV of votes or another program.

A file is checked as a whole before the first row is written, and written in one transaction, so it
is imported completely or not at all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from drawbench.errors import DuplicateVoteError, VotesError
from drawbench.store.store import Store, hash_token
from drawbench.store.tables import CellRow, HistoryRow, ItemRow, RaterRow, StudyRow, VoteRow
from drawbench.study.folder import Item
from drawbench.votes import read_votes

IMPORTED_CODE = "imported"


@dataclass(frozen=True, kw_only=True)
class Rating:
    """All answers of one rater to one item, from another program."""

    rater: str
    """The rater's name in the other program."""
    item: Item
    answers: Mapping[str, str]
    """Answers by question: `a`, `tie`, `b`, or the answer about a single set."""
    a_first: bool | None = None
    """Whether model A came first; None if unknown."""
    cell_id: int | None = None
    """The cell that was exported, if the other program kept it."""
    response_s: Mapping[str, float] = field(default_factory=dict)
    answered_at: float | None = None
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class ImportCounts:
    """Numbers of imported votes, items and raters."""

    num_raters: int
    num_items: int
    num_votes: int


def import_votes_csv(store: Store, path: Path) -> ImportCounts:
    """Import the votes of a CSV (see `drawbench.votes`) as ratings of new raters.

    Raises:
        VotesError: The file is not a table of votes, or does not match the study.
        DuplicateVoteError: A rater answers a question on an item twice.
    """
    known = _votes_by_rater(store)
    grouped: dict[tuple[str, str], list[_VoteRow]] = {}
    again: list[tuple[int, str, str]] = []
    for number, row in enumerate(read_votes(path).to_dict("records"), start=1):
        found = _find_item(store, row, f"{path}: row {number}")
        if (row["rater_id"], found.item.id, row["question"]) in known:
            again.append((number, row["rater_id"], row["prompt_id"]))
        grouped.setdefault((row["rater_id"], found.item.id), []).append(found)
    if again:
        number, rater, prompt = again[0]
        raise DuplicateVoteError(
            f"{path}: {len(again)} votes are in this study already; the first, in row {number}, is "
            f"that of rater {rater!r} on prompt {prompt!r}. Nothing was imported. Remove them from "
            "the file, or import it into a new study."
        )
    ratings = [_join_rows(rater, rows) for (rater, _), rows in grouped.items()]
    return write_ratings(store, ratings, source=str(path))


def _votes_by_rater(store: Store) -> set[tuple[str, str, str]]:
    """Return rater, item and question of every vote in the study, as its own export names them."""
    with store.database.reading() as session:
        query = (
            select(RaterRow.name, ItemRow.name, VoteRow.question)
            .join(RaterRow, VoteRow.rater_id == RaterRow.id)
            .join(ItemRow, VoteRow.item_id == ItemRow.id)
            .where(RaterRow.study_id == store.study_id)
        )
        return {(rater, item, question) for rater, item, question in session.execute(query)}


@dataclass(frozen=True)
class _VoteRow:
    item: Item
    answer: str
    """Translate answers for the item's models, which may be swapped in the row."""
    answered_at: float | None
    cells: Mapping[Any, Any]


def _find_item(store: Store, row: Mapping[Any, Any], where: str) -> _VoteRow:
    """Return the item that a row of votes is about."""
    a, b, answer = row["model_a"], row["model_b"], row["answer"]
    swapped = {"a": "b", "b": "a"}.get(answer, answer)
    for first, second, by_item in ((a, b, answer), (b, a, swapped)):
        item = store.study.items.get(f"{row['prompt_id']}/{first}/{second}")
        if item is None or item.role != "rated":
            continue
        if row["question"] not in [question.id for question in store.study.questions(item)]:
            raise VotesError(
                f"{where}: the study has no question {row['question']!r}. Nothing was imported."
            )
        return _VoteRow(item, by_item, seconds_of(row.get("answered_at", ""), where), row)
    raise VotesError(
        f"{where}: the study does not compare {a!r} and {b!r} on prompt {row['prompt_id']!r}. "
        "Nothing was imported."
    )


def _join_rows(rater: str, rows: Sequence[_VoteRow]) -> Rating:
    item, cells = rows[0].item, rows[0].cells
    left = cells.get("left_model", "")
    return Rating(
        rater=rater,
        item=item,
        answers={row.cells["question"]: row.answer for row in rows},
        a_first=left == item.model_a if left else None,
        response_s={
            row.cells["question"]: float(row.cells["response_s"])
            for row in rows
            if pd.notna(row.cells.get("response_s"))
        },
        answered_at=rows[0].answered_at,
        simulated=bool(cells.get("simulated", False)),
    )


def write_ratings(store: Store, ratings: Sequence[Rating], *, source: str) -> ImportCounts:
    """Write ratings of new raters in one transaction."""
    if not ratings:
        raise VotesError(f"{source} contains no finished rating. Nothing was imported.")
    with store.database.writing() as session:
        study = session.execute(
            select(StudyRow).where(StudyRow.id == store.study_id).with_for_update()
        ).scalar_one()
        items = dict(
            session.execute(
                select(ItemRow.name, ItemRow.id).where(ItemRow.study_id == store.study_id)
            ).all()
        )
        raters: dict[str, RaterRow] = {}
        num_votes = 0
        for position, rating in enumerate(ratings):
            if rating.rater not in raters:
                raters[rating.rater] = _new_rater(session, store, study, rating, source)
            rater = raters[rating.rater]
            cell = _claim(session, rating, items[rating.item.id], source)
            num_votes += _write_answers(session, store, rating, rater, cell, position)
            rater.num_assigned += 1
    return ImportCounts(num_raters=len(raters), num_items=len(ratings), num_votes=num_votes)


def _new_rater(
    session: Session, store: Store, study: StudyRow, rating: Rating, source: str
) -> RaterRow:
    # The name is derived from the other program's name, so a second import is detected.
    digest = hashlib.sha256(f"{store.study.document.uid}/{rating.rater}".encode()).hexdigest()
    name = f"i-{digest[:12]}"
    known = session.scalar(
        select(RaterRow.id).where(RaterRow.study_id == study.id, RaterRow.name == name)
    )
    if known is not None:
        raise DuplicateVoteError(
            f"{source}: the votes of rater {rating.rater!r} were imported before. Nothing was "
            f"imported. To replace them, first run: evalkit drawbench withdraw STUDY {name}"
        )
    study.num_joined += 1
    now = store.clock()
    rater = RaterRow(
        study_id=study.id,
        name=name,
        token_sha256=hash_token(secrets.token_hex(16)),
        external_id=None,
        number=study.num_joined,
        block=rating.item.block,
        num_assigned=0,
        created_at=now,
        consented_at=now,
        lease_until=now,
        finished_at=now,
        completion_code=IMPORTED_CODE,
        simulated=rating.simulated,
        platform_status="",
    )
    session.add(rater)
    session.flush()
    return rater


def _claim(session: Session, rating: Rating, item_id: int, source: str) -> CellRow:
    """Find an open cell of the item, laid out as the rater saw it."""
    query = select(CellRow).where(
        CellRow.item_id == item_id, CellRow.slot.is_not(None), CellRow.rater_id.is_(None)
    )
    if rating.cell_id is not None:
        query = query.where(CellRow.id == rating.cell_id)
    open_cells = session.scalars(query.order_by(CellRow.slot)).all()
    if not open_cells:
        raise VotesError(
            f"{source}: {rating.item.prompt_id} already has all its ratings (rater "
            f"{rating.rater!r}). Nothing was imported."
        )
    matching = [cell for cell in open_cells if rating.a_first in (None, cell.a_first)]
    cell = (matching or open_cells)[0]
    if rating.a_first is not None:
        cell.a_first = rating.a_first
    return cell


def _write_answers(
    session: Session,
    store: Store,
    rating: Rating,
    rater: RaterRow,
    cell: CellRow,
    position: int,
) -> int:
    at = store.clock() if rating.answered_at is None else rating.answered_at
    cell.rater_id, cell.position = rater.id, position
    if set(rating.answers) == {question.id for question in store.study.questions(rating.item)}:
        cell.done_at = at
    else:
        rater.finished_at = None
    for question, answer in rating.answers.items():
        shown = answer
        if answer in ("a", "b"):
            shown = "first" if (answer == "a") == cell.a_first else "second"
        common = {
            "rater_id": rater.id,
            "item_id": cell.item_id,
            "question": question,
            "shown": shown,
            "response_s": rating.response_s.get(question),
        }
        session.add(
            VoteRow(
                **common,
                cell_id=cell.id,
                answer=answer,
                a_first=cell.a_first,
                position=position,
                answered_at=at,
                num_changes=0,
                images_missing=None,
            )
        )
        session.add(HistoryRow(**common, event="import", at=at))
    session.flush()
    return len(rating.answers)


def seconds_of(text: str, where: str) -> float | None:
    """Convert an ISO 8601 time to seconds since 1970; None where none is given.

    Raises:
        VotesError: The text is not such a time.
    """
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None
    except (ValueError, OverflowError, OSError) as error:
        raise VotesError(
            f"{where}: {text!r} is not a time. Write it as 2024-05-31T12:00:00+00:00, or leave it "
            "out."
        ) from error
