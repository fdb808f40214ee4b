"""One page of a rater: which images are where, and which model an answer by side is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drawbench.errors import StoreError
from drawbench.store.tables import CellRow
from drawbench.study.assignment import image_order
from drawbench.study.folder import Item, Study


@dataclass(frozen=True, kw_only=True)
class Place:
    """One page of a rater's hand."""

    cell_id: int
    item: Item
    position: int
    a_first: bool
    first: tuple[str, ...]
    """Blind names of the images of set A, in the order shown."""
    second: tuple[str, ...]
    """The same for set B; empty for a single set."""
    answers: Mapping[str, str]
    """What was clicked, by question."""
    done: bool


def place_of(study: Study, item: Item, cell: CellRow, answers: Mapping[str, str]) -> Place:
    """Return a cell as its rater sees it.

    Args:
        study: The study.
        item: The cell's item.
        cell: Side and order of the images.
        answers: By question, in terms of models; they are translated into answers by place.
    """
    first = _ordered(study, item.model_a, item, cell.order_a)
    second = _ordered(study, item.model_b, item, cell.order_b) if item.model_b else ()
    if item.model_b and not cell.a_first:
        first, second = second, first
    return Place(
        cell_id=cell.id,
        item=item,
        position=cell.position or 0,
        a_first=cell.a_first,
        first=first,
        second=second,
        answers={
            question: by_place(item, answer, cell.a_first) for question, answer in answers.items()
        },
        done=cell.done_at is not None,
    )


def by_model(item: Item, shown: str, a_first: bool) -> str:
    """Translate an answer by place into one by model: `a`, `tie`, `b`."""
    if item.kind == "single" or shown == "tie":
        return shown
    return "a" if (shown == "first") == a_first else "b"


def by_place(item: Item, answer: str, a_first: bool) -> str:
    """Translate an answer by model into one by place: `first`, `tie`, `second`."""
    if item.kind == "single" or answer == "tie":
        return answer
    return "first" if (answer == "a") == a_first else "second"


def order_text(seed: int, item: Item, slot: int, side: str, num_images: int) -> str:
    """Return the order of a set's images in a slot, as the table `cell` stores it."""
    order = image_order(seed, item.id, slot=slot, side=side, num_images=num_images)
    return " ".join(map(str, order))


def _ordered(study: Study, model: str, item: Item, order: str) -> tuple[str, ...]:
    keys = study.image_keys(model, item.prompt_id)
    try:
        return tuple(keys[int(index)] for index in order.split())
    except IndexError as error:
        raise StoreError(
            f"The images of {study.path} do not match its votes. Restore the study."
        ) from error
