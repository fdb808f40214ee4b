"""The tables of the vote store. `migrations/` makes them; a test compares the two.

Times are seconds since 1970 (UTC). Tokens are kept as SHA-256 only: they are 128 random bits, so a
plain hash can't be turned back.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Names every constraint, so that a migration can change it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class StudyRow(Base):
    """A study; one database can hold several."""

    __tablename__ = "study"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    document_sha256: Mapped[str] = mapped_column(String(64))
    """Hash of the study.json that the cells were made from."""
    created_at: Mapped[float] = mapped_column(Double)
    num_joined: Mapped[int] = mapped_column(Integer, default=0)
    """How many raters ever joined; gives each its running number."""
    num_withdrawn: Mapped[int] = mapped_column(Integer, default=0)


class ItemRow(Base):
    """What is shown on one page."""

    __tablename__ = "item"
    __table_args__ = (UniqueConstraint("study_id", "name"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    name: Mapped[str] = mapped_column(String(300))
    block: Mapped[str] = mapped_column(String(300))


class RaterRow(Base):
    """Somebody who gave consent, or was invited to."""

    __tablename__ = "rater"
    __table_args__ = (
        UniqueConstraint("study_id", "name"),
        UniqueConstraint("study_id", "external_id", name="uq_rater_external_id"),
        # Numbers of withdrawn raters must not come back: a forgotten tab could vote for the next
        # one.
        {"sqlite_autoincrement": True},
    )
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    name: Mapped[str] = mapped_column(String(40))
    """Random name that stands in exports."""
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    external_id: Mapped[str | None] = mapped_column(String(200))
    """Number on a crowd platform, where there is one."""
    number: Mapped[int] = mapped_column(Integer)
    """Running number, from which orders are drawn."""
    block: Mapped[str | None] = mapped_column(String(300))
    """The block they work on, or are invited to; None lets the study choose."""
    num_assigned: Mapped[int] = mapped_column(Integer, default=0)
    """Rated items given to them when they joined."""
    created_at: Mapped[float] = mapped_column(Double)
    consented_at: Mapped[float | None] = mapped_column(Double)
    lease_until: Mapped[float] = mapped_column(Double)
    """From when on their open items may go to others."""
    finished_at: Mapped[float | None] = mapped_column(Double)
    completion_code: Mapped[str] = mapped_column(String(80))
    simulated: Mapped[bool] = mapped_column(Boolean, default=False)
    platform_status: Mapped[str] = mapped_column(String(40), default="")
    """What a crowd platform says of them, such as "approved"; empty where nothing was read."""


class CellRow(Base):
    """One rating of one item that the study wants, and how it is laid out."""

    __tablename__ = "cell"
    __table_args__ = (
        UniqueConstraint("item_id", "slot", name="uq_cell_slot"),
        UniqueConstraint("rater_id", "item_id", name="uq_cell_rater"),
        Index("ix_cell_study_rater", "study_id", "rater_id"),
    )
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    slot: Mapped[int | None] = mapped_column(Integer)
    """Which rating of the item this is; None for practice and checks, made for one rater."""
    a_first: Mapped[bool] = mapped_column(Boolean)
    """Whether model A is shown as set A."""
    order_a: Mapped[str] = mapped_column(String(400))
    """Sample indices of model A as they are laid out, with blanks between."""
    order_b: Mapped[str] = mapped_column(String(400))
    rater_id: Mapped[int | None] = mapped_column(ForeignKey("rater.id"))
    """Who has it; None while it is open."""
    position: Mapped[int | None] = mapped_column(Integer)
    """Where it stands in the rater's order."""
    done_at: Mapped[float | None] = mapped_column(Double)
    """When the last question was answered."""


class VoteRow(Base):
    """The answer that holds, for a rater, an item and a question."""

    __tablename__ = "vote"
    __table_args__ = (UniqueConstraint("rater_id", "item_id", "question", name="uq_vote_once"),)
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"))
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    cell_id: Mapped[int] = mapped_column(ForeignKey("cell.id"))
    """The layout that was seen; the cell itself may since have gone to another rater."""
    question: Mapped[str] = mapped_column(String(40))
    answer: Mapped[str] = mapped_column(String(40))
    """`a`, `tie` or `b` by model for a pair; the answer itself for a single set."""
    shown: Mapped[str] = mapped_column(String(40))
    """What was clicked: `first`, `tie`, `second`, or the answer."""
    a_first: Mapped[bool] = mapped_column(Boolean)
    position: Mapped[int] = mapped_column(Integer)
    response_s: Mapped[float | None] = mapped_column(Double)
    """Seconds from showing the item to this answer."""
    answered_at: Mapped[float] = mapped_column(Double)
    num_changes: Mapped[int] = mapped_column(Integer, default=0)


class HistoryRow(Base):
    """Every vote, change of mind and undo, in the order they came."""

    __tablename__ = "history"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    question: Mapped[str] = mapped_column(String(40))
    event: Mapped[str] = mapped_column(String(10))
    """`vote`, `change` or `undo`."""
    shown: Mapped[str] = mapped_column(String(40))
    response_s: Mapped[float | None] = mapped_column(Double)
    at: Mapped[float] = mapped_column(Double)


class ReportRow(Base):
    """An image that a rater reported."""

    __tablename__ = "report"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("rater.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    image_key: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Double)
