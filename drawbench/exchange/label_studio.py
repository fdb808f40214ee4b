"""Exchange with Label Studio: open ratings become tasks, and annotations become votes.

Sides are drawn before the tasks are written, and each task is one required rating.
"""

from __future__ import annotations

import hashlib
import math
from html import escape
from pathlib import Path
from typing import Any

from sqlalchemy import select

from drawbench.errors import DuplicateVoteError, VotesError
from drawbench.exchange.into_store import ImportCounts, Rating, seconds_of, write_ratings
from drawbench.store import Store
from drawbench.store.pages import Place, by_model
from drawbench.store.tables import CellRow
from drawbench.study.design import Question, question_text
from drawbench.study.texts import fill
from drawbench.votes import read_text
from evalkit.core.tables import parse_json


def label_studio_config(store: Store) -> str:
    """Return Label Studio's labelling interface: two sets of images and all pair questions."""
    count = store.study.config.images_per_side
    wording, side_name = store.study.texts.rating, store.study.config.side_name
    sides = "".join(
        f'<View style="flex: 1"><Header value="{escape(fill(title, side=side_name))}"/>'
        '<View style="display: grid; grid-template-columns: repeat(4, 1fr)">'
        + "".join(f'<Image name="{side}_{k}" value="${side}_{k}"/>' for k in range(1, count + 1))
        + "</View></View>"
        for side, title in (("first", wording.first_set), ("second", wording.second_set))
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
    """Return one task for each open cell of a pair, so sides differ between annotators.

    Args:
        store: The study.
        url_prefix: Prefix of `KEY.png` in the URLs of images in Label Studio.
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


def import_label_studio(store: Store, path: Path) -> ImportCounts:
    """Import annotations of tasks from `label_studio_tasks`, exported by Label Studio as JSON.

    Cancelled annotations are skipped. The annotator's name or id is stored as a hash only.

    Raises:
        VotesError: The file is not such an export, or an annotation does not match the study.
        DuplicateVoteError: A task was annotated twice.
    """
    tasks = parse_json(read_text(path), source=str(path), fault=VotesError)
    if not isinstance(tasks, list):
        raise VotesError(f"{path} is not a list of tasks. Export from Label Studio as JSON.")
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
            done = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise VotesError(
                f"{where} is not a task of this study. Nothing was imported."
            ) from None
        if len(done) > 1:
            raise DuplicateVoteError(
                f"{where} has {len(done)} annotations, expected one. Delete the others, or set "
                "the overlap of annotations to 1."
            )
        ratings += [_annotation(store, annotation, cell, where) for annotation in done]
    return write_ratings(store, ratings, source=str(path))


def _annotation(store: Store, annotation: Any, cell: CellRow, where: str) -> Rating:
    place = store.place(cell, {})
    questions = {question.id: question for question in store.study.questions(place.item)}
    answers = {}
    try:
        for result in annotation["result"] or []:
            question = questions[result["from_name"]]
            choices = result["value"]["choices"] or []
            if not choices:
                continue
            (choice,) = choices
            answers[question.id] = by_model(place.item, _value(question, choice), cell.a_first)
        annotator = str(annotation.get("completed_by", ""))
        seconds = annotation.get("lead_time")
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"lead_time is {seconds!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise VotesError(f"{where}: an annotation can't be read ({error!r}).") from error
    if set(answers) != set(questions):
        missing = sorted(set(questions) - set(answers))
        raise VotesError(
            f"{where}: question {missing[0]!r} has no answer ({len(missing)} of {len(questions)} "
            "are blank). Nothing was imported. Complete or cancel the annotation in Label Studio."
        )
    return Rating(
        rater="label-studio " + hashlib.sha256(annotator.encode()).hexdigest()[:12],
        item=place.item,
        answers=answers,
        a_first=cell.a_first,
        cell_id=cell.id,
        response_s={} if seconds is None else dict.fromkeys(answers, float(seconds)),
        answered_at=seconds_of(str(annotation.get("created_at") or ""), where),
    )


def _value(question: Question, choice: object) -> str:
    for answer in question.answers:
        if choice in (answer.value, answer.label):
            return answer.value
    raise ValueError(f"question {question.id!r} does not offer {choice!r}")
