"""Assign a study's cells to raters, and reassign those of raters who left.

Every method runs inside the caller's transaction, which must have locked the study.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from drawbench.errors import RefusedError
from drawbench.store import statements
from drawbench.store.pages import order_text
from drawbench.store.tables import CellRow, ItemRow, RaterRow, VoteRow
from drawbench.study.assignment import (
    OpenSlot,
    choose_slots,
    dice,
    insert_checks,
    presentation_order,
)
from drawbench.study.folder import Item, Study

KEPT_UNTIL = 4_102_444_800.0
"""Until when an unused invitation keeps a place: the year 2100, so until it is used or released."""

_OPEN: tuple[ColumnElement[bool], ...] = (CellRow.rater_id.is_(None), CellRow.slot.is_not(None))


@dataclass(frozen=True)
class Hands:
    """The assignment of a study's cells to raters."""

    study: Study
    study_id: int
    items: Mapping[int, Item]
    """By id in the database."""
    clock: Callable[[], float]

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {item.id: number for number, item in self.items.items()}

    @property
    def lease_s(self) -> float:
        """Seconds after which the open items of an inactive rater may go to others."""
        return self.study.config.lease_minutes * 60.0

    def hand_out(self, session: Session, rater: RaterRow) -> None:
        """Choose and lease cells for a rater, and insert practice items and checks.

        A rater for whom no place was kept leaves those of invited raters alone.
        """
        self.release_lapsed(session)
        config = self.study.config
        open_slots = self._open_slots(session)
        choice = choose_slots(
            open_slots
            if rater.lease_until >= self.clock()
            else self._not_kept(session, open_slots),
            self._block_sizes,
            num_slots=config.raters_per_item,
            seed=config.seed,
            rater=rater.number,
            only_block=rater.block,
        )
        if choice is None:
            raise RefusedError(self.study.texts.errors.study_full)
        rater.block, slots = choice
        cells = self._open_cells(session, rater, slots)
        rated = presentation_order(config.seed, rater.number, sorted(cells))
        extras = {item.id: self._extra_cell(session, rater, item) for item in self._extra_items()}
        practice = [item.id for item in self.study.extras("practice")]
        checks = [item.id for item in self.study.extras("check")]
        order = [*practice, *insert_checks(config.seed, rater.number, rated, checks)]
        for position, name in enumerate(order):
            cell = extras.get(name) or cells[name]
            cell.rater_id = rater.id
            cell.position = position
        rater.num_assigned = len(rated)
        rater.consented_at = self.clock()
        rater.lease_until = self.clock() + self.lease_s

    def _extra_items(self) -> list[Item]:
        return [*self.study.extras("practice"), *self.study.extras("check")]

    @cached_property
    def _block_sizes(self) -> Mapping[str, int]:
        return {block: len(items) for block, items in self.study.blocks.items()}

    def _not_kept(self, session: Session, open_slots: Sequence[OpenSlot]) -> list[OpenSlot]:
        """Leave out the blocks in which no place is left beside those kept for invited raters.

        A place is a whole block of open cells. An invitation without a block keeps a place in any.
        """
        kept = Counter(
            session.scalars(
                select(RaterRow.block).where(
                    RaterRow.study_id == self.study_id,
                    RaterRow.consented_at.is_(None),
                    RaterRow.lease_until >= self.clock(),
                )
            ).all()
        )
        if not kept:
            return list(open_slots)
        num_open: Counter[str] = Counter()
        for slot in open_slots:
            num_open[slot.block] += slot.num_open
        left = {
            block: num_open[block] // size - kept[block]
            for block, size in self._block_sizes.items()
        }
        if sum(max(0, number) for number in left.values()) <= kept[None]:
            return []
        return [slot for slot in open_slots if left[slot.block] > 0]

    def release_lapsed(self, session: Session) -> int:
        """Free the open cells of raters whose lease has expired, and return their number."""
        lapsed = select(RaterRow.id).where(
            RaterRow.study_id == self.study_id,
            RaterRow.finished_at.is_(None),
            RaterRow.lease_until < self.clock(),
        )
        freed = session.execute(
            update(CellRow)
            .where(
                CellRow.study_id == self.study_id,
                CellRow.slot.is_not(None),
                CellRow.done_at.is_(None),
                CellRow.rater_id.in_(lapsed),
            )
            .values(rater_id=None, position=None)
            .returning(CellRow.id)
            .execution_options(synchronize_session=False)
        )
        return len(freed.all())

    def _open_slots(self, session: Session) -> list[OpenSlot]:
        rows = session.execute(
            select(ItemRow.block, CellRow.slot, func.count())
            .join(ItemRow, ItemRow.id == CellRow.item_id)
            .where(CellRow.study_id == self.study_id, *_OPEN)
            .group_by(ItemRow.block, CellRow.slot)
        )
        return [
            OpenSlot(block=block, slot=slot, num_open=count)
            for block, slot, count in rows
            if slot is not None
        ]

    def _open_cells(
        self, session: Session, rater: RaterRow, slots: Sequence[int]
    ) -> dict[str, CellRow]:
        """Return one open cell of each item of the rater's block, by item name."""
        taken = select(CellRow.item_id).where(CellRow.rater_id == rater.id)
        rows = session.execute(
            select(ItemRow.name, CellRow)
            .join(ItemRow, ItemRow.id == CellRow.item_id)
            .where(
                CellRow.study_id == self.study_id,
                ItemRow.block == rater.block,
                CellRow.slot.in_(slots),
                CellRow.item_id.not_in(taken),
                *_OPEN,
            )
            .order_by(CellRow.slot)
        )
        cells: dict[str, CellRow] = {}
        for name, cell in rows:
            cells.setdefault(name, cell)
        return cells

    def _extra_cell(self, session: Session, rater: RaterRow, item: Item) -> CellRow:
        """Add a practice item or check for one rater, with sides drawn for that rater."""
        config = self.study.config
        toss = dice(config.seed, "side", rater.number, item.id)
        cell = CellRow(
            study_id=self.study_id,
            item_id=self._numbers[item.id],
            slot=None,
            a_first=toss.random() < 0.5,
            order_a=order_text(config.seed, item, rater.number, "a", config.images_per_side),
            order_b=order_text(config.seed, item, rater.number, "b", config.images_per_side),
            rater_id=rater.id,
            position=None,
            done_at=None,
        )
        session.add(cell)
        return cell

    def regain(self, session: Session, rater: RaterRow) -> None:
        """Give a returning rater open cells for the missing items of their block."""
        held = session.scalar(
            select(func.count()).where(CellRow.rater_id == rater.id, CellRow.slot.is_not(None))
        )
        missing = rater.num_assigned - (held or 0)
        if missing <= 0:
            return
        cells = self._open_cells(session, rater, range(self.study.config.raters_per_item))
        last = session.scalar(
            select(func.max(CellRow.position)).where(CellRow.rater_id == rater.id)
        )
        order = presentation_order(self.study.config.seed, rater.number, sorted(cells))
        for offset, name in enumerate(order[:missing], start=1):
            cells[name].rater_id = rater.id
            cells[name].position = (last or 0) + offset
        session.flush()
        for cell in cells.values():
            # An earlier vote may already answer one of the questions, or all of them after an undo.
            if cell.rater_id == rater.id and self._is_done(session, cell):
                cell.done_at = self.clock()
        session.flush()
        statements.finish_if_done(session.connection(), rater_id=rater.id, now=self.clock())
        session.refresh(rater)

    def _is_done(self, session: Session, cell: CellRow) -> bool:
        answered = session.scalar(
            select(func.count()).where(
                VoteRow.rater_id == cell.rater_id, VoteRow.item_id == cell.item_id
            )
        )
        return answered == len(self.study.questions(self.items[cell.item_id]))
