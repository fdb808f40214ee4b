"""Register a study in a database: its items, and a cell for every rating that it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from drawbench.store.database import Database
from drawbench.store.pages import order_text
from drawbench.store.tables import CellRow, ItemRow, StudyRow
from drawbench.study import Study
from drawbench.study.assignment import side_table

INSERT_BATCH = 2000


def register(study: Study, database: Database, now: float) -> None:
    """Write a study's items and cells unless they exist."""
    with database.writing() as session:
        if session.scalar(select(StudyRow.id).where(StudyRow.uid == study.document.uid)):
            return
        row = StudyRow(
            uid=study.document.uid,
            document_sha256=document_sha256(study),
            created_at=now,
            num_joined=0,
            num_withdrawn=0,
        )
        session.add(row)
        session.flush()
        items = [
            {"study_id": row.id, "name": item.id, "block": item.block}
            for item in study.items.values()
        ]
        _insert(session, ItemRow, items)
        ids = dict(
            session.execute(
                select(ItemRow.name, ItemRow.id).where(ItemRow.study_id == row.id)
            ).all()
        )
        cells = [{**cell, "study_id": row.id} for cell in plan_cells(study, ids)]
        _insert(session, CellRow, cells)


def document_sha256(study: Study) -> str:
    """Hash everything that the cells of a study depend on."""
    return hashlib.sha256(study.document.model_dump_json().encode()).hexdigest()


def plan_cells(study: Study, item_ids: Mapping[str, int]) -> list[dict[str, object]]:
    """Lay out all ratings that a study needs, as rows of the table `cell`."""
    config = study.config
    cells: list[dict[str, object]] = []
    for block, items in study.blocks.items():
        sides = side_table(
            config.seed, block, num_items=len(items), num_slots=config.raters_per_item
        )
        for slot in range(config.raters_per_item):
            cells += [
                {
                    "item_id": item_ids[item.id],
                    "slot": slot,
                    "a_first": sides[slot][index],
                    "order_a": order_text(config.seed, item, slot, "a", config.images_per_side),
                    "order_b": order_text(config.seed, item, slot, "b", config.images_per_side),
                }
                for index, item in enumerate(items)
            ]
    return cells


def _insert(
    session: Session, table: type[ItemRow | CellRow], rows: Sequence[Mapping[str, object]]
) -> None:
    for start in range(0, len(rows), INSERT_BATCH):
        session.execute(insert(table), list(rows[start : start + INSERT_BATCH]))
