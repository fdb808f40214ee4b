"""The votes of a study: who rates what, which answers were given, what is left to do.

A `Store` connects a `Study` to a `Database`. Each method is one transaction: when it returns, its
effect is on the disk; when it raises, nothing has changed. A vote is unique per rater, item and
question; sending it again changes nothing, and sending another answer replaces it and is logged in
the history.

Items are assigned as *cells* (one required rating of one item). A rater's cells are leased: each
answer renews the lease, and once it has expired, open cells may go to the next rater who joins. So
every item ends with exactly as many complete ratings as the study needs, and the answers of
drop-outs are kept.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from drawbench.errors import RefusedError, StudyError, command_line
from drawbench.store import statements
from drawbench.store.database import Database, open_database
from drawbench.store.hands import KEPT_UNTIL, Hands
from drawbench.store.pages import Place, by_model, place_of
from drawbench.store.platform_ids import clean_platform_id
from drawbench.store.registration import document_sha256, register
from drawbench.store.statements import Outcome
from drawbench.store.tables import (
    CellRow,
    HistoryRow,
    ItemRow,
    RaterRow,
    ReportRow,
    StudyRow,
    VoteRow,
)
from drawbench.study.folder import DOCUMENT, Item, Study
from evalkit.core.errors import MissingDataError

TOKEN_BYTES = 16
MAX_REASON = 1000

RaterState = Literal["invited", "active", "finished", "lapsed"]


@dataclass(frozen=True, kw_only=True)
class Rater:
    """A rater as the rest of the program sees them, without the token."""

    id: int
    name: str
    number: int
    block: str | None
    state: RaterState
    """`lapsed` raters were inactive for too long; `invited` ones have not consented yet."""
    num_assigned: int
    completion_code: str
    simulated: bool
    external_id: str | None


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A new rater and the token of their personal link, which is not stored."""

    rater: Rater
    token: str


@dataclass(frozen=True, kw_only=True)
class Released:
    """What a study got back from raters who are away."""

    num_raters: int
    num_pages: int
    num_invitations: int


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The effect of a submitted vote."""

    outcome: Outcome
    item_done: bool
    hand_done: bool


class Store:
    """The votes of one study. Open one with `open_store`.

    Args:
        study: The study.
        database: Its database.
        clock: Returns seconds since 1970; tests set their own.
    """

    def __init__(
        self, study: Study, database: Database, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.study = study
        self.database = database
        self.clock = clock
        with database.reading() as session:
            row = session.scalar(select(StudyRow).where(StudyRow.uid == study.document.uid))
            if row is None:
                raise MissingDataError(
                    f"{database.name} does not contain the study in {study.path}. Give the "
                    "database it was made with, or register it with: "
                    + self.command("upgrade", study.path)
                )
            if row.document_sha256 != document_sha256(study):
                raise StudyError(
                    f"{study.path / DOCUMENT} was changed after raters were assigned. Restore it "
                    "or make a new study."
                )
            self.study_id = row.id
            items = session.execute(
                select(ItemRow.id, ItemRow.name).where(ItemRow.study_id == row.id)
            ).all()
        self.items: Mapping[int, Item] = {number: study.items[name] for number, name in items}
        self.hands = Hands(study, self.study_id, self.items, clock)

    # Joining and coming back

    def join(
        self, *, external_id: str = "", block: str | None = None, simulated: bool = False
    ) -> Joined:
        """Add a rater who gave consent, and assign items to them.

        Args:
            external_id: Their id on a crowd platform; one person joins once.
            block: The block to assign; None takes the one with the fewest ratings.
            simulated: Whether the rater is simulated.

        Raises:
            RefusedError: The study is full or its places are kept for invited raters, or this
                external id has joined before or can't be one.
        """
        self._refuse_strange_block(block)
        external_id = self._checked_id(external_id)
        token = secrets.token_hex(TOKEN_BYTES)
        try:
            with self.database.writing() as session:
                rater = self._add_rater(session, token, external_id, block, simulated)
                self.hands.hand_out(session, rater)
                return Joined(rater=self.view(rater), token=token)
        except IntegrityError as error:
            raise RefusedError(self.study.texts.errors.joined_before) from error

    def invite(
        self, *, external_id: str = "", block: str | None = None, simulated: bool = False
    ) -> Joined:
        """Make a personal link; its items are assigned when the rater consents.

        A place is kept for the rater until then, or until `release`.

        Raises:
            RefusedError: A rater with this external id exists.
        """
        self._refuse_strange_block(block)
        external_id = self._checked_id(external_id)
        token = secrets.token_hex(TOKEN_BYTES)
        try:
            with self.database.writing() as session:
                rater = self._add_rater(session, token, external_id, block, simulated)
                rater.lease_until = KEPT_UNTIL
                return Joined(rater=self.view(rater), token=token)
        except IntegrityError as error:
            raise RefusedError(
                f"A rater with the external id {external_id!r} was invited before. Invite each "
                "person once."
            ) from error

    def accept(self, rater_id: int) -> Rater:
        """Store the consent of an invited rater and assign their items; a repeat changes nothing.

        Raises:
            RefusedError: The study is full.
        """
        with self.database.writing() as session:
            self._lock_study(session)
            rater = self._rater(session, rater_id)
            if rater.consented_at is None:
                self.hands.hand_out(session, rater)
            return self.view(rater)

    def come_back(self, external_id: str) -> Joined | None:
        """Make a new personal link for the rater with an id of a crowd platform.

        The link that the rater had before stops working. Someone who was invited with the id has
        consented with this.

        Returns:
            The rater, or None if nobody has the id.

        Raises:
            RefusedError: It can't be an id, or the study is full.
        """
        external_id = self._checked_id(external_id)
        if not external_id:
            return None
        with self.database.writing() as session:
            self._lock_study(session)
            rater = session.scalar(
                select(RaterRow).where(
                    RaterRow.study_id == self.study_id, RaterRow.external_id == external_id
                )
            )
            if rater is None:
                return None
            if rater.consented_at is None:
                self.hands.hand_out(session, rater)
            return self._link(rater)

    def relink(self, rater_id: int) -> Joined:
        """Make a new personal link for a rater; the old one stops working.

        Raises:
            RefusedError: There is no such rater.
        """
        with self.database.writing() as session:
            return self._link(self._rater(session, rater_id))

    def _link(self, rater: RaterRow) -> Joined:
        token = secrets.token_hex(TOKEN_BYTES)
        rater.token_sha256 = hash_token(token)
        return Joined(rater=self.view(rater), token=token)

    def release(self, *, idle_s: float, invitations: bool = False) -> Released:
        """Free the pages of raters who are away, without waiting for the end of their time.

        Their answers are kept, and whoever comes back gets pages that are still free.

        Args:
            idle_s: Raters who joined, came back or answered within this time keep their pages.
            invitations: Also keep no more places for invitations that nobody has used; their links
                stay valid as long as there are places.
        """
        now = self.clock()
        with self.database.writing() as session:
            self._lock_study(session)
            of_study = RaterRow.study_id == self.study_id
            away = session.execute(
                update(RaterRow)
                .where(
                    of_study,
                    RaterRow.consented_at.is_not(None),
                    RaterRow.finished_at.is_(None),
                    RaterRow.lease_until > now - 1,
                    RaterRow.lease_until <= now + self.hands.lease_s - idle_s,
                )
                .values(lease_until=now - 1)
                .returning(RaterRow.id)
            ).all()
            unused = (
                session.execute(
                    update(RaterRow)
                    .where(of_study, RaterRow.consented_at.is_(None), RaterRow.lease_until >= now)
                    .values(lease_until=0.0)
                    .returning(RaterRow.id)
                ).all()
                if invitations
                else []
            )
            num_pages = self.hands.release_lapsed(session)
        return Released(num_raters=len(away), num_pages=num_pages, num_invitations=len(unused))

    def find_rater(self, token: str) -> Rater | None:
        """Return the rater of a personal link, or None."""
        with self.database.reading() as session:
            row = session.scalar(
                select(RaterRow).where(
                    RaterRow.study_id == self.study_id, RaterRow.token_sha256 == hash_token(token)
                )
            )
            return None if row is None else self.view(row)

    def resume(self, rater_id: int) -> Rater:
        """Renew a rater's lease, and reassign their former items that are still free."""
        with self.database.writing() as session:
            self._lock_study(session)
            rater = self._rater(session, rater_id)
            if rater.consented_at is not None and rater.finished_at is None:
                rater.lease_until = self.clock() + self.hands.lease_s
                self.hands.regain(session, rater)
            return self.view(rater)

    # Rating

    def hand(self, rater_id: int) -> list[Place]:
        """Return a rater's pages in order: practice first, then items and checks."""
        with self.database.reading() as session:
            cells = session.scalars(
                select(CellRow).where(CellRow.rater_id == rater_id).order_by(CellRow.position)
            ).all()
            votes = session.execute(
                select(VoteRow.item_id, VoteRow.question, VoteRow.answer).where(
                    VoteRow.rater_id == rater_id
                )
            ).all()
        answers: dict[int, dict[str, str]] = {}
        for item_id, question, answer in votes:
            answers.setdefault(item_id, {})[question] = answer
        return [self.place(cell, answers.get(cell.item_id, {})) for cell in cells]

    def submit(
        self,
        rater_id: int,
        cell_id: int,
        question_id: str,
        shown: str,
        *,
        response_s: float | None = None,
        images_missing: int | None = None,
    ) -> Submission:
        """Store one answer.

        Args:
            rater_id: The rater who answers.
            cell_id: The page; it must be assigned to the rater.
            question_id: The question.
            shown: The answer by side: `first`, `tie`, `second`, or the answer about a single set.
            response_s: Seconds since the images were shown.
            images_missing: Images of the page that could not be shown; None if unknown.

        Returns:
            `recorded`, `changed` (it replaced another answer, which stays in the history) or
            `unchanged` (the same answer was stored); and whether item and hand are done now.

        Raises:
            RefusedError: The page is not assigned to the rater (any more), or the answer was not
                offered.
        """
        now = self.clock()
        with self.database.writing() as session:
            # Plain statements: this is the one step in which raters wait for one another.
            connection = session.connection()
            cell = statements.layout(connection, study_id=self.study_id, cell_id=cell_id)
            if cell is None or cell.rater_id != rater_id:
                raise RefusedError(self.study.texts.errors.page_lost)
            item = self.items[cell.item_id]
            self._refuse_strange_answer(item, question_id, shown)
            before = statements.votes_on_item(connection, rater_id=rater_id, item_id=cell.item_id)
            vote = {
                "rater_id": rater_id,
                "item_id": cell.item_id,
                "cell_id": cell_id,
                "question": question_id,
                "answer": by_model(item, shown, cell.a_first),
                "shown": shown,
                "a_first": cell.a_first,
                "position": cell.position or 0,
                "response_s": response_s,
                "answered_at": now,
                "images_missing": images_missing,
            }
            outcome = statements.write_vote(connection, vote, before.get(question_id))
            statements.renew_lease(connection, rater_id=rater_id, until=now + self.hands.lease_s)
            item_done = len({*before, question_id}) == len(self.study.questions(item))
            if item_done and cell.done_at is None:
                statements.mark_done(connection, cell_id=cell_id, now=now)
            hand_done = item_done and statements.finish_if_done(
                connection, rater_id=rater_id, now=now
            )
            return Submission(outcome=outcome, item_done=item_done, hand_done=hand_done)

    def undo(self, rater_id: int) -> int | None:
        """Undo the rater's last vote: the last in the history, whatever the clock has done.

        Returns:
            The cell that is open again, or None if there is no vote to undo.
        """
        with self.database.writing() as session:
            vote = session.scalar(
                select(VoteRow)
                .join(CellRow, CellRow.id == VoteRow.cell_id)
                .join(
                    HistoryRow,
                    and_(
                        HistoryRow.rater_id == VoteRow.rater_id,
                        HistoryRow.item_id == VoteRow.item_id,
                        HistoryRow.question == VoteRow.question,
                    ),
                )
                .where(
                    VoteRow.rater_id == rater_id,
                    CellRow.rater_id == rater_id,
                    HistoryRow.event != "undo",
                )
                .order_by(HistoryRow.id.desc())
                .limit(1)
            )
            if vote is None:
                return None
            cell = self._own_cell(session, rater_id, vote.cell_id)
            rater = self._rater(session, rater_id)
            self._log(session, vote, "undo", self.clock())
            session.delete(vote)
            cell.done_at = None
            rater.finished_at = None
            rater.lease_until = self.clock() + self.hands.lease_s
            return cell.id

    def report(self, rater_id: int, cell_id: int, image_key: str, reason: str = "") -> None:
        """Store a rater's report of an image on one of their pages.

        Raises:
            RefusedError: The page is not assigned to the rater, or does not show this image.
        """
        with self.database.writing() as session:
            cell = self._own_cell(session, rater_id, cell_id)
            place = self.place(cell, {})
            if image_key not in (*place.first, *place.second):
                raise RefusedError(
                    f"The reported image {image_key!r} is not on page {cell_id}. Report an image "
                    "of the page that shows it."
                )
            session.add(
                ReportRow(
                    rater_id=rater_id,
                    item_id=cell.item_id,
                    image_key=image_key,
                    reason=reason[:MAX_REASON],
                    at=self.clock(),
                )
            )

    def withdraw(self, rater_id: int) -> None:
        """Delete a rater with all their data; their items go to others.

        Raises:
            RefusedError: There is no such rater.
        """
        with self.database.writing() as session:
            study = self._lock_study(session)
            self._rater(session, rater_id)
            for table in (VoteRow, HistoryRow, ReportRow):
                session.execute(delete(table).where(table.rater_id == rater_id))
            session.execute(
                delete(CellRow).where(CellRow.rater_id == rater_id, CellRow.slot.is_(None))
            )
            session.execute(
                update(CellRow)
                .where(CellRow.rater_id == rater_id)
                .values(rater_id=None, position=None, done_at=None)
            )
            session.execute(delete(RaterRow).where(RaterRow.id == rater_id))
            study.num_withdrawn += 1

    def rater_named(self, name: str) -> Rater:
        """Return the rater with a name from the exports, or with an external id.

        Raises:
            RefusedError: There is no such rater.
        """
        name = name.strip()
        with self.database.reading() as session:
            row = session.scalar(
                select(RaterRow).where(
                    RaterRow.study_id == self.study_id,
                    or_(RaterRow.name == name, RaterRow.external_id == name),
                )
            )
            if row is None:
                listing = ("export", self.study.path, "--as", "raters", "--out", "raters.csv")
                raise RefusedError(
                    f"This study has no rater {name!r}. List its raters with: "
                    + self.command(*listing)
                )
            return self.view(row)

    def command(self, *words: object) -> str:
        """Return a command of `evalkit drawbench` that opens these votes, for a hint."""
        is_default = self.database.url == self.study.default_database
        database = "" if is_default else self.database.name
        return command_line("evalkit", "drawbench", *words, database=database)

    # Inside

    def _lock_study(self, session: Session) -> StudyRow:
        """Let one transaction at a time assign cells (SQLite has locked everything already)."""
        return session.execute(
            select(StudyRow).where(StudyRow.id == self.study_id).with_for_update()
        ).scalar_one()

    def _rater(self, session: Session, rater_id: int) -> RaterRow:
        row = session.get(RaterRow, rater_id)
        if row is None or row.study_id != self.study_id:
            raise RefusedError(self.study.texts.errors.not_in_study)
        return row

    def view(self, row: RaterRow) -> Rater:
        """Return what the rest of the program sees of a row."""
        state: RaterState = "active" if row.lease_until >= self.clock() else "lapsed"
        if row.consented_at is None:
            state = "invited"
        elif row.finished_at is not None:
            state = "finished"
        return Rater(
            id=row.id,
            name=row.name,
            number=row.number,
            block=row.block,
            state=state,
            num_assigned=row.num_assigned,
            completion_code=row.completion_code,
            simulated=row.simulated,
            external_id=row.external_id,
        )

    def _refuse_strange_block(self, block: str | None) -> None:
        if block is not None and block not in self.study.blocks:
            raise RefusedError(
                f"The study has no block {block!r}. Known: {', '.join(self.study.blocks)}."
            )

    def _checked_id(self, external_id: str) -> str:
        cleaned = clean_platform_id(external_id)
        if cleaned is None:
            raise RefusedError(self.study.texts.errors.bad_platform_id)
        return cleaned

    def _add_rater(
        self, session: Session, token: str, external_id: str, block: str | None, simulated: bool
    ) -> RaterRow:
        study = self._lock_study(session)
        study.num_joined += 1
        rater = RaterRow(
            study_id=self.study_id,
            name=f"r-{secrets.token_hex(6)}",
            token_sha256=hash_token(token),
            external_id=external_id or None,
            number=study.num_joined,
            block=block,
            num_assigned=0,
            created_at=self.clock(),
            consented_at=None,
            lease_until=0.0,
            finished_at=None,
            completion_code=self.study.config.completion_code or secrets.token_hex(4).upper(),
            simulated=simulated,
            platform_status="",
        )
        session.add(rater)
        session.flush()
        return rater

    def _own_cell(self, session: Session, rater_id: int, cell_id: int) -> CellRow:
        cell = session.execute(
            select(CellRow)
            .where(CellRow.id == cell_id, CellRow.study_id == self.study_id)
            .with_for_update()
        ).scalar_one_or_none()
        if cell is None or cell.rater_id != rater_id:
            raise RefusedError(self.study.texts.errors.page_lost)
        return cell

    def _refuse_strange_answer(self, item: Item, question_id: str, shown: str) -> None:
        for question in self.study.questions(item):
            if question.id == question_id:
                if shown in [answer.value for answer in question.answers]:
                    return
                break
        raise RefusedError(self.study.texts.errors.not_offered)

    def _log(self, session: Session, vote: VoteRow, event: str, at: float) -> None:
        session.add(
            HistoryRow(
                rater_id=vote.rater_id,
                item_id=vote.item_id,
                question=vote.question,
                event=event,
                shown=vote.shown,
                response_s=vote.response_s,
                at=at,
            )
        )

    def place(self, cell: CellRow, answers: Mapping[str, str]) -> Place:
        """Return a cell as its rater sees it, with answers by place."""
        return place_of(self.study, self.items[cell.item_id], cell, answers)


def open_store(
    study: Study,
    url: str = "",
    *,
    create: bool = False,
    clock: Callable[[], float] = time.time,
) -> Store:
    """Open the votes of a study.

    Args:
        study: The study.
        url: Its database; empty takes the SQLite file in the study's folder.
        create: Create the database, its tables and the study's cells where they are missing.
        clock: Seconds since 1970.

    Raises:
        StoreError, NewerSchemaError, MissingDataError: See `open_database`.
        StudyError: The study was changed after its cells were made.
    """
    url = url or study.default_database
    database = open_database(url, create=create)
    if create:
        register(study, database, clock())
    return Store(study, database, clock=clock)


def hash_token(token: str) -> str:
    """Return the hash that is stored instead of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
