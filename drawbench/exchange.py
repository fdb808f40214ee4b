"""To and from other programs: votes as CSV, Label Studio, and the batches of Prolific and MTurk.

Everything that comes in is checked whole before the first row is written, and written in one
transaction: a file is imported or it is not.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from drawbench.errors import DuplicateVoteError, VotesError
from drawbench.rating import question_text
from drawbench.store import Place, Store, hash_token
from drawbench.study import Item, Question
from drawbench.tables import CellRow, HistoryRow, ItemRow, RaterRow, StudyRow, VoteRow
from drawbench.votes import read_cells, read_text, read_votes

IMPORTED_CODE = "imported"


@dataclass(frozen=True, kw_only=True)
class Rating:
    """All answers of one rater to one item, as they come from outside."""

    rater: str
    """What the other program calls the rater."""
    item: Item
    answers: Mapping[str, str]
    """By question: `a`, `tie`, `b`, or the answer about a single set."""
    a_first: bool | None = None
    """Whether model A stood first; None where the other program does not say."""
    cell_id: int | None = None
    """The cell that was handed out, where the other program kept it."""
    response_s: Mapping[str, float] = field(default_factory=dict)
    answered_at: float | None = None
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import wrote."""

    num_raters: int
    num_items: int
    num_votes: int


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """How the rows of a crowd platform's batch match the raters of a study."""

    table: pd.DataFrame
    """One row per row of the batch: `participant`, `platform_status`, `rater_id`, `state`, `code`
    (right, wrong, missing) and `advice` (approve, check, unknown)."""


# Votes as CSV


def import_votes_csv(store: Store, path: Path) -> ImportReport:
    """Take votes of a CSV (see `drawbench.votes`) into a study, as ratings of new raters.

    Raises:
        VotesError: The file is not one of votes, or does not fit the study.
        DuplicateVoteError: A rater answers a question on an item twice.
    """
    grouped: dict[tuple[str, str], list[_VoteRow]] = {}
    for number, row in enumerate(read_votes(path).to_dict("records"), start=1):
        found = _find_item(store, row, f"{path}: row {number}")
        grouped.setdefault((row["rater_id"], found.item.id), []).append(found)
    ratings = [_join_rows(rater, rows) for (rater, _), rows in grouped.items()]
    return _write_ratings(store, ratings, source=str(path))


@dataclass(frozen=True)
class _VoteRow:
    item: Item
    answer: str
    """By the models of the item, which may be those of the row swapped."""
    cells: Mapping[Any, Any]


def _find_item(store: Store, row: Mapping[Any, Any], where: str) -> _VoteRow:
    """The item that a row of votes is about."""
    a, b, answer = row["model_a"], row["model_b"], row["answer"]
    swapped = {"a": "b", "b": "a"}.get(answer, answer)
    for first, second, by_item in ((a, b, answer), (b, a, swapped)):
        item = store.study.items.get(f"{row['prompt_id']}/{first}/{second}")
        if item is None or item.role != "rated":
            continue
        if row["question"] not in [question.id for question in store.study.questions(item)]:
            raise VotesError(f"{where}: the study does not ask {row['question']!r}.")
        return _VoteRow(item, by_item, row)
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
        answered_at=_seconds(cells.get("answered_at", "")),
        simulated=bool(cells.get("simulated", False)),
    )


# Label Studio


def label_studio_config(store: Store) -> str:
    """The labelling interface for Label Studio: two sets of images and all pair questions."""
    count = store.study.config.images_per_side
    sides = "".join(
        f'<View style="flex: 1"><Header value="{store.study.config.side_name} {letter}"/>'
        '<View style="display: grid; grid-template-columns: repeat(4, 1fr)">'
        + "".join(f'<Image name="{side}_{k}" value="${side}_{k}"/>' for k in range(1, count + 1))
        + "</View></View>"
        for side, letter in (("first", "A"), ("second", "B"))
    )
    questions = "".join(
        f'<Header value="$question_{question.id}"/>'
        f'<Choices name="{question.id}" toName="first_1" choice="single" required="true">'
        + "".join(
            f'<Choice value="{escape(answer.label)}" alias="{escape(answer.value)}"/>'
            for answer in question.answers
        )
        + "</Choices>"
        for question in store.study.config.questions
        if question.kind == "pair"
    )
    return (
        '<View><Header value="$prompt"/>'
        f'<View style="display: flex; gap: 1em">{sides}</View>{questions}</View>\n'
    )


def label_studio_tasks(store: Store, *, url_prefix: str) -> list[dict[str, Any]]:
    """One task for each open cell of pairs, so that sides differ from annotator to annotator.

    Args:
        store: The study.
        url_prefix: What stands before `KEY.png` where Label Studio finds the images.
    """
    with store.database.reading() as session:
        cells = session.scalars(
            select(CellRow)
            .where(
                CellRow.study_id == store.study_id,
                CellRow.slot.is_not(None),
                CellRow.rater_id.is_(None),
            )
            .order_by(CellRow.slot, CellRow.id)
        ).all()
    places = [store.place(cell, {}) for cell in cells]
    return [
        {"data": _task_data(store, place, url_prefix)}
        for place in places
        if place.item.kind == "pair"
    ]


def _task_data(store: Store, place: Place, url_prefix: str) -> dict[str, Any]:
    images = {
        f"{side}_{number}": f"{url_prefix}{key}.png"
        for side, keys in (("first", place.first), ("second", place.second))
        for number, key in enumerate(keys, start=1)
    }
    questions = {
        f"question_{question.id}": question_text(question, place.item.prompt)
        for question in store.study.questions(place.item)
    }
    return {"cell": place.cell_id, "prompt": place.item.prompt, **questions, **images}


def import_label_studio(store: Store, path: Path) -> ImportReport:
    """Take the annotations of tasks from `label_studio_tasks`, exported by Label Studio as JSON.

    Cancelled annotations are passed over. The annotator's name or number is kept as a hash only.

    Raises:
        VotesError: The file is no such export, or an annotation does not fit the study.
        DuplicateVoteError: A task was annotated twice.
    """
    try:
        tasks = json.loads(read_text(path))
    except ValueError as error:
        raise VotesError(
            f"{path}: not JSON ({error}). Export from Label Studio as JSON."
        ) from error
    if not isinstance(tasks, list):
        raise VotesError(f"{path}: not a list of tasks. Export from Label Studio as JSON.")
    with store.database.reading() as session:
        cells = {
            cell.id: cell
            for cell in session.scalars(select(CellRow).where(CellRow.study_id == store.study_id))
        }
    ratings = []
    for number, task in enumerate(tasks, start=1):
        where = f"{path}: task {number}"
        try:
            cell = cells[int(task["data"]["cell"])]
            done = [a for a in task.get("annotations", []) if not a.get("was_cancelled")]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise VotesError(f"{where}: it is not one of this study's tasks.") from None
        if len(done) > 1:
            raise DuplicateVoteError(
                f"{where}: it has {len(done)} annotations, each task wants one. Delete the "
                "others, or set the overlap of annotations to 1."
            )
        ratings += [_annotation(store, annotation, cell, where) for annotation in done]
    return _write_ratings(store, ratings, source=str(path))


def _annotation(store: Store, annotation: Any, cell: CellRow, where: str) -> Rating:
    place = store.place(cell, {})
    questions = {question.id: question for question in store.study.questions(place.item)}
    answers = {}
    try:
        for result in annotation["result"]:
            question = questions[result["from_name"]]
            (choice,) = result["value"]["choices"]
            answers[question.id] = _by_model(_value(question, choice), cell.a_first)
        annotator = str(annotation.get("completed_by", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise VotesError(f"{where}: an annotation can't be read ({error!r}).") from error
    if set(answers) != set(questions):
        missing = sorted(set(questions) - set(answers))
        raise VotesError(f"{where}: question {missing[0]!r} has no answer. Nothing was imported.")
    seconds = annotation.get("lead_time")
    return Rating(
        rater="label-studio " + hashlib.sha256(annotator.encode()).hexdigest()[:12],
        item=place.item,
        answers=answers,
        a_first=cell.a_first,
        cell_id=cell.id,
        response_s={} if seconds is None else dict.fromkeys(answers, float(seconds)),
        answered_at=_seconds(str(annotation.get("created_at", ""))),
    )


def _value(question: Question, choice: object) -> str:
    for answer in question.answers:
        if choice in (answer.value, answer.label):
            return answer.value
    raise ValueError(f"question {question.id!r} does not offer {choice!r}")


def _by_model(shown: str, a_first: bool) -> str:
    if shown not in ("first", "second"):
        return shown
    return "a" if (shown == "first") == a_first else "b"


# Prolific and MTurk


def invitations(
    store: Store, count: int, *, address: str, block: str | None = None
) -> list[tuple[str, str]]:
    """Make personal links.

    Returns:
        (rater, link) pairs; MTurk takes the links as a column of a batch.
    """
    made = [store.invite(block=block) for _ in range(count)]
    base = address.rstrip("/")
    return [(joined.rater.name, f"{base}/?rater={joined.token}") for joined in made]


def match_batch(store: Store, path: Path) -> BatchReport:
    """Match the CSV of a Prolific or MTurk batch with the study, and note what it says of raters.

    A row is matched by the platform's number of the person, where it came with them, or by the
    completion code. What the platform says ("APPROVED", "RETURNED") is stored with the rater, and
    reports use it; nobody's votes are changed.

    Raises:
        VotesError: No column names the participants.
    """
    table = read_cells(path)
    who = _column(table, ("participant id", "participant_id", "workerid", "worker id"))
    if who is None:
        raise VotesError(
            f"{path}: no column of participants. Expected Prolific's 'Participant id' or MTurk's "
            f"'WorkerId'; found {', '.join(table.columns)}."
        )
    status = _column(table, ("status", "assignmentstatus"))
    codes = [name for name in table.columns if _is_code(name)]
    rows = []
    with store.database.writing() as session:
        raters = session.scalars(select(RaterRow).where(RaterRow.study_id == store.study_id)).all()
        by_number = {rater.external_id: rater for rater in raters if rater.external_id}
        # A code that all raters share tells nobody apart.
        shared = store.study.config.completion_code
        by_code = {r.completion_code: r for r in raters if r.completion_code != shared}
        for _, row in table.iterrows():
            given = [str(row[name]).strip().upper() for name in codes if str(row[name]).strip()]
            rater = by_number.get(str(row[who])) or next(
                (by_code[code] for code in given if code in by_code), None
            )
            said = str(row[status]).strip().lower() if status else ""
            if rater is not None and said:
                rater.platform_status = said[:40]
            rows.append((str(row[who]), said, *_judge(store, rater, given)))
    columns = ["participant", "platform_status", "rater_id", "state", "code", "advice"]
    return BatchReport(table=pd.DataFrame(rows, columns=columns))


def _judge(store: Store, rater: RaterRow | None, given: Sequence[str]) -> tuple[str, ...]:
    if rater is None:
        return "", "", "missing" if not given else "wrong", "unknown"
    state = store.view(rater).state
    code = "missing" if not given else "wrong"
    if rater.completion_code.upper() in given:
        code = "right"
    return rater.name, state, code, "approve" if state == "finished" else "check"


def _column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in table.columns if name.strip().lower() in names), None)


def _is_code(name: str) -> bool:
    lowered = name.lower()
    return "code" in lowered and (lowered.startswith(("answer.", "completion", "entered")))


# Writing


def _write_ratings(store: Store, ratings: Sequence[Rating], *, source: str) -> ImportReport:
    """Write ratings as those of new raters, in one transaction."""
    if not ratings:
        raise VotesError(f"{source}: no finished rating in it. Nothing was imported.")
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
    return ImportReport(num_raters=len(raters), num_items=len(ratings), num_votes=num_votes)


def _new_rater(
    session: Session, store: Store, study: StudyRow, rating: Rating, source: str
) -> RaterRow:
    # The name is a function of the other program's name, so a second import is noticed.
    digest = hashlib.sha256(f"{store.study.document.uid}/{rating.rater}".encode()).hexdigest()
    name = f"i-{digest[:12]}"
    known = session.scalar(
        select(RaterRow.id).where(RaterRow.study_id == study.id, RaterRow.name == name)
    )
    if known is not None:
        raise DuplicateVoteError(
            f"{source}: the votes of rater {rating.rater!r} were imported before. Nothing was "
            f"imported; to replace them, first run: evalkit drawbench withdraw STUDY {name}"
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
    """An open cell of the item, laid out as the rater saw it."""
    query = select(CellRow).where(
        CellRow.item_id == item_id, CellRow.slot.is_not(None), CellRow.rater_id.is_(None)
    )
    if rating.cell_id is not None:
        query = query.where(CellRow.id == rating.cell_id)
    open_cells = session.scalars(query.order_by(CellRow.slot)).all()
    if not open_cells:
        raise VotesError(
            f"{source}: {rating.item.prompt_id} has all its ratings already (rater "
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
            )
        )
        session.add(HistoryRow(**common, event="import", at=at))
    session.flush()
    return len(rating.answers)


def _seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else None
    except ValueError:
        return None
